"""What data a score belongs to: the clip list, and the content of frames and annotations."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from corrkit.errors import DataError, UnreadableError
from corrkit.files.reading import file_sha256, file_size
from corrkit.tasks.contract import AnyClip

_CHEAP = 64 << 20
"""Bytes of a clip's frames that are read in less time than its first frames take to be evaluated."""


def data_identity(clips: Sequence[AnyClip]) -> str:
    """sha256 hex over names, frame counts, frames and annotation bytes of the clips, in order.

    Frames count by their bytes, as annotations do. Where those of a clip are more than `_CHEAP` in all they count by
    size and time of modification instead: a corrected frame is seen, but a copy may be other data.

    A clip whose files are missing, or are no files, counts as such: it fails when it is evaluated, with its own
    message.

    Raises:
        UnreadableError: where a file that is there can't be read: the clip would belong to other data once it can be.
    """
    digest = hashlib.sha256()
    for clip in clips:
        digest.update(f"clip {clip.name}\n".encode())
        try:
            digest.update(f"frames {len(clip.frames)}\n".encode())
            for path, content in _frames(clip.frames.paths):
                digest.update(b"%s %s\n" % (os.fsencode(path.name), content.encode()))
            for path in clip.annotation_files:
                digest.update(b"%s %s\n" % (os.fsencode(path.name), file_sha256(path).encode()))
        except UnreadableError:
            raise
        except DataError as error:
            digest.update(f"unreadable {type(error).__name__}\n".encode())
    return digest.hexdigest()


def _frames(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Each frame's file and what tells its content."""
    sizes = [file_size(path) for path in paths]
    for path, size in zip(paths, sizes, strict=True):
        yield path, file_sha256(path) if sum(sizes) <= _CHEAP else f"{size} {path.stat().st_mtime_ns}"
