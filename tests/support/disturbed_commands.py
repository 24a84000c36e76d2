"""Driver of tests/runs/test_disturbed.py: commands of corrkit, killed or failed at their write points, and repeated.

Usage: disturbed_commands.py TEMPLATE PLACE KINDS EVERY < JSON list of commands, each a list of words.

Each command runs in a copy of TEMPLATE, in a forked process, so that torch is imported once. KINDS, of which each point
takes the next: "kill", "short" (a write that takes a half, and says so), or the name of an error ("ENOSPC"). Every n-th
point is tried. Prints a JSON object for each command: its own exit code, how many points were tried, how often the
disturbed one ended with which code, and what did not hold: where it said more than a sentence, or where the repeated
command failed or left other bytes than one that nobody disturbed.
"""

import contextlib
import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import kill_points

from corrkit.cli import main as corrkit

SECONDS = re.compile(rb'"?(seconds|retrieved_timestamp)"?: ?"?[-+.e\d]+')
OWN_CLOCK = {".lock", "speed.csv"}
"""Files that say which process wrote them, and how fast."""


def main(template: Path, place: Path, kinds: list[str], every: int) -> None:
    # A killed process takes nothing with it that it has written.
    vars(os)["fsync"] = lambda descriptor: None
    for words in json.load(sys.stdin):
        shutil.rmtree(place, ignore_errors=True)
        print(json.dumps(disturbed(words, template, place, kinds, every)), flush=True)


def disturbed(words: list[str], template: Path, place: Path, kinds: list[str], every: int) -> dict[str, Any]:
    shutil.copytree(template, place / "imports", symlinks=True)
    run(words, place / "imports")  # once without a fork: all that is imported is there for the forks
    shutil.copytree(template, place / "undisturbed", symlinks=True)
    code = forked(words, place / "undisturbed", "never", counts=place / "counts.json")
    expected, counts = content(place / "undisturbed"), json.loads((place / "counts.json").read_text())
    points = list(itertools.islice(points_of(counts, kinds), 0, None, every))
    codes: Counter[int] = Counter()
    wrong = []
    for number, point in enumerate(points):
        here = place / str(number)
        shutil.copytree(template, here, symlinks=True)
        struck = forked(words, here, point)
        said = (place / "said").read_text(errors="replace")
        again = forked(words, here, "never")
        codes[struck] += 1
        # 0 where the point was not reached, or the fault was one that can be lived with.
        is_sound = struck in {code, -signal.SIGKILL} or (struck == 2 and "bug" not in said and "Errno" not in said)
        other = sorted(name for name, digest in {*content(here).items()} ^ {*expected.items()})
        if not is_sound or again not in {code, 2} or other:  # 2: some replace nothing, and all of it is there
            wrong.append([point, struck, again, other[:5], said[-300:]])
        shutil.rmtree(here)
    return {"words": words, "code": code, "points": len(points), "codes": codes, "wrong": wrong}


def points_of(counts: dict[str, int], kinds: list[str]) -> Any:
    """Points as `kill_points.arm` takes them."""
    turn = itertools.cycle(kinds)
    for operation, number in sorted(counts.items()):
        whens = {"kill": ("before", "after"), "short": ()}.get(kinds[0], ("before",))
        if operation == "write":
            whens = ("short",) if kinds == ["short"] else ("before", "half")
        for point in (f"{when}-{operation}-{n}" for n in range(1, number + 1) for when in whens):
            kind = next(turn)
            yield point if kind in {"kill", "short"} else f"{point}:{kind}"


def forked(words: list[str], place: Path, point: str, counts: Path | None = None) -> int:
    """The exit code of a command; minus the signal that killed it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            seen = kill_points.arm(point)
            code = run(words, place)
            if counts is not None:
                counts.write_text(json.dumps(seen))
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(words: list[str], place: Path) -> int:
    """The exit code; what was said goes to a file beside."""
    os.chdir(place)
    with (place.parent / "said").open("w") as said, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        return corrkit(words)


def content(folder: Path) -> dict[str, str]:
    """Path to digest, seconds left out."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(SECONDS.sub(b"", path.read_bytes())).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in OWN_CLOCK
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3].split(","), int(sys.argv[4]))
