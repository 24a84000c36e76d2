"""Numbers by step as CSV files that survive crashes and resuming."""

import csv
import io
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from corrkit.errors import RunError
from corrkit.files.atomic import explained, write_atomic
from corrkit.files.reading import regular_text

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
        """Appends a row. Raises RunError where those of the file have other columns, or it can't be written."""
        if self.rows and row.keys() - self.rows[0].keys():
            raise _damaged(self.path, f"its columns are {', '.join(self.rows[0])} instead of {', '.join(row)}")
        self.rows.append(dict(row))
        if len(self.rows) == 1 or not self.path.is_file():
            self.write()
            return
        with explained(self.path), self.path.open("a", newline="", encoding="utf-8") as file:
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
        """To the disk, before the checkpoint that the rows belong to. Raises RunError where it can't be written."""
        if self.rows:
            with explained(self.path), self.path.open("rb") as file:
                os.fsync(file.fileno())


def duration(seconds: float) -> str:
    """Days, where there are any, and hours:minutes:seconds."""
    days, rest = divmod(round(seconds), 24 * 60 * 60)
    return (f"{days} d " if days else "") + time.strftime("%H:%M:%S", time.gmtime(rest))


def read_log(path: Path) -> list[Row]:
    """Rows of a CSV log; none where there is no file. A last line cut off by a crash is left out.

    Raises:
        RunError: another line isn't one of numbers; names file and line.
    """
    if not path.exists():
        return []
    try:
        names, *lines = csv.reader(regular_text(path).splitlines())
        if "step" not in names:
            raise ValueError("no column called step")
        if lines and not _is_row(lines[-1], names):
            lines.pop()
        return [{name: _number(value) for name, value in zip(names, line, strict=True)} for line in lines]
    except (OSError, ValueError, csv.Error) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, why: object) -> RunError:
    return RunError(f"{path} is damaged ({why}).", "Remove it: only its rows are lost.")


def _number(text: str) -> float:
    """As it was written: whole numbers stay whole, so that rewriting a file changes nothing."""
    return int(text) if text.isdecimal() else float(text)


def _is_row(line: Sequence[str], names: Sequence[str]) -> bool:
    return len(line) == len(names) and all(line)
