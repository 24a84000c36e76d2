"""What a training run writes beside its checkpoint: CSV logs and pictures (Pillow only)."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from corrkit.errors import RunError
from corrkit.runs.atomic import write_atomic
from corrkit.training.data.views import unit_range

Row = dict[str, float]


class Log:
    """A CSV file of numbers by step. Rows after the step that a run resumes from are dropped.

    Args:
        path: of the file.
        first_step: of this process; earlier rows are kept.
    """

    def __init__(self, path: Path, first_step: int) -> None:
        self.path = path
        self.rows = [row for row in read_log(path) if row["step"] <= first_step]

    def add(self, row: Mapping[str, float]) -> None:
        """Appends a row; all rows have the columns of the first."""
        self.rows.append(dict(row))
        if len(self.rows) == 1 or not self.path.is_file():
            self.write()
            return
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, list(self.rows[0])).writerow(row)

    def write(self) -> None:
        """The whole file, atomically; none without rows."""
        if not self.rows:
            self.path.unlink(missing_ok=True)
            return
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(self.rows[0]))
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomic(self.path, text.getvalue())

    def flush(self) -> None:
        """To the disk, before the checkpoint that the rows belong to."""
        if self.rows:
            with self.path.open("rb") as file:
                os.fsync(file.fileno())


def read_log(path: Path) -> list[Row]:
    """Rows of a CSV log; none where there is no file. A last line cut off by a crash is left out.

    Raises:
        RunError: another line isn't one of numbers; names file and line.
    """
    if not path.is_file():
        return []
    try:
        names, *lines = csv.reader(path.read_text(encoding="utf-8").splitlines())
        if "step" not in names:
            raise ValueError("no column called step")
        if lines and not _is_row(lines[-1], names):
            lines.pop()
        return [{name: _number(value) for name, value in zip(names, line, strict=True)} for line in lines]
    except (OSError, ValueError, csv.Error) as error:
        raise RunError(f"{path} is damaged ({error}).", "Remove it: only its rows are lost.") from None


def _number(text: str) -> float:
    """As it was written: whole numbers stay whole, so that rewriting a file changes nothing."""
    return int(text) if text.isdecimal() else float(text)


def _is_row(line: Sequence[str], names: Sequence[str]) -> bool:
    return len(line) == len(names) and all(line)


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


def draw_pictures(path: Path, pictures: Mapping[str, Tensor], count: int = 4) -> None:
    """Columns of pictures [N, 3, H, W] (normalised), one per name, one row per sample."""
    columns = []
    for images in pictures.values():
        pixels = unit_range(images[:count].detach().float().cpu()).clamp(0, 1)
        columns.append(torch.cat(list(pixels), 1))
    sheet = torch.cat(columns, 2).mul(255).round().byte().permute(1, 2, 0).numpy()
    canvas = Image.new("RGB", (sheet.shape[1], sheet.shape[0] + 14), "white")
    canvas.paste(Image.fromarray(sheet), (0, 14))
    for index, name in enumerate(pictures):
        ImageDraw.Draw(canvas).text((index * sheet.shape[1] // len(pictures) + 2, 1), name, fill="black")
    save_png(path, canvas)


def save_png(path: Path, picture: Image.Image) -> None:
    """Atomically."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    write_atomic(path, buffer.getvalue())
