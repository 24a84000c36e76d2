"""What data a score belongs to: clip list, frame counts, file sizes, and the sha256 of every annotation."""

import hashlib
import os
from collections.abc import Sequence

from corrkit.errors import DataError, UnreadableError
from corrkit.frames.files import file_sha256, file_size
from corrkit.tasks.contract import Clip


def data_identity(clips: Sequence[Clip]) -> str:
    """sha256 hex over names, frame counts, frame file sizes and annotation bytes of the clips, in order.

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
            for path in clip.frames.paths:
                digest.update(b"%s %d\n" % (os.fsencode(path.name), file_size(path)))
            for path in clip.annotation_files:
                digest.update(b"%s %s\n" % (os.fsencode(path.name), file_sha256(path).encode()))
        except UnreadableError:
            raise
        except DataError as error:
            digest.update(f"unreadable {type(error).__name__}\n".encode())
    return digest.hexdigest()
