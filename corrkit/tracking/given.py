"""What the user gives of the first frame: a mask, boxes, or points, checked against the frames' size."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from corrkit.errors import DataError, UsageError
from corrkit.files.reading import read_file
from corrkit.tasks.davis_clips import read_first_mask
from corrkit.tracking.tracker import Labels

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels; the last column and row are left out."""

_LARGEST_TABLE = 1 << 20
_LONGEST_NAME = 100
_MOST_POINTS = 1000
_MOST_BOXES = 254
_NAMES = ("name", "point", "joint")


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Labels of the first frame: an id mask, boxes, or points with a name each. source: for messages."""

    source: str
    labels: Labels | None = None
    boxes: tuple[Box, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def are_points(self) -> bool:
        """Whether it is points that are followed."""
        return bool(self.names)

    def on(self, size: tuple[int, int], video: Path) -> Labels:
        """The labels on frames of a size (height, width). Raises DataError where they don't fit."""
        height, width = size
        if self.labels is None:
            return self._of_boxes(size)
        if not self.are_points:
            if self.labels.shape != size:
                turned = ", turned" if self.labels.shape == (width, height) else ""
                raise DataError(
                    f"{self.source} is {self.labels.shape[1]}x{self.labels.shape[0]}, the frames of {video} are "
                    f"{width}x{height}{turned}.",
                    "Draw the mask on the first frame, as players show it: turned by the video's rotation flag.",
                )
            return self.labels
        for name, (x, y) in zip(self.names, self.labels.tolist(), strict=True):
            if not (-0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5):
                raise DataError(
                    f"{self.source}: {name} at ({x:g}, {y:g}) lies outside of the frames of {video}, {width}x{height}.",
                    "Points are (x, y) in pixels of the first frame; the centre of the top left one is (0, 0).",
                )
        return self.labels

    def _of_boxes(self, size: tuple[int, int]) -> Labels:
        """An id mask, the first box being id 1; where boxes overlap the later one is in front."""
        height, width = size
        ids = np.zeros(size, np.uint8)
        for number, (x0, y0, x1, y1) in enumerate(self.boxes, start=1):
            if x1 > width or y1 > height:
                raise UsageError(
                    f"The box {x0},{y0},{x1},{y1} reaches beyond the frames of {width}x{height}.",
                    "Boxes are x0,y0,x1,y1 in pixels of the first frame.",
                )
            ids[y0:y1, x0:x1] = number
        for number in range(1, len(self.boxes) + 1):
            if not (ids == number).any():
                raise UsageError(f"Box {number} is hidden by those behind it in the list.", "Name the front one last.")
        if ids.all():
            raise UsageError("The boxes cover the whole frame: there is no background.", "Make them smaller.")
        return ids


def given_mask(path: Path) -> Given:
    """A first mask. Raises DataError as `tasks.davis_clips.read_first_mask`."""
    return Given(source=str(path), labels=read_first_mask(path))


def given_boxes(text: str) -> Given:
    """Boxes of "x0,y0,x1,y1;x0,y0,x1,y1". Raises UsageError quoting the one that is none."""
    boxes: list[Box] = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        if not re.fullmatch(r"\s*\d{1,6}\s*(,\s*\d{1,6}\s*){3}", part):
            raise UsageError(f"{part!r} is no box.", "Write x0,y0,x1,y1 in whole pixels, several separated by ';'.")
        x0, y0, x1, y1 = map(int, part.split(","))
        if x0 >= x1 or y0 >= y1:
            raise UsageError(f"The box {part} is empty.", "Write the top left corner first: x0,y0,x1,y1.")
        boxes.append((x0, y0, x1, y1))
    if not 0 < len(boxes) <= _MOST_BOXES:
        raise UsageError(f"{len(boxes)} boxes are given.", f"Give 1 to {_MOST_BOXES}: x0,y0,x1,y1;x0,y0,x1,y1")
    return Given(source="--boxes", boxes=tuple(boxes))


def given_points(path: Path) -> Given:
    """Points of a text file: a line "x,y" or "name,x,y" each, with or without a head that names the columns.

    Raises:
        DataError: quoting the line that is none.
    """
    try:
        text = read_file(path, largest=_LARGEST_TABLE).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path} is no UTF-8 text.", "Save points as CSV: name,x,y") from None
    rows = [(number, _cells(line)) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    columns = _columns(rows[0][1] if rows else [], path)
    if columns is not None:
        rows = rows[1:]
    if not 0 < len(rows) <= _MOST_POINTS:
        raise DataError(f"{path} holds {len(rows)} points.", f"Give 1 to {_MOST_POINTS}, a line each: x,y or name,x,y.")
    points: dict[str, tuple[float, float]] = {}
    for number, cells in rows:
        place = columns or ((None, 0, 1) if len(cells) == 2 else (0, 1, 2))
        point = _point(cells, place) if columns is not None or len(cells) in (2, 3) else None
        if point is None:
            raise DataError(f"{path}, line {number}: {','.join(cells)!r} is no point.", "Write x,y or name,x,y.")
        name = (cells[place[0]] if place[0] is not None else "") or f"point {len(points)}"
        if name in points or not name.isprintable() or len(name) > _LONGEST_NAME:
            fault = "names two points" if name in points else "is no name of a point"
            raise DataError(
                f"{path}, line {number}: {name[:_LONGEST_NAME]!r} {fault}.",
                f"Give each point a name of its own, of up to {_LONGEST_NAME} visible characters.",
            )
        points[name] = point
    return Given(source=str(path), labels=np.array(list(points.values()), np.float64), names=tuple(points))


def _point(cells: list[str], place: tuple[int | None, int, int]) -> tuple[float, float] | None:
    """What x and y are, where the places of name, x and y hold what they should."""
    if max(where for where in place if where is not None) >= len(cells):
        return None
    written = [cells[where] for where in place[1:]]
    try:
        x, y = map(float, written)
    except ValueError:
        return None
    is_plain = math.isfinite(x) and math.isfinite(y) and "_" not in "".join(written)  # Python takes 1_0 for 10
    return (x, y) if is_plain else None


def _cells(line: str) -> list[str]:
    """What stands between the first of comma, semicolon and tab that a line has; else between spaces."""
    mark = next((mark for mark in ",;\t" if mark in line), None)
    return [cell.strip().strip('"') for cell in line.split(mark)]


def _columns(head: list[str], path: Path) -> tuple[int | None, int, int] | None:
    """Places of name, x and y by a head; None where there is none."""
    words = [cell.lower() for cell in head]
    if "x" not in words or "y" not in words:
        return None
    if "frame" in words:
        raise DataError(f"{path} has a column of frames.", "Give the points of the first frame alone: name,x,y.")
    name = next((words.index(word) for word in _NAMES if word in words), None)
    return name, words.index("x"), words.index("y")
