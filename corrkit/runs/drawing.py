"""Curves and sheets of pictures of a run, by Pillow alone."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from corrkit.files.atomic import write_atomic


def draw_columns(path: Path, columns: Mapping[str, NDArray[np.uint8]]) -> None:
    """Columns of RGB pictures [N, H, W, 3], one per name, one row per sample."""
    sheet = np.concatenate([np.concatenate(list(pictures)) for pictures in columns.values()], axis=1)
    canvas = Image.new("RGB", (sheet.shape[1], sheet.shape[0] + 14), "white")
    canvas.paste(Image.fromarray(sheet), (0, 14))
    for index, name in enumerate(columns):
        ImageDraw.Draw(canvas).text((index * sheet.shape[1] // len(columns) + 2, 1), name, fill="black")
    save_png(path, canvas)


def draw_curves(path: Path, panels: Mapping[str, tuple[Sequence[float], Mapping[str, Sequence[float]]]]) -> None:
    """Panels below each other, each (steps, name to values): one line per name with its last value."""
    width, height, margin = 640, 200, 40
    canvas = Image.new("RGB", (width, height * max(1, len(panels))), "white")
    draw = ImageDraw.Draw(canvas)
    colours = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf")
    for number, (title, (steps, lines)) in enumerate(panels.items()):
        top = number * height
        values = np.array([value for line in lines.values() for value in line], float)
        values = values[np.isfinite(values)]
        low, high = (values.min(), values.max()) if values.size else (0.0, 1.0)
        span, reach = (high - low) or 1.0, (max(steps) - min(steps) if steps else 0) or 1
        area = (margin + 20, top + 30, width - 170, top + height - 25)
        draw.rectangle(area, outline="#888888")
        draw.text((margin, top + 8), title, fill="black")
        draw.text((4, area[1]), f"{high:.3g}", fill="black")
        draw.text((4, area[3] - 10), f"{low:.3g}", fill="black")
        draw.text((area[2] - 50, area[3] + 5), f"step {steps[-1] if steps else 0:g}", fill="black")
        for index, (name, line) in enumerate(lines.items()):
            colour = colours[index % len(colours)]
            points = [
                (
                    area[0] + (step - steps[0]) / reach * (area[2] - area[0]),
                    area[3] - (value - low) / span * (area[3] - area[1]),
                )
                for step, value in zip(steps, line, strict=True)
                if np.isfinite(value)
            ]
            if points:
                draw.line(points, fill=colour, width=2) if len(points) > 1 else draw.point(points, fill=colour)
                draw.text((width - 160, area[1] + 14 * index), f"{name} {line[-1]:.4g}", fill=colour)
    save_png(path, canvas)


def save_png(path: Path, picture: Image.Image) -> None:
    """Atomically."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    write_atomic(path, buffer.getvalue())
