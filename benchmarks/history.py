"""benchmarks/history.csv: one line per figure that a maintainer chose to record."""

import csv
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import torch
from measuring import FOLDER, Row

from corrkit.diagnosis.machine import processor_name

FILE = FOLDER / "history.csv"
COLUMNS = ("date", "commit", "machine", "benchmark", "what", "value", "unit")


@dataclass(frozen=True, slots=True)
class History:
    """What was recorded, oldest first, and the machine that this is."""

    rows: tuple[dict[str, str], ...]
    machine: str
    file: Path = FILE

    @classmethod
    def read(cls, file: Path = FILE) -> Self:
        """What is recorded so far; nothing where there is no file."""
        rows: tuple[dict[str, str], ...] = ()
        if file.exists():
            with file.open(newline="", encoding="utf-8") as opened:
                rows = tuple(csv.DictReader(opened))
        return cls(rows, f"{processor_name()}, {os.cpu_count()} processors, torch {torch.__version__}", file)

    def last(self, benchmark: str, row: Row) -> float | None:
        """The latest figure of the same name that was recorded on this machine."""
        same = {"machine": self.machine, "benchmark": benchmark, "what": row.what}
        found = [one for one in self.rows if same.items() <= one.items()]
        return float(found[-1]["value"]) if found else None

    def append(self, done: Iterable[tuple[str, Row]]) -> None:
        """Adds figures, as of now and of the commit that is checked out ("+" behind it: with changes)."""
        is_new = not self.file.exists()
        date, commit = datetime.now(UTC).strftime("%Y-%m-%d"), _commit()
        with self.file.open("a", newline="", encoding="utf-8") as opened:
            writer = csv.writer(opened, lineterminator="\n")
            if is_new:
                writer.writerow(COLUMNS)
            for name, row in done:
                writer.writerow((date, commit, self.machine, name, row.what, f"{row.value:.4g}", row.unit))


def _commit() -> str:
    said = subprocess.run(
        ["git", "-C", str(FOLDER), "describe", "--always", "--dirty=+", "--exclude=*"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return said.stdout.strip() or "unknown"
