"""What data a score belongs to: clip list, frame counts, file sizes, and the sha256 of every annotation."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from corrkit.errors import DataError
from corrkit.tasks.contract import Clip


def data_identity(clips: Sequence[Clip]) -> str:
    """sha256 hex over names, frame counts, frame file sizes and annotation bytes of the clips, in order.

    A clip whose files are missing or unreadable counts as such: it fails when it is evaluated, with its own message.
    """
    digest = hashlib.sha256()
    for clip in clips:
        digest.update(f"clip {clip.name}\n".encode())
        try:
            digest.update(f"frames {len(clip.frames)}\n".encode())
            for path in clip.frames.paths:
                digest.update(f"{path.name} {path.stat().st_size}\n".encode())
            for path in clip.annotation_files:
                digest.update(f"{path.name} {_sha256(path)}\n".encode())
        except (DataError, OSError) as error:
            digest.update(f"unreadable {type(error).__name__}\n".encode())
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
