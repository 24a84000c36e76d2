"""Which columns of a table are shown: what all rows share goes to its heading, what has no room is left out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

SHORTEST_NAME = 16
"""Characters that are left of a name in the first column, where there is no room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell of a table.

    text: spaces before it align numbers. detail: comes after it and may be left out (" [55.1, 67.3]"). marks: after
    both ("*†"). best: whether it is its column's best.
    """

    text: str
    detail: str = ""
    marks: str = ""
    best: bool = False

    @property
    def whole(self) -> str:
        """Everything that it shows."""
        return self.text + self.detail + self.marks


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What may be left out of a table, by the heads of its columns; the first column always stays.

    settings: columns that go to the heading where all rows agree. columns: those that are left out where there is no
    room, first things first; (head, True) leaves out a column's details alone. hint: what is said of what is left out.
    """

    settings: frozenset[str] = frozenset()
    columns: tuple[tuple[str, bool], ...] = ()
    hint: str = ""


EVERYTHING = Room()
"""Of a table that may lose nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Heads and rows of a table or of one of its sections; heading is what stands above, left_out what was."""

    heading: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    left_out: tuple[str, ...] = ()

    def column(self, number: int) -> list[Cell]:
        """The cells of a column."""
        return [row[number] for row in self.rows]

    def keeping(self, numbers: Sequence[int]) -> "Grid":
        """Some of the columns."""
        return replace(
            self,
            head=tuple(self.head[number] for number in numbers),
            rows=tuple(tuple(row[number] for number in numbers) for row in self.rows),
        )


def folded(grid: Grid, room: Room) -> Grid:
    """Without columns that say nothing; those of `room.settings` that say the same in all rows are in the heading.

    A table that may lose nothing stays as it is.
    """
    if room == EVERYTHING:
        return grid
    settings, kept = [], [0]
    for number, head in enumerate(grid.head[1:], start=1):
        texts = {cell.whole.strip() for cell in grid.column(number)}
        if not any(text.strip("–") for text in texts):
            continue
        if head in room.settings and len(texts) == 1 and len(grid.rows) > 1:
            settings.append(f"{head} {texts.pop()}")
        else:
            kept.append(number)
    heading = " · ".join(filter(None, [grid.heading, ", ".join(settings)]))
    return replace(grid.keeping(kept), heading=heading)


def fitted(grid: Grid, room: Room, fits: Callable[[Grid], bool]) -> Grid:
    """As much of the grid as fits: columns and details left out in the order of `room`, then names shortened."""
    left_out: list[str] = []
    for head, is_detail in room.columns:
        if fits(grid):
            break
        if head not in grid.head[1:]:
            continue
        number = grid.head.index(head, 1)
        if not is_detail:
            grid = grid.keeping([n for n in range(len(grid.head)) if n != number])
            left_out = [*(one for one in left_out if one != f"intervals of {head}"), head]
        elif any(cell.detail for cell in grid.column(number)):
            grid = _without_details(grid, number)
            left_out.append(f"intervals of {head}")
    longest = max((len(row[0].text) for row in grid.rows), default=0)
    while room.columns and longest > SHORTEST_NAME and not fits(grid):
        longest -= 1
        grid = replace(grid, rows=tuple((shortened(row[0], longest), *row[1:]) for row in grid.rows))
    return replace(grid, left_out=tuple(left_out))


def shortened(cell: Cell, longest: int) -> Cell:
    """Cut in the middle: names differ at either end."""
    half = (longest - 3) // 2
    text = cell.text
    if len(text) <= longest:
        return cell
    return replace(cell, text=f"{text[: longest - 3 - half]}...{text[len(text) - half :]}")


def _without_details(grid: Grid, number: int) -> Grid:
    rows = ((*row[:number], replace(row[number], detail=""), *row[number + 1 :]) for row in grid.rows)
    return replace(grid, rows=tuple(rows))
