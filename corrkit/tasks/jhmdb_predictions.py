"""Files of predicted joints: our own .npy, and the forms in which other methods' predictions come."""

import contextlib
import csv
import io
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corrkit.errors import CheckpointError, DataError
from corrkit.files.reading import is_there, read_file, require_regular
from corrkit.tasks.jhmdb_points import JOINTS, Points

Array = NDArray[Any]
_LARGEST = 1 << 26  # bytes of a file, and of what it unpacks to: 240 a frame


def write_joints(path: Path, index: int, num_frames: int, joints: Points) -> None:
    """Writes the joints [J, 2] of one frame into the .npy [T, J, 2] at `path`; frames not written yet are NaN.

    Raises:
        DataError: where the file can't be written.
    """
    shape = (num_frames, len(JOINTS), 2)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if index == 0 or not path.is_file():
            np.save(path, np.full(shape, np.nan))
        stored = np.lib.format.open_memmap(path, mode="r+")
        stored[index] = joints
        stored.flush()
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{path} can't be written ({error}).", "Free space or choose another --out.") from None


def read_joints(folder: Path, name: str, number: int, size: tuple[int, int], grid: tuple[int, int] | None) -> Points:
    """The predicted joints of a clip.

    Args:
        folder: holds CLIP.npy, CLIP.npz or CLIP.csv, or the published NUMBER.dat.
        name: of the clip.
        number: of the clip in its data set's order, from 0; names the .dat.
        size: (height, width) of the clip's frames in pixels.
        grid: (width, height) in cells that a .dat counts in.

    Returns:
        [T, J, 2] (x, y) float64 in 0-based pixels; NaN where a joint is invisible.

    Raises:
        DataError: for a missing or damaged file or another shape.
    """
    path = find_joints(folder, name, number)
    if path is not None:
        if path.suffix == ".dat":
            return from_cells(read_dat(path), path, size, grid)
        return _checked(_READERS[path.suffix](path), path)
    present = sorted(entry.name for entry in folder.iterdir())[:3] if folder.is_dir() else []
    raise DataError(
        f"{folder} has no predictions of clip {name!r} (it holds {', '.join(present) or 'nothing'}).",
        f"Save them as {name}.npy, .npz or .csv: [T, {len(JOINTS)}, 2], (x, y) in 0-based pixels, NaN where invisible.",
    )


def find_joints(folder: Path, name: str, number: int) -> Path | None:
    """The file of a clip's predictions in one of the forms of `read_joints`."""
    paths = [*(folder / f"{name}{suffix}" for suffix in _READERS), folder / f"{number}.dat"]
    return next((path for path in paths if is_there(path)), None)


def from_cells(cells: Array, path: Path, size: tuple[int, int], grid: tuple[int, int] | None) -> Points:
    """[2, J, T] in cells, negative x where invisible, to [T, J, 2] pixels, in the array's own precision as published.

    Source: ajabri/videowalk 047f3f4 code/eval/eval_pck.py:47-63.
    """
    if grid is None:
        raise DataError(
            f"{path} counts in cells of a grid that the file does not name.", "Give the grid with --grid W,H."
        )
    if cells.ndim != 3 or cells.shape[:2] != (2, len(JOINTS)):
        raise DataError(f"{path} holds an array of shape {cells.shape}.", f"Expected [2, {len(JOINTS)}, T].")
    if cells.dtype.kind not in "fiu":
        raise DataError(f"{path} holds {cells.dtype}.", "Expected numbers.")
    cells = cells if cells.dtype == np.float32 else cells.astype(np.float64)
    invisible = cells[0] < 0  # [J, T]
    scale = np.array([grid[0], grid[1]], cells.dtype)[:, None, None]
    with np.errstate(over="ignore"):  # infinitely far away, which is no hit
        pixels = cells / scale * np.array([size[1], size[0]], cells.dtype)[:, None, None]
    pixels[:, invisible] = np.nan
    return np.asarray(pixels.transpose(2, 1, 0), np.float64)


def read_dat(path: Path) -> Array:
    """The array in a pickled .dat (numpy.ndarray.dump), opened without running anything from it. Raises DataError."""
    from corrkit.checkpoints.opening import open_checkpoint

    if not isinstance(path, Path):
        raise DataError(f"{path} is a pickle in an archive; those are read from folders alone.", "Unpack the archive.")

    require_regular(path)
    try:
        tree = open_checkpoint(path).tree
    except CheckpointError as error:
        raise DataError(error.problem, "Save predictions as .npy instead.") from error
    if not hasattr(tree, "numpy"):
        raise DataError(f"{path} holds a {type(tree).__name__}, not an array.", "Save predictions as .npy instead.")
    with _explained(path, "an array of numbers"):
        return np.asarray(tree.numpy())


def _read_npy(path: Path) -> Array:
    data = read_file(path, largest=_LARGEST)
    with _explained(path, "numbers"):
        return _array(data)


def _read_npz(path: Path) -> Array:
    data = read_file(path, largest=_LARGEST)
    with _explained(path, "numbers"), zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        if len(members) != 1:
            raise DataError(f"{path} holds {len(members)} arrays.", "Save exactly one: [T, J, 2].")
        if members[0].file_size > _LARGEST:
            raise ValueError(f"it unpacks to {members[0].file_size} bytes")
        return _array(archive.read(members[0]))


def _array(data: bytes) -> Array:
    """The array of a .npy. Raises ValueError before memory is taken that its bytes don't fill."""
    stream = io.BytesIO(data)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(stream)
    if version not in readers:
        raise ValueError(f"a .npy of version {version}")
    shape, _, dtype = readers[version](stream)
    if dtype.kind not in "fiu" or math.prod(shape) * dtype.itemsize > len(data):
        raise ValueError(f"{dtype} of shape {list(shape)} in {len(data)} bytes")
    return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))


@contextlib.contextmanager
def _explained(path: Path, expected: str) -> Iterator[None]:
    """Every way in which a damaged file fails, as a DataError naming it."""
    try:
        yield
    except DataError:
        raise
    # zipfile, zlib, struct, tokenize, csv and numpy each raise their own; RuntimeError is an encrypted zip.
    except Exception as error:
        raise DataError(f"{path} can't be read as {expected} ({error}).", "Save it with numpy.save.") from None


def _read_csv(path: Path) -> Array:
    """Columns frame, joint, x, y; frame from 0, joint a number or name; x and y empty where invisible."""
    data = read_file(path, largest=_LARGEST)
    with _explained(path, "rows of frame, joint, x, y"):
        rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
        entries = [(int(row["frame"]), _joint(row["joint"]), row["x"].strip(), row["y"].strip()) for row in rows]
        values = [(frame, joint, float(x or "nan"), float(y or "nan")) for frame, joint, x, y in entries]
    frames = {frame for frame, *_ in values}
    given = {(frame, joint) for frame, joint, *_ in values}
    if (
        not frames
        or len(given) != len(values)
        or len(given) != len(JOINTS) * len(frames)
        or frames != set(range(len(frames)))
    ):
        raise DataError(
            f"{path} has {len(values)} rows for {len(frames)} frames, not each of {len(JOINTS)} joints once per frame.",
            "Write every frame from 0 on; leave x and y empty where a joint is invisible.",
        )
    joints = np.empty((len(frames), len(JOINTS), 2))
    for frame, joint, x, y in values:
        joints[frame, joint] = x, y
    return joints


def _joint(text: str) -> int:
    number = JOINTS.index(text) if text in JOINTS else int(text)
    if not 0 <= number < len(JOINTS):
        raise ValueError(f"joint {text}")
    return number


def _checked(joints: Array, path: Path) -> Points:
    if joints.ndim != 3 or joints.shape[1:] != (len(JOINTS), 2) or joints.dtype.kind not in "fiu":
        raise DataError(
            f"{path} holds {joints.dtype} of shape {list(joints.shape)}.",
            f"Expected [T, {len(JOINTS)}, 2]: (x, y) in 0-based pixels.",
        )
    return np.asarray(joints, np.float64)


_READERS = MappingProxyType({".npy": _read_npy, ".npz": _read_npz, ".csv": _read_csv})
