"""Files of a run that were whole once, and that somebody or something has changed since."""

import contextlib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from corrkit.errors import CheckpointError, is_out_of_memory

_Tree = TypeVar("_Tree", bound=Mapping[str, object])
_START_AGAIN = "Remove it to go on from another checkpoint of its folder, or to start again."


@contextlib.contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Around what goes on with a checkpoint of this very run: what doesn't fit there is the file's damage."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        said = str(error).partition("\n")[0][:200]
        raise CheckpointError(f"{path} is damaged ({type(error).__name__}: {said}).", _START_AGAIN) from error


def load_as_written(path: Path) -> object:
    """What `torch.save` wrote into a file, on the CPU. Raises whatever torch and zipfile stumble over."""
    import torch

    with zipfile.ZipFile(path) as archive:
        if changed := archive.testzip():  # torch looks at no checksum
            raise ValueError(f"{changed} in it has another checksum than was written")
    return torch.load(path, map_location="cpu", weights_only=True)


def whole_or_damaged(tree: _Tree, path: Path, needed: Mapping[str, type], further: Mapping[str, type]) -> _Tree:
    """What a file holds, where its parts are of their kinds; `further` ones may be missing.

    Raises:
        CheckpointError: naming the parts that aren't.
    """
    kinds = {**needed, **{name: kind for name, kind in further.items() if name in tree}}
    if wrong := [name for name, kind in kinds.items() if not isinstance(tree.get(name), kind)]:
        raise CheckpointError(f"{path} is damaged: it lacks {', '.join(wrong)}, or holds something else.", _START_AGAIN)
    return tree
