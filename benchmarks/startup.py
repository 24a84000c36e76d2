"""Until something happens: help, imports, the first table, the check in CI.

Wall time of fresh processes, the least of the rounds. Bars in seconds are for a machine of two cores that does nothing
else; the ratio to the bare interpreter holds on any.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from types import MappingProxyType

from measuring import Bar, Row, Settings

HELP = Bar(relation="<=", must=150, aim=60)
TABLE = Bar(relation="<=", must=60, aim=20)
REGRESS = Bar(relation="<=", must=90, aim=30)
SPEC = MappingProxyType({False: "random:vit_small_patch16_224", True: "rgb"})


def rows(settings: Settings, part: str) -> Iterator[Row]:
    """Milliseconds of `--help` and imports, or seconds of the first table or of `corrkit regress`."""
    if part == "help":
        rounds = 3 if settings.quick else 15
        bare = 1e3 * least_wall(["-c", "pass"], rounds)
        shown = 1e3 * least_wall(["-m", "corrkit", "--help"], rounds)
        yield Row(what="corrkit --help", value=shown, unit="ms", bar=HELP)
        yield Row(what="corrkit --help over the bare interpreter", value=shown / bare)
        yield Row(what="import corrkit", value=1e3 * least_wall(["-c", "import corrkit"], rounds), unit="ms")
    elif part == "table":
        spec = "rgb" if settings.quick else "hog"
        words = ["-m", "corrkit", "eval", "davis", "--ckpt", spec, "--data", "embedded", "--reference-rows", "-q"]
        yield Row(what="first table of the README", value=least_wall(words, 1), unit="s", bar=TABLE)
    else:
        with tempfile.TemporaryDirectory() as folder:
            words = ["-m", "corrkit", "regress", "--ckpt", SPEC[settings.quick], "--baseline", f"{folder}/new.json"]
            seconds = least_wall([*words, "--update", "-q"], 1)
        yield Row(what="corrkit regress for a ViT-S/16", value=seconds, unit="s", bar=REGRESS)


def least_wall(arguments: Sequence[str], rounds: int) -> float:
    """Seconds of a Python process, as many threads as torch takes."""
    found = []
    free = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=free, cwd=folder)
            found.append(time.perf_counter() - began)
    return min(found)
