"""How an evaluation reads a clip: every n-th frame, for a quick look; each frame once, for several readers."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from corrkit.frames.sequence import FrameSequence
from corrkit.tasks.clips import ImageClip
from corrkit.tasks.contract import AnyClip, ClipT

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def thinned(clip: ClipT, every: int) -> ClipT:
    """A clip's frames 0, every, 2 * every, ... with their annotations; the clip itself for 1."""
    return clip if every == 1 else cast(ClipT, _Thinned(clip, every))


def read_once(clip: ClipT) -> ClipT:
    """The same clip for several readers in step: see `ImageClip.read_once`. Clips of other kinds stay as they are."""
    return cast(ClipT, clip.read_once()) if isinstance(clip, ImageClip) else clip


class _Thinned:
    """All that isn't said here is the clip's own."""

    def __init__(self, clip: AnyClip, every: int) -> None:
        self._clip, self._every = clip, every
        self.frames: FrameSequence = _EveryNth(clip.frames, every)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clip, name)

    def annotation(self, index: int) -> object:
        """Annotation of the `index`-th of these frames."""
        return self._clip.annotation(index * self._every)


class _EveryNth:
    def __init__(self, frames: FrameSequence, every: int) -> None:
        self._frames, self._every = frames, every

    @property
    def paths(self) -> Sequence[Path]:
        return self._frames.paths

    @property
    def size(self) -> tuple[int, int]:
        return self._frames.size

    def __len__(self) -> int:
        return -(-len(self._frames) // self._every)

    def __getitem__(self, index: int) -> "NDArray[np.uint8]":
        return self._frames[index * self._every]
