"""What a sweep writes beside the run folders of its settings."""

from pathlib import Path

from corrkit.files.atomic import write_atomic
from corrkit.files.jsontext import to_json
from corrkit.report.charts import painted, svg_file
from corrkit.report.pictures import png
from corrkit.sweeping.figure import heat_map
from corrkit.sweeping.running import Sweep
from corrkit.sweeping.table import sweep_csv, sweep_plain


def write_sweep(sweep: Sweep, folder: Path) -> None:
    """Writes sweep.svg, sweep.png, sweep.csv and, last, sweep.json, each whole. Raises RunError where that fails."""
    drawing = heat_map(sweep)
    write_atomic(folder / "sweep.svg", svg_file(drawing, "Scores of all settings as a heat map"))
    write_atomic(folder / "sweep.png", png(painted(drawing)))
    write_atomic(folder / "sweep.csv", sweep_csv(sweep))
    write_atomic(folder / "sweep.json", to_json(sweep_plain(sweep)))
