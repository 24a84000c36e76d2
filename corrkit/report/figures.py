"""A figure of a report: in the page as SVG or WebP, beside it as PNG."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from corrkit.files.atomic import make_folder, write_atomic
from corrkit.pages import embedded
from corrkit.report.charts import Drawing, painted
from corrkit.report.pictures import animation, png, webp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What is shown and what is said of it.

    name: of its file beside the page. caption: below it. alt: for those who can't see it. pictures: one, or those of an
    animation; none for a drawing. is_wide: wider than a phone, scrolled there.
    """

    name: str
    caption: str
    alt: str
    drawing: Drawing | None = None
    pictures: "Sequence[Image.Image]" = ()
    is_wide: bool = False

    @property
    def address(self) -> str:
        """The picture or animation, embedded."""
        one = webp(self.pictures[0]) if len(self.pictures) == 1 else animation(self.pictures)
        return embedded(one, "image/webp")

    @property
    def width(self) -> int:
        """In pixels."""
        return self.pictures[0].width

    @property
    def height(self) -> int:
        """In pixels."""
        return self.pictures[0].height

    @property
    def still(self) -> "Image.Image":
        """For a paper: of an animation the middle picture."""
        return painted(self.drawing) if self.drawing else self.pictures[len(self.pictures) // 2]


def save_figures(figures: "Sequence[Figure]", folder: Path) -> None:
    """Writes NAME.png for each; a name that is taken gets a number. Raises RunError where that fails."""
    make_folder(folder)
    taken: Counter[str] = Counter()
    for figure in figures:
        name = _file_name(figure.name)
        taken[name] += 1
        numbered = name if taken[name] == 1 else f"{name}-{taken[name]}"
        write_atomic(folder / f"{numbered}.png", png(figure.still))


def _file_name(name: str) -> str:
    """A name that is safe on every file system."""
    return re.sub(r"[^\w.@+-]+", "-", name).strip("-.")[:150] or "figure"
