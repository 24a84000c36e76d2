"""Writes the tables of docs/parity.md: measured differences (docs/parity.csv), protocols, attestations."""

import csv
import re
from pathlib import Path

from corrkit.protocols import Protocol, load_protocol
from corrkit.protocols.files import shipped
from corrkit.runs.attestations import Attestation, shipped_attestations
from corrkit.task_table import task_names

FOLDER = Path(__file__).parent
PAGE, MEASURED, UNPROVEN = FOLDER / "parity.md", FOLDER / "parity.csv", FOLDER / "unproven.csv"
STAGES = {
    "frames": "frames to tensors",
    "labels": "first labels to the grid",
    "propagation": "features to labels",
    "near ties": "cells that near ties decide",
    "read-out": "labels to masks or joints",
    "end to end": "all stages",
    "score": "score, all stages",
}


def updated(page: str, measured: list[dict[str, str]], attestations: list[Attestation]) -> str:
    """The page with its tables as protocols, measurements and attestations are now."""
    protocols = [load_protocol(name, task) for task in task_names() for name in shipped(task)]
    tables = {
        "parity": parity(protocols, measured),
        "open": open_points(protocols),
        "unproven": unproven(rows(UNPROVEN)),
        "attested": attested(attestations),
    }
    for name, text in tables.items():
        page = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)",
            lambda match, text=text: f"{match[1]}{text}\n{match[2]}",
            page,
            flags=re.DOTALL,
        )
    return page


def parity(protocols: list[Protocol], measured: list[dict[str, str]]) -> str:
    """A row for each protocol, a column for each stage; a stage without a golden is empty."""
    known = {(row["protocol"], row["stage"]): row for row in measured}
    stages = [stage for stage in STAGES if any(row["stage"] == stage for row in measured)]
    lines = [f"| protocol | {' | '.join(STAGES[stage] for stage in stages)} | rests on |"]
    lines += [f"|---|{'---|' * (len(stages) + 1)}"]
    for protocol in protocols:
        name = f"{protocol.task}/{protocol.name}"
        rows = [known.get((name, stage)) for stage in stages]
        lines.append(
            f"| `{name}` | {' | '.join(cell(row) if row else '' for row in rows)} | {standing(protocol, rows)} |"
        )
    return "\n".join(lines)


def cell(row: dict[str, str]) -> str:
    """A difference, or how many differ of how many."""
    difference, count = float(row["difference"]), int(row["compared"])
    if row["unit"] == "joints":
        return f"{100 * difference:.2g} % of {count:,} joints by over half a cell"
    if row["unit"]:
        return f"{difference:.0f} of {count:,} {row['unit']}"
    return "equal" if difference == 0 else f"{difference:.1e}"


def standing(protocol: Protocol, rows: list[dict[str, str] | None]) -> str:
    """Proven end to end, proven in parts, by what it shares with another protocol, or a source text alone."""
    has = {row["stage"] for row in rows if row}
    if has & {"end to end", "score"}:
        return "runs of the published code"
    if "run end to end" in protocol.proven or "e2e/" in protocol.proven:
        return "runs of the published code (not measured for this page yet)"
    if has:
        return "parts of the published code"
    return "another protocol's goldens" if protocol.proven.startswith("by ") else "no golden"


def open_points(protocols: list[Protocol]) -> str:
    """What each protocol itself says to be proven by, what was read in no code, and what nobody has published."""
    lines = ["| protocol | proven by | not read in code | unreleased |", "|---|---|---|---|"]
    for protocol in protocols:
        lines.append(
            f"| `{protocol.task}/{protocol.name}` | {protocol.proven} | {from_texts(protocol)} "
            f"| {'; '.join(protocol.unreleased)} |"
        )
    return "\n".join(lines)


TEXTS = {
    "not stated": "nowhere stated",
    "arXiv": "of a paper's text",
    "unverified": "of a text, not compared with it",
    "user-reported": "reported by users",
}
"""How the source of a constant begins that was read in no code, and what that is called."""


def from_texts(protocol: Protocol) -> str:
    """The constants of a protocol that were read in no code, by what they were read in."""
    found = {}
    for begin, said in TEXTS.items():
        names = [name.partition(".")[2] for name, source in protocol.sources.items() if source.startswith(begin)]
        if names:
            found[said] = ", ".join(f"`{name}`" for name in sorted(names))
    return "; ".join(f"{said}: {names}" for said, names in found.items())


def unproven(constants: list[dict[str, str]]) -> str:
    """Constants that no golden feels, and why."""
    lines = ["| constant | why |", "|---|---|"]
    for row in constants:
        name, _, task = row["constant"].partition(" of ")
        lines.append(f"| `{name}`{f' ({task})' if task else ''} | {row['why']} |")
    return "\n".join(lines)


def attested(attestations: list[Attestation]) -> str:
    """Who reproduced what, when, on what."""
    if not attestations:
        return "None yet."
    lines = ["| checkpoint | number | published | found | who, when | device | data |", "|---|---|---|---|---|---|---|"]
    for one in attestations:
        for number in one["numbers"]:
            mark = "" if number["within"] else ", not reproduced"
            lines.append(
                f"| {one['checkpoint']} ({one['identified']}) | `{number['protocol']}` {number['metric']} "
                f"| {number['published']:g} | {number['value']:.2f}{mark} | {one['by'] or 'unnamed'}, {one['date']} "
                f"| {one['device']}, torch {one['versions'].get('torch', '?')} | {number['data']} |"
            )
    return "\n".join(lines)


def rows(path: Path = MEASURED) -> list[dict[str, str]]:
    """Of a CSV file: what the golden tests measured, as `pytest -m golden --parity` wrote it, by default."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8"), rows(), shipped_attestations()), encoding="utf-8")
