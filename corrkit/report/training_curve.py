"""The scores of a training run's checkpoints over its steps."""

from collections.abc import Sequence
from pathlib import Path

from corrkit.evaluation import Result
from corrkit.files.atomic import make_folder, write_atomic
from corrkit.predictors.checkpoints import Place, place_of
from corrkit.report.charts import COLOURS, Curve, Drawing, curves, painted, svg_file
from corrkit.report.pictures import png
from corrkit.runs.results import override_text
from corrkit.task_table import task_facts


def training_curve(specs: Sequence[str], results: Sequence[Result]) -> Drawing | None:
    """The leading metric of one task over the steps in the checkpoints' names.

    Args:
        specs: the checkpoint of each result.
        results: of one task; a curve for each training run, layer, protocol and set of overrides.

    Returns:
        None where no training run has two steps.
    """
    points: dict[tuple[str, ...], dict[int, float]] = {}
    metric = task_facts(results[0].summary["task"]).leading.name
    for spec, result in zip(specs, results, strict=True):
        place, summary = place_of(spec), result.summary
        if place is not None:
            settings = summary["layer"] or "", summary["protocol"], override_text(summary)
            own = points.setdefault((_name(place), place.series, *settings), {})
            own[place.step] = summary["metrics"][metric]
    drawn = {key: dict(sorted(own.items())) for key, own in points.items() if len(own) > 1}
    if not drawn:
        return None
    shown = [
        Curve(name=name, x=[*own], y=[*own.values()], colour=COLOURS[number % len(COLOURS)])
        for number, (name, own) in enumerate(zip(_distinct([*drawn]), drawn.values(), strict=True))
    ]
    return curves(shown, f"step ({metric}, per cent)")


def write_curve(drawing: Drawing, folder: Path, name: str) -> Path:
    """Writes NAME.png and NAME.svg; the latter's place. Raises RunError where that fails."""
    make_folder(folder)
    write_atomic(folder / f"{name}.png", png(painted(drawing)))
    write_atomic(folder / f"{name}.svg", svg_file(drawing, "Scores over training steps"))
    return folder / f"{name}.svg"


def _name(place: Place) -> str:
    """The folder of the training run, or what its files begin with."""
    path = Path(place.series.rpartition("#")[0])
    return path.parent.name or path.name.rstrip("-_.") or "checkpoints"


def _distinct(keys: Sequence[tuple[str, ...]]) -> list[str]:
    """A name of each curve: its training run, and whatever else they differ in."""
    differing = [number for number in range(2, len(keys[0])) if len({key[number] for key in keys}) > 1]
    return [" ".join([key[0], *(key[number] for number in differing if key[number])]) for key in keys]
