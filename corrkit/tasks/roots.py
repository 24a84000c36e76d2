"""What all disk layouts share: a root that holds the layout one folder lower, lists of clips, and clips' names."""

import itertools
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

from corrkit.documentation import see
from corrkit.errors import DataError, UsageError
from corrkit.files.reading import entries, is_folder, is_plain_name, is_there, ordered, read_file
from corrkit.frames.pictures import SUFFIXES

_LARGEST_LIST = 1 << 24
_MAX_WRAPPING = 2  # folders around the data that are passed
_LONGEST_NAME = 255
_SHOWN = 100  # characters of a list's line in a message
_SIDE_FOLDERS = ("__MACOSX", "@eaDir", "lost+found")


def find_root(root: Path, *, task: str, is_root: Callable[[Path], bool], expected: str) -> tuple[Path, tuple[str, ...]]:
    """`root` where it is in the task's layout, else the first folder below it that is: never one above it.

    A folder of the user's own inside a data set would otherwise be scored as that data set.

    Args:
        root: where the user points to.
        task: name of the layout, for the message.
        is_root: whether a folder is in the layout.
        expected: the tree, for the message.

    Returns:
        The folder, and a note where it had to be found, with what else was.

    Raises:
        DataError: where none is, with the expected tree.
    """
    if not is_folder(root):
        reason = "is not a folder" if is_there(root) else "does not exist"
        raise DataError(f"The data root {root} {reason}.", "Correct --data, or unset $CORRKIT_DATA.")
    if is_root(root):
        return root, ()
    found = [folder for folder in folders_below(root) if is_root(folder)]
    if found:
        others = f" So are {', '.join(map(str, found[1:]))}." if len(found) > 1 else ""
        return found[0], (f"{root} is not in {task} layout: {found[0]} is, and was taken.{others}",)
    above = [folder for folder in (root.parent, root.parent.parent) if folder != root and is_root(folder)]
    hint = f"{above[0]}, which it lies in, is: name that if it is meant. " if above else ""
    raise DataError(
        f"{root} is not in {task} layout: neither it nor a folder in it holds it.",
        f"{hint}Expected: {expected}; {see('data')}.",
    )


def require_outside_data(target: str | Path, *roots: str | Path | None, parts: Sequence[str] = ()) -> None:
    """Nothing is written inside a data set.

    Folders are compared as the system knows them, not by their names: a data set may be mounted at a second place, and
    names that differ in case may be one folder.

    Args:
        target: file or folder that is to be written.
        roots: of the data that are read; folders in one of the three layouts are recognised without.
        parts: folders in the target that are filled; the target itself may hold data.

    Raises:
        UsageError: where the target is a data root or lies in one, or where one of its parts holds one.
    """
    # Not Path.resolve, which fails on links that lead to themselves.
    place = Path(os.path.realpath(target))
    known = [Path(os.path.realpath(root)) for root in roots if isinstance(root, str | Path)]
    for folder in (place, *place.parents):
        if any(_are_one_folder(folder, root) for root in known) or _looks_like_data(folder):
            raise UsageError(
                f"{target} lies inside the data set {folder}.", "Data sets are never written to: choose another place."
            )
    for part, root in itertools.product(parts, known):
        if any(_are_one_folder(place / part, folder) for folder in (root, *root.parents)):
            raise UsageError(
                f"{Path(target) / part} would be filled, and the data set {root} lies there.",
                "Data sets are never written to: choose another place.",
            )


def _are_one_folder(one: Path, other: Path) -> bool:
    try:
        return is_folder(one) and one.samefile(other)
    except OSError:
        return False


def _looks_like_data(folder: Path) -> bool:
    return any(
        all(is_folder(folder / name) for name in names)
        for names in (("JPEGImages", "Annotations"), ("Images", "Annotations"), ("Rename_Images", "joint_positions"))
    )


def list_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank, stripped; a byte order mark is ignored. Raises DataError."""
    try:
        text = read_file(path, largest=_LARGEST_LIST).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(
            f"{path} is no list of clips: it is not UTF-8 text.", "Restore it, or save it as UTF-8."
        ) from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def clips_of_list(path: Path) -> list[str]:
    """Folder names of the clips that a list names, each once, in order.

    A line is CLIP, FOLDERS/CLIP or FOLDERS/CLIP/00000.jpg, with or without a slash behind it or a second column.

    Raises:
        DataError: for a list that names none, or quoting a line that names none.
    """
    names = list(dict.fromkeys(_clip_of_line(line, path) for line in list_lines(path)))
    if not names:
        raise DataError(f"{path} names no clip.", "Choose another --split or restore the list.")
    return names


def unreadable_line(path: Path, line: str, expected: str) -> DataError:
    """A list's line that can't be what it should be, quoted."""
    shown = line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."
    return DataError(f"{path} has the line {shown!r}, which is not {expected}.", "Correct or remove the line.")


def clip_folders(folder: Path, beside: Path) -> tuple[list[str], list[str]]:
    """Names of a folder's clips by name, and a note on what was left out: hidden folders, and empty ones.

    Args:
        folder: of clips of annotations.
        beside: of clips of frames; a clip that has frames but no annotation is not left out in silence.
    """
    names: list[str] = []
    litter: list[str] = []
    for path in sorted((path for path in entries(folder) if is_folder(path)), key=lambda path: path.name):
        is_empty = not any(map(_visible, (*entries(path), *entries(beside / path.name))))
        (names if _visible(path) and not is_empty else litter).append(path.name)
    shown = f"{', '.join(repr(shown_name(name)) for name in litter[:5])}{', ...' if len(litter) > 5 else ''}"
    return names, [f"{len(litter)} hidden or empty folder(s) of {folder} are left out: {shown}."] if litter else []


def shown_name(name: str) -> str:
    r"""A file's name as text that can be written anywhere: bytes that are no UTF-8 become \xNN, lines are cut."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return text if len(text) <= _LONGEST_NAME else f"{text[:_SHOWN]}...({len(text)} characters)"


def unlisted_folders(parents: Iterable[Path], known: Collection[str]) -> Iterator[Path]:
    """Clip folders that `known` doesn't name, by name, hidden ones left out."""
    for parent in parents:
        for folder in sorted(entries(parent), key=lambda path: path.name):
            if is_folder(folder) and not folder.name.startswith(".") and folder.name not in known:
                yield folder


def named_in_lists(paths: Iterable[Path]) -> set[str]:
    """Every part of every line of list files; names with spaces are parts, and so is each of their words."""
    lines = [line for path in paths for line in list_lines(path)]
    return {part for line in lines for pattern in (r"[/\s]+", r"[/\t]+") for part in re.split(pattern, line)}


def stray_caches(folders: Iterable[Path]) -> list[str]:
    """A note on label caches of other tools in clip folders (ajabri/videowalk 047f3f4 code/data/vos.py:247-263)."""
    strays = [path for folder in folders for clip in entries(folder) for path in entries(clip) if path.suffix == ".npy"]
    return [f"{len(strays)} .npy label caches of another tool are ignored, e.g. {strays[0]}."] if strays else []


def own_list(root: Path, split: str) -> Path | None:
    """The list of clips that `split` names by its path, in the root or from here; None where it is a split's name.

    Raises:
        DataError: where there is no such file.
    """
    if not split.endswith(".txt"):
        return None
    found = list_file(root, split)
    if found is None:
        raise DataError(f"There is no list {split}, nor one in {root}.", "Correct --split, or name a split.")
    return found


def list_file(root: Path, split: str) -> Path | None:
    """The text file that `split` names: a path, or a file of the root or its `lists` folder; None if there is none."""
    names = [split, f"{split}.txt", f"{split}_videos.txt"]
    candidates = [Path(split), *(folder / name for folder in (root / "lists", root) for name in names)]
    return next((path for path in candidates if path.suffix == ".txt" and is_there(path)), None)


def _clip_of_line(line: str, path: Path) -> str:
    first = line.split("\t")[0].strip().rstrip("/")
    if "/" in first:
        first = first.split()[0].rstrip("/")
    parts = [part for part in first.split("/") if part not in {"", "."}]
    if len(parts) > 1 and Path(parts[-1]).suffix.lower() in SUFFIXES:
        parts.pop()
    if not parts or not is_plain_name(parts[-1]):
        raise unreadable_line(path, line, "a clip's name")
    return parts[-1]


def folders_below(root: Path) -> Iterator[Path]:
    """Folders in a root, hidden ones left out; where there is only one, those in it, too (archives wrap data)."""
    folders = [root]
    for _ in range(_MAX_WRAPPING + 1):
        if len(folders) == 1:
            folders = [path for path in ordered(entries(folders[0])) if _visible(path) and is_folder(path)]
            yield from folders


def _visible(path: Path) -> bool:
    return not path.name.startswith(".") and path.name not in _SIDE_FOLDERS
