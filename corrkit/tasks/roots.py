"""What all disk layouts share: a root given one folder too high or too low, and text files that list clips."""

from collections.abc import Callable, Iterator
from pathlib import Path

from corrkit.errors import DataError


def find_root(root: Path, *, task: str, is_root: Callable[[Path], bool], expected: str) -> Path:
    """The first of `root`, its subfolders and its two parents that is in the task's layout.

    Args:
        root: where the user points to.
        task: name of the layout, for the message.
        is_root: whether a folder is in the layout.
        expected: the tree, for the message.

    Raises:
        DataError: where none is, with the expected tree.
    """
    if not root.exists():
        raise DataError(f"The data root {root} does not exist.", "Correct --data, or unset $CORRKIT_DATA.")
    for candidate in _candidates(root):
        if is_root(candidate):
            return candidate
    raise DataError(
        f"{root} is not in {task} layout: neither it, its subfolders nor its parents hold it.", f"Expected: {expected}"
    )


def list_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank, stripped; a byte order mark is ignored. Raises DataError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(
            f"{path} is no list of clips: it is not UTF-8 text.", "Restore it, or save it as UTF-8."
        ) from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def stray_caches(folder: Path) -> list[str]:
    """A note on label caches of other tools in clip folders (ajabri/videowalk 047f3f4 code/data/vos.py:247-263)."""
    strays = [path for clip in folder.iterdir() if clip.is_dir() for path in clip.iterdir() if path.suffix == ".npy"]
    return [f"{len(strays)} .npy label caches of another tool are ignored, e.g. {strays[0]}."] if strays else []


def list_file(root: Path, split: str) -> Path | None:
    """The text file that `split` names: a path, or a file of the root or its `lists` folder; None if there is none."""
    names = [split, f"{split}.txt", f"{split}_videos.txt"]
    candidates = [Path(split), *(folder / name for folder in (root / "lists", root) for name in names)]
    return next((path for path in candidates if path.suffix == ".txt" and path.is_file()), None)


def _candidates(root: Path) -> Iterator[Path]:
    yield root
    if root.is_dir():
        yield from sorted((path for path in root.iterdir() if path.is_dir()), key=lambda path: path.name)
    yield root.parent
    yield root.parent.parent
