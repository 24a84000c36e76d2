"""Pairs of `corrkit eval` started at once into one folder: python races.py DATA FOLDER ROUNDS prints a JSON line each.

Each runs the whole program in a process of its own, forked from one that has imported it: only the start is shared.
"""

import json
import os
import sys
from pathlib import Path

import corrkit.cli

CHECKPOINTS = ("identity", "oracle")


def start(data: str, out: Path, checkpoint: str, gate: int, errors: Path) -> int:
    """The id of a process that evaluates as soon as the gate is closed."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.read(gate, 1)
        code = corrkit.cli.main(["eval", "davis", "--ckpt", checkpoint, "--data", data, "--out", str(out)])
    finally:
        os._exit(code)


def race(data: str, out: Path, names: tuple[str, ...]) -> dict[str, object]:
    gate, hand = os.pipe()
    messages = {name: out.with_name(f"{out.name}-{name}.txt") for name in names}
    children = {}
    for name in names:
        children[name] = start(data, out, name, gate, messages[name])
    os.write(hand, b"go")
    codes = {name: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for name, child in children.items()}
    os.close(gate)
    os.close(hand)
    records = [json.loads(path.read_text())["record"] for path in sorted((out / "clips").iterdir())]
    return {
        "codes": codes,
        "owner": json.loads((out / "run.json").read_text())["fingerprint"]["checkpoint"],
        "records": [record["statistics"]["J"] for record in records],
        "messages": {name: path.read_text() for name, path in messages.items()},
    }


if __name__ == "__main__":
    root, folder, rounds = sys.argv[1:]
    for checkpoint in CHECKPOINTS:  # what each finds alone; it also brings in what is imported on use
        alone = Path(folder) / checkpoint
        corrkit.evaluate("davis", checkpoint, data=root, out=alone)
    for number in range(int(rounds)):
        order = CHECKPOINTS[:: -1 if number % 2 else 1]
        print(json.dumps(race(root, Path(folder) / f"run{number}", order)), flush=True)
