"""Driver of tests/cli/test_streams.py: commands of corrkit with streams that are full or closed, each in a fork.

Usage: streams_driver.py PLACE < JSON list of [words, odd streams], each of these as {"1": "full"} or {"0": "closed"}.
Each command runs in PLACE, with an empty folder `new` there. Prints a JSON list of what came of each, as it is and with
each of the odd streams: exit code as a shell sees it, stdout, stderr.
"""

import contextlib
import io
import json
import os
import shutil
import sys
from pathlib import Path

from corrkit.cli import main as corrkit

NAMES = {"0": "stdin", "1": "stdout", "2": "stderr"}
NOT_FLUSHED = 120
"""How Python itself ends where it can't flush a stream at its end."""


def main(place: Path) -> None:
    jobs, found = json.load(sys.stdin), []
    for words, _ in jobs:  # once without a fork: all that is imported is there for the forks
        (place / "new").mkdir(exist_ok=True)
        os.chdir(place)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            corrkit(words)
    for words, odds in jobs:
        found.append([forked(words, odd, place) for odd in ({}, *odds)])
    print(json.dumps(found))


def forked(words: list[str], odd: dict[str, str], place: Path) -> tuple[int, str, str]:
    sys.stdout.flush()
    shutil.rmtree(place / "new", ignore_errors=True)
    (place / "new").mkdir()
    files = {"1": place / "new.out", "2": place / "new.err"}
    child = os.fork()
    if child == 0:
        code = NOT_FLUSHED
        try:
            os.chdir(place)
            for stream, name in NAMES.items():
                redirect(int(stream), name, odd.get(stream), files.get(stream))
            code = run(words)
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, files["1"].read_text(), files["2"].read_text()


def redirect(stream: int, name: str, how: str | None, file: Path | None) -> None:
    target = os.open("/dev/full" if how == "full" else file or "/dev/null", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.dup2(target, stream)
    os.close(target)
    opened = io.TextIOWrapper(io.FileIO(stream, "r" if stream == 0 else "w", closefd=False), line_buffering=stream == 2)
    setattr(sys, name, None if how == "closed" else opened)
    if how == "closed":
        if file is not None:
            file.write_text("")
        os.close(stream)


def run(words: list[str]) -> int:
    """What `python -m corrkit` does, its end included."""
    sys.argv = ["corrkit", *words]
    try:
        code = corrkit()
    except SystemExit as error:
        code = int(error.code or 0)
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            return NOT_FLUSHED
    return code


if __name__ == "__main__":
    main(Path(sys.argv[1]))
