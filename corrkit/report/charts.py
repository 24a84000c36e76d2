"""Curves as shapes, drawn once: a page shows them as SVG (`pages/drawing.html`), a paper takes them as PNG."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

COLOURS = (
    "#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2", "#bcbd22", "#7f7f7f",
    "#6fa8dc", "#ff9896", "#98df8a", "#c5b0d5", "#ffbb78", "#9edae5", "#c49c94", "#f7b6d2", "#dbdb8d", "#c7c7c7",
)  # fmt: skip
"""Of runs and parts: to be told apart on white, on black and on pictures."""
_GRID, _MARK = "#9aa4b2", "#e0483e"
_LEFT, _TOP, _BOTTOM, _LINE = 40, 10, 34, 16
_WIDTH, _HEIGHT, _CHARACTER = 560, 190, 6.3
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A polyline in pixels."""

    points: tuple[tuple[float, float], ...]
    colour: str
    width: float = 1.0
    is_dashed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A text at a point of its base line; colour "" is that of the page's text."""

    x: float
    y: float
    text: str
    anchor: str = "start"
    colour: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """Shapes on a sheet of a size in pixels."""

    width: int
    height: int
    lines: tuple[Line, ...]
    texts: tuple[Text, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Fractions [n] over x [n]; NaN leaves a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    is_dashed: bool = False


def colour_of(identity: int) -> str:
    """Of a part, from 1: the same in curves and on pictures."""
    return COLOURS[(identity - 1) % len(COLOURS)]


def curves(
    shown: Sequence[Curve],
    x_name: str,
    marks: Sequence[tuple[float, str]] = (),
    span: tuple[float, float] | None = None,
) -> Drawing:
    """Curves of scores between 0 and 100 per cent, a legend below, and vertical marks with their names.

    span: of the x axis; None for that of the curves.
    """
    xs = [x for curve in shown for x in curve.x] or [0.0]
    low, high = span or (min(xs), max(max(xs), min(xs) + 1))
    rows = _legend_rows([curve.name for curve in shown])
    height = _HEIGHT + _LINE * len(rows)
    right, floor = _WIDTH - 12, _HEIGHT - _BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return _LEFT + (x - low) / (high - low) * (right - _LEFT), floor - min(max(y, 0), 1) * (floor - _TOP)

    lines = [Line(points=(place(low, tick), place(high, tick)), colour=_GRID, width=0.5) for tick in _TICKS]
    texts = [
        Text(x=_LEFT - 6, y=place(low, tick)[1] + 4, text=f"{100 * tick:.0f}", anchor="end") for tick in _TICKS[::2]
    ]
    texts += [
        Text(x=_LEFT, y=floor + 16, text=f"{low:g}"),
        Text(x=(right + _LEFT) / 2, y=floor + 16, text=x_name, anchor="middle"),
        Text(x=right, y=floor + 16, text=f"{high:g}", anchor="end"),
    ]
    for number, (x, name) in enumerate(marks):
        at = place(x, 0)[0]
        lines.append(Line(points=((at, _TOP), (at, floor)), colour=_MARK, is_dashed=True))
        y, anchor, beside = (
            _TOP + 12 + 13 * (number % 6),
            *(("end", at - 4) if at > (_LEFT + right) / 2 else ("start", at + 4)),
        )
        texts.append(Text(x=beside, y=y, text=name, anchor=anchor, colour=_MARK))
    for curve in shown:
        for points in _unbroken(curve):
            placed = tuple(place(x, y) for x, y in points)
            drawn = placed if len(placed) > 1 else (placed[0], (placed[0][0] + 2, placed[0][1]))
            lines.append(Line(points=drawn, colour=curve.colour, width=1.8, is_dashed=curve.is_dashed))
    for row, members in enumerate(rows):
        y = _HEIGHT + _LINE * row
        for index, x in members:
            curve = shown[index]
            key = ((x, y - 4), (x + 18, y - 4))
            lines.append(Line(points=key, colour=curve.colour, width=2.5, is_dashed=curve.is_dashed))
            texts.append(Text(x=x + 23, y=y, text=curve.name))
    return Drawing(width=_WIDTH, height=height, lines=tuple(lines), texts=tuple(texts))


def painted(drawing: Drawing, scale: int = 3) -> "Image.Image":
    """The drawing as a picture on white, `scale` pixels for each of its own."""
    from PIL import Image, ImageDraw, ImageFont

    sheet = Image.new("RGB", (drawing.width * scale, drawing.height * scale), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=12 * scale)
    for line in drawing.lines:
        points = [(x * scale, y * scale) for x, y in line.points]
        for part in _dashes(points, 4 * scale, 3 * scale) if line.is_dashed else [points]:
            draw.line(part, fill=line.colour, width=max(1, round(line.width * scale)), joint="curve")
    for text in drawing.texts:
        anchor = {"start": "ls", "middle": "ms", "end": "rs"}[text.anchor]
        draw.text((text.x * scale, text.y * scale), text.text, text.colour or "black", font=font, anchor=anchor)
    return sheet


def svg_file(drawing: Drawing, alt: str) -> str:
    """The drawing as a file by itself, black on white whatever shows it; alt: for those who can't see it."""
    from corrkit.pages import page

    middle = drawing.height / 2
    sheet = Line(points=((0, middle), (drawing.width, middle)), colour="#ffffff", width=drawing.height)
    return page("drawing.svg", drawing=replace(drawing, lines=(sheet, *drawing.lines)), alt=alt)


def _unbroken(curve: Curve) -> list[list[tuple[float, float]]]:
    """The stretches of a curve between its gaps."""
    stretches: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(curve.x, curve.y, strict=True):
        if math.isnan(y):
            stretches.append([])
        else:
            stretches[-1].append((x, y))
    return [stretch for stretch in stretches if stretch]


def _legend_rows(names: Sequence[str]) -> list[list[tuple[int, float]]]:
    """Number and x of each name, in as many rows as they need."""
    rows: list[list[tuple[int, float]]] = [[]]
    x = float(_LEFT)
    for number, name in enumerate(names):
        width = 40 + _CHARACTER * len(name)
        if rows[-1] and x + width > _WIDTH:
            rows.append([])
            x = float(_LEFT)
        rows[-1].append((number, x))
        x += width
    return rows


def _dashes(points: Sequence[tuple[float, float]], on: float, off: float) -> list[list[tuple[float, float]]]:
    """A polyline cut into dashes."""
    parts: list[list[tuple[float, float]]] = []
    travelled = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        length = math.hypot(x1 - x0, y1 - y0)
        at = 0.0
        while at < length:
            phase = travelled % (on + off)
            step = min((on if phase < on else on + off) - phase + 1e-6, length - at)
            if phase < on:
                ends = ((x0 + (x1 - x0) * t / length, y0 + (y1 - y0) * t / length) for t in (at, at + step))
                parts.append(list(ends))
            at += step
            travelled += step
    return parts
