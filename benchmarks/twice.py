"""The same command started twice at once, over one alone: whether processes that don't know of each other share well.

Wall time of `corrkit eval davis` with its own choice of workers and threads, the least of the rounds.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from measuring import Bar, Row, Settings

BAR = Bar(relation="<=", must=2.5, aim=2.1)


def rows(settings: Settings, part: str) -> Iterator[Row]:
    """Two at once over one."""
    words = ["eval", "davis", "--ckpt", "hog" if settings.quick else "random:vit_tiny_patch16_224", "-q"]
    words += ["--data", str(settings.data or "embedded"), "--device", settings.device]
    rounds = 1 if settings.quick else 2
    alone, both = [], []
    for _ in range(rounds):
        alone.append(seconds_of(1, words))
        both.append(seconds_of(2, words))
    yield Row(what="two at once over one alone", value=min(both) / min(alone), bar=BAR)


def seconds_of(count: int, words: list[str]) -> float:
    """Until all of so many processes have ended; each has its own run folder."""
    free = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "corrkit", *words, "--out", f"{folder}/{number}"],
                stdout=subprocess.DEVNULL,
                env=free,
            )
            for number in range(count)
        ]
        codes = [process.wait() for process in processes]
        assert not any(codes), codes
        return time.perf_counter() - began
