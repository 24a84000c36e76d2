"""What golden tests measure against published code, for docs/parity.md: largest differences by protocol and stage."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).resolve().parents[2] / "docs" / "parity.csv"
COLUMNS = ("protocol", "stage", "difference", "unit", "compared")
STAGES = ("frames", "labels", "propagation", "near ties", "read-out", "end to end", "score")
OTHER_MACHINES = 4.0
"""By how much a difference may exceed the recorded one: other processors round sums in another order."""
ROUNDING = {"": 2e-6, "cells": 20, "pixels": 200, "joints": 0.02}
"""The same where zero or next to nothing is recorded; of counts, what near ties flip elsewhere."""


@dataclass(frozen=True, slots=True)
class Measured:
    """unit "": the largest absolute difference; else how many cells or pixels differ, or which share of joints."""

    difference: float
    unit: str
    compared: int

    def and_also(self, other: "Measured") -> "Measured":
        assert self.unit == other.unit
        joined = self.difference + other.difference if self.unit in {"cells", "pixels"} else None
        largest = max(self.difference, other.difference) if joined is None else joined
        return Measured(largest, self.unit, self.compared + other.compared)


class Parity:
    """The fixture `parity`: records what a golden test measured, and fails where docs/parity.csv says otherwise."""

    def __init__(self, recorded: Mapping[tuple[str, str], Measured] | None) -> None:
        self.recorded = recorded
        self.found: dict[tuple[str, str], Measured] = {}

    def __call__(self, protocol: str, stage: str, difference: float, compared: int, unit: str = "") -> None:
        """A stage of a protocol ("davis/dino", "frames"), what was measured, and on how many numbers."""
        assert stage in STAGES
        key, found = (protocol, stage), Measured(float(difference), unit, int(compared))
        self.found[key] = self.found[key].and_also(found) if key in self.found else found
        if self.recorded is None or key not in self.recorded:
            return  # the page claims nothing of a stage that is not in the file
        known = self.recorded[key]
        assert known.unit == unit
        assert found.difference <= OTHER_MACHINES * known.difference + ROUNDING[unit], (
            f"{protocol}, {stage}: {found.difference:g} now, {known.difference:g} in {FILE.name} and on the parity page"
        )


def read(path: Path = FILE) -> dict[tuple[str, str], Measured]:
    with path.open(newline="", encoding="utf-8") as file:
        return {
            (row["protocol"], row["stage"]): Measured(float(row["difference"]), row["unit"], int(row["compared"]))
            for row in csv.DictReader(file)
        }


def write(found: Mapping[tuple[str, str], Measured], path: Path = FILE) -> None:
    """What was measured in place of what the file says of the same stages."""
    known = {**(read(path) if path.exists() else {}), **found}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for (protocol, stage), one in sorted(known.items(), key=lambda item: (item[0][0], STAGES.index(item[0][1]))):
            writer.writerow([protocol, stage, f"{one.difference:.2g}", one.unit, one.compared])
