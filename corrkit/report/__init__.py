"""Reports: finished runs as one HTML file that opens offline, with tables, curves, pictures and what went wrong."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from corrkit.errors import UsageError
from corrkit.files.atomic import write_atomic
from corrkit.pages import page
from corrkit.report.figures import save_figures
from corrkit.report.opening import open_run
from corrkit.report.sections import clip_figures, sections
from corrkit.runs.comparable import read_runs
from corrkit.tasks.roots import require_outside_data

if TYPE_CHECKING:
    from PIL import Image


def _silent(_: str) -> None:
    pass


def write_report(
    folders: Sequence[Path],
    out: Path,
    *,
    data: str | Path | None = None,
    figures: Path | None = None,
    with_features: bool = True,
    trusted: bool = False,
    say: Callable[[str], None] = _silent,
) -> tuple[str, ...]:
    """Writes a report on finished runs.

    Args:
        folders: run folders, or folders that hold such below them; those of one protocol and data share a section.
        out: the HTML file.
        data: the data root, for runs of one task; None takes the one that each run recorded.
        figures: a folder for the figures as PNG; made where it isn't there.
        with_features: runs each network on its worst clip, to show features and matches.
        trusted: the runs are one's own, so that networks which they name as code (py:) or on a hub (hf:) are loaded.
        say: takes a line on what is being done.

    Returns:
        A sentence on each run that was left out, or is shown without pictures.

    Raises:
        RunError: no folder holds a finished run, or one of another version. UsageError: a place that can't be written.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{out} has no suffix of a page.", "Name it FILE.html.")
    for target in (out, *([figures] if figures else [])):
        require_outside_data(target, data)
    runs, notes = read_runs(folders)
    opened = [open_run(run, data, trusted=trusted) for run in runs]
    notes += [f"no pictures of {one.run.folder}: {one.lacking}" for one in opened if one.lacking]
    found = sections(opened, with_features=with_features, say=say)
    methods = list(dict.fromkeys(method for section in found for method in section.methods))
    title = f"{', '.join(methods)}: corrkit report"
    write_atomic(out, page("report.html", title=title, methods=methods, sections=found))
    if figures is not None:
        save_figures([figure for section in found for figure in section.figures], figures)
    return tuple(notes)


def stills(folder: Path) -> "dict[str, Image.Image]":
    """Pictures of a finished run, to be logged or shown: "best-strip", "worst-strip", "worst-METHOD-frames", ...

    Truth above the prediction on frames of the best, median and worst clip, and their scores by frame. Clips without
    kept predictions, or whose data are no longer there, have curves alone.

    Raises:
        RunError: the folder holds no finished run, or one of another version.
    """
    (run,), _ = read_runs([folder])
    drawn = clip_figures(open_run(run, None))
    return {figure.name: figure.still for figure in drawn if figure.drawing or len(figure.pictures) == 1}
