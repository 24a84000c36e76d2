"""Pictures of clips: labels painted on frames, strips of frames with truth over prediction, animations."""

import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from corrkit.report.charts import colour_of
from corrkit.tasks.jhmdb_points import BONES, JOINTS

if TYPE_CHECKING:
    from PIL import Image

Pixels = NDArray[np.uint8]
TILE = 230
"""Width of a frame in a strip, in pixels."""
_TEXT, _GAP = 18, 4
_FRAME, _ROUND = 120, 2400
"""Milliseconds that a frame of an animation, and its round, last at least."""


def painted_label(frame: Pixels, label: NDArray[np.uint8 | np.float64], width: int) -> "Image.Image":
    """A frame [H, W, 3] with a label on it, `width` pixels wide: an id mask [h, w], or points [J, 2] in its pixels."""
    if label.dtype == np.uint8:
        return _painted_mask(frame, np.asarray(label, np.uint8), width)
    return _painted_points(frame, np.asarray(label, np.float64), width)


def resized(frame: Pixels, width: int) -> "Image.Image":
    """A frame `width` pixels wide."""
    from PIL import Image

    height = max(1, round(frame.shape[0] * width / frame.shape[1]))
    return Image.fromarray(np.ascontiguousarray(frame)).resize((width, height), Image.Resampling.BILINEAR)


def strip(rows: Sequence[tuple[str, Sequence["Image.Image"]]], heads: Sequence[str]) -> "Image.Image":
    """Pictures in rows with a name each, below the heads of their columns."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=13)
    width, height = rows[0][1][0].size
    across = len(rows[0][1]) * (width + _GAP) - _GAP
    sheet = Image.new("RGB", (across, _TEXT + len(rows) * (_TEXT + height + _GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, head in enumerate(heads):
        draw.text((column * (width + _GAP) + 2, 2), head, "#444444", font=font)
    for number, (name, pictures) in enumerate(rows):
        top = _TEXT + number * (_TEXT + height + _GAP)
        draw.text((2, top + 2), name, "black", font=font)
        for column, picture in enumerate(pictures):
            sheet.paste(picture.resize((width, height)), (column * (width + _GAP), top + _TEXT))
    return sheet


def beside(left: "Image.Image", right: "Image.Image") -> "Image.Image":
    """Two pictures of one height side by side."""
    from PIL import Image

    sheet = Image.new("RGB", (left.width + _GAP + right.width, max(left.height, right.height)), "white")
    sheet.paste(left, (0, 0))
    sheet.paste(right, (left.width + _GAP, 0))
    return sheet


def webp(picture: "Image.Image") -> bytes:
    """Lossy WebP."""
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=82)
    return buffer.getvalue()


def png(picture: "Image.Image") -> bytes:
    """PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def animation(pictures: Iterable["Image.Image"]) -> bytes:
    """An endless animation as WebP; of one size."""
    first, *others = pictures
    duration = max(_FRAME, _ROUND // (1 + len(others)))
    buffer = io.BytesIO()
    first.save(buffer, "WEBP", save_all=True, append_images=others, duration=duration, loop=0, quality=60, method=3)
    return buffer.getvalue()


def _painted_mask(frame: Pixels, ids: Pixels, width: int) -> "Image.Image":
    """Half the colour of each id over its pixels, and a white line around it."""
    from PIL import Image, ImageColor

    picture = np.array(resized(frame, width))
    size = (picture.shape[1], picture.shape[0])
    small = np.asarray(Image.fromarray(ids).resize(size, Image.Resampling.NEAREST))
    colours = np.array([(0, 0, 0), *(ImageColor.getrgb(colour_of(identity)) for identity in range(1, 256))], np.float32)
    inside = small > 0
    picture[inside] = (0.45 * picture[inside].astype(np.float32) + 0.55 * colours[small[inside]]).astype(np.uint8)
    edge = np.zeros(small.shape, bool)
    edge[:, 1:] |= small[:, 1:] != small[:, :-1]
    edge[1:] |= small[1:] != small[:-1]
    picture[edge] = 255
    return Image.fromarray(picture)


def _painted_points(frame: Pixels, points: NDArray[np.float64], width: int) -> "Image.Image":
    """A skeleton where the points are JHMDB's joints, else dots; points that are NaN are left out."""
    from PIL import ImageDraw

    picture = resized(frame, width)
    draw = ImageDraw.Draw(picture)
    placed = (points + 0.5) * width / frame.shape[1]
    known = ~np.isnan(placed).any(axis=1)
    for one, other in BONES if len(points) == len(JOINTS) else ():
        if known[one] and known[other]:
            draw.line([*placed[one], *placed[other]], fill="#ffd166", width=2)
    for number, (x, y) in enumerate(placed.tolist()):
        if known[number]:
            draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=colour_of(number + 1), outline="white")
    return picture
