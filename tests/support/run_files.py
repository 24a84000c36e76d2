"""The files of a run, to be compared with those of another."""

import json
from pathlib import Path


def run_files(folder: Path) -> dict[str, bytes | dict[str, object]]:
    """What must be the same, whoever evaluates: all but the timing of a record, and what run.json merely records."""
    found: dict[str, bytes | dict[str, object]] = {}
    for path in (path for path in sorted(folder.rglob("*")) if path.is_file()):
        found[str(path.relative_to(folder))] = path.read_bytes()
        if path.parent.name == "clips" or path.name == "run.json":
            document = json.loads(path.read_bytes())
            document.pop("recorded", None)
            document.get("record", {}).pop("timing", None)
            found[str(path.relative_to(folder))] = document
    return found
