"""Driver of tests/evaluation/test_lost_ranks.py: two ranks, of which one is killed at a write point; then both again.

Usage: killed_ranks.py DATA PLACE RANK@POINT ...

The ranks are forked processes with the environment that torchrun gives, on two machines, as it were: no agent of its
own ends the other rank when one has died. Prints a JSON object: RANK@POINT to the exit codes of both ranks (minus the
signal; None for one that was still there after `SECONDS`), what was said, and the codes of the repeated ranks.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import kill_points
import torch.distributed  # noqa: F401 - imported once, before the forks

from corrkit.cli import main as corrkit

SECONDS = 60
SETTINGS = ["--dataset-name", "x", "-q", "--device", "cpu", "--set", "size=[32]", "--set", "multiple=8"]


def main(data: str, place: Path, cases: list[str]) -> None:
    outcomes = {}
    run("rgb", data, place / "imports", place / "said")  # all that is imported is there for the forks
    for number, case in enumerate(cases):
        rank, _, point = case.partition("@")
        out = place / f"run{number}"
        codes, said = ranks(data, out, {int(rank): point})
        again, repeated = ranks(data, out, {})
        outcomes[case] = {"codes": codes, "said": said, "again": again, "repeated": repeated}
    print(json.dumps(outcomes))


def ranks(data: str, out: Path, points: dict[int, str]) -> tuple[list[int | None], list[str]]:
    """Exit codes and words of both ranks."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = [out.with_name(f"{out.name}-{rank}.txt") for rank in range(2)]
    children = []
    for rank in range(2):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.environ |= {
                    "TORCHELASTIC_RUN_ID": "test",
                    "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": str(port),
                    "RANK": str(rank),
                    "LOCAL_RANK": str(rank),
                    "WORLD_SIZE": "2",
                }
                kill_points.arm(points.get(rank, "never"))
                code = run("rgb", data, out, said[rank])
            finally:
                os._exit(code)
        children.append(child)
    return codes_of(children), [path.read_text(errors="replace") for path in said]


def codes_of(children: list[int]) -> list[int | None]:
    codes: list[int | None] = [None] * len(children)
    end = time.monotonic() + SECONDS
    while None in codes and time.monotonic() < end:
        for number, child in enumerate(children):
            if codes[number] is None and (ended := os.waitpid(child, os.WNOHANG))[0]:
                codes[number] = os.waitstatus_to_exitcode(ended[1])
        time.sleep(0.02)
    for child in (child for child, code in zip(children, codes, strict=True) if code is None):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return codes


def run(network: str, data: str, out: Path, words: Path) -> int:
    """The exit code; what was said goes to a file."""
    command = ["eval", "davis", "--ckpt", network, "--data", data, "--out", str(out), *SETTINGS]
    with words.open("w") as said, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        return corrkit(command)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
