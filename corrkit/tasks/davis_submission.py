"""A zip of predicted masks as the DAVIS challenge server takes it: CLIP/FRAME.png for every frame of every clip."""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

from corrkit.errors import DataError
from corrkit.files.atomic import write_atomic
from corrkit.tasks.davis_clips import DavisClip

_TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # equal masks give equal bytes, whenever they were made


def write_submission(predictions: Path, clips: Sequence[DavisClip], path: Path) -> None:
    """Packs the predictions of a run.

    Args:
        predictions: the run's folder of masks.
        clips: all clips of the split, in order.
        path: the zip to write.

    Raises:
        DataError: naming the clips that lack a frame; the server would refuse them.
        RunError: where the zip can't be written.
    """
    files = [(clip, stem, predictions / clip.name / f"{stem}.png") for clip in clips for stem in clip.stems]
    lacking = list(dict.fromkeys(clip.name for clip, _, file in files if not file.is_file()))
    if lacking:
        raise DataError(
            f"{len(lacking)} of {len(clips)} clips lack predicted frames: {', '.join(lacking[:10])}.",
            "Evaluate the whole split with --save-predictions first.",
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:  # PNGs don't shrink further
        for clip, stem, file in files:
            archive.writestr(zipfile.ZipInfo(f"{clip.name}/{stem}.png", _TIMESTAMP), file.read_bytes())
    write_atomic(path, buffer.getvalue())
