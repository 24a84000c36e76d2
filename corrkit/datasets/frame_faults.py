"""Faults of one clip's frames, and files that don't belong into its folders."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from corrkit.datasets.faults import RESTORE, Fault, FaultGroup
from corrkit.datasets.manifest import ManifestClip
from corrkit.errors import DataError
from corrkit.frames.pictures import SUFFIXES, read_image
from corrkit.tasks.jhmdb_layout import ClipFiles

_CACHE = re.compile(r".+_(onehot|size\d+x\d+)\.npy")
"""Label caches that published code leaves beside the labels (ajabri/videowalk 047f3f4 code/data/vos.py:247-263)."""


def read_sizes(paths: Sequence[Path]) -> dict[Path, tuple[int, int] | str]:
    """Decodes every frame: its (height, width), or why it can't be decoded."""
    sizes: dict[Path, tuple[int, int] | str] = {}
    for path in paths:
        try:
            height, width = read_image(path).shape[:2]
            sizes[path] = height, width
        except DataError as error:
            sizes[path] = error.problem.rstrip(".")
    return sizes


def frame_size_faults(
    sizes: Mapping[Path, tuple[int, int] | str], files: ClipFiles, expected: ManifestClip | None, root: Path
) -> Iterator[Fault]:
    """Frames that can't be decoded, or are of another size than the manifest says, or than the clip's first frame."""
    damaged = FaultGroup("damaged", files.name, "frame that can't be decoded", RESTORE, root)
    misfits = FaultGroup("damaged", files.name, "frame of another size", RESTORE, root)
    size = (expected.height, expected.width) if expected and expected.height and expected.width else None
    for path, found in sizes.items():
        if isinstance(found, str):
            damaged.add(path, found)
            continue
        size = size or found
        if found != size:
            misfits.add(path, f"{found[1]}x{found[0]} instead of {size[1]}x{size[0]}")
    yield from damaged.faults()
    yield from misfits.faults()


def number_faults(
    paths: Sequence[Path], files: ClipFiles, expected: ManifestClip | None, root: Path
) -> Iterator[Fault]:
    """Frames that are missing, beyond the manifest's, or there twice (00000.jpg and 00000.png)."""
    stems = Counter(path.stem for path in paths)
    suffixes = Counter(path.suffix for path in paths)
    twice = [path for path in paths if stems[path.stem] > 1 and path.suffix != suffixes.most_common(1)[0][0]]
    remedy = "Keep one of them."
    yield from FaultGroup("surplus", files.name, "second file of one frame", remedy, root).extend(twice).faults()
    if not paths:
        yield from FaultGroup("missing", files.name, "all frames", RESTORE, root).extend([files.frames]).faults()
        return
    names = expected.stems() if expected else None
    if names is not None:
        known = set(names)
        missing = [files.frames / f"{stem}{paths[0].suffix}" for stem in names if stem not in stems]
        beyond = [path for path in paths if path.stem not in known]
        yield from FaultGroup("missing", files.name, "frame missing", RESTORE, root).extend(missing).faults()
        remedy = "Move it away: the data set's clip ends before it."
        yield from FaultGroup("surplus", files.name, "frame beyond the clip's", remedy, root).extend(beyond).faults()
    elif expected and expected.num_frames not in {None, len(stems)}:
        lacks = len(stems) < (expected.num_frames or 0)
        problem = f"{len(stems)} frames, the manifest says {expected.num_frames}"
        yield Fault(kind="missing" if lacks else "surplus", clip=files.name, problem=problem, remedy=RESTORE)


def surplus_files(files: ClipFiles, root: Path) -> Iterator[Fault]:
    """Files that no reader takes for a frame or annotation, label caches apart, and links to nothing."""
    cache_remedy = "Delete it: code that finds it reads it instead of the label, whatever size it was made for."
    caches = FaultGroup("surplus", files.name, "label cache of another tool", cache_remedy, root)
    strangers = FaultGroup("surplus", files.name, "unknown file", "Move it away.", root)
    dangling = FaultGroup("missing", files.name, "link to nothing", "Restore what it points to.", root)
    is_file = bool(files.annotation.suffix) and not files.annotation.is_dir()
    annotations = files.annotation.parent if is_file else files.annotation
    suffixes = (files.annotation.suffix,) if is_file else (".png",)
    for folder, known in ((files.frames, SUFFIXES), (annotations, suffixes)):
        for path in sorted(folder.iterdir(), key=lambda path: path.name) if folder.is_dir() else ():
            if path.is_symlink() and not path.exists():
                dangling.add(path)
            elif _CACHE.fullmatch(path.name):
                caches.add(path)
            elif not path.name.startswith(".") and (path.suffix.lower() not in known or path.is_dir()):
                strangers.add(path)
    for group in (caches, strangers, dangling):
        yield from group.faults()
