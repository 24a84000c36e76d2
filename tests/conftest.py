"""Where goldens and data are: $CORRKIT_SHARED, else `shared` beside the repository, else tests/golden for its copies."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("CORRKIT_SHARED", REPOSITORY.parent / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of goldens and real data; tests that need more than tests/golden are skipped, visibly, without it."""
    if not (SHARED / "golden").is_dir():
        pytest.skip(f"needs goldens and data at $CORRKIT_SHARED ({SHARED} is missing)")
    return SHARED


@pytest.fixture(scope="session")
def golden() -> "GoldenFinder":
    return GoldenFinder()


class GoldenFinder:
    """golden("davis/level1/dino/c01.npz"): the copy in tests/golden, else the one in shared, else a visible skip."""

    def __call__(self, relative: str) -> Path:
        for root in (REPOSITORY / "tests" / "golden", SHARED / "golden"):
            if (root / relative).exists():
                return root / relative
        pytest.skip(f"golden {relative} is neither in tests/golden nor in {SHARED}")


@pytest.fixture(scope="session")
def watched() -> Callable[..., dict[str, object]]:
    """watched(folder, *arguments): runs tests/checkpoints_watched.py in an empty folder, which must stay so."""

    def run(folder: Path, *arguments: object) -> dict[str, object]:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "OMP_NUM_THREADS": "1",
            "HYPOTHESIS_STORAGE_DIRECTORY": str(folder.parent / "hypothesis"),
        }
        command = [sys.executable, str(REPOSITORY / "tests" / "checkpoints_watched.py"), *map(str, arguments)]
        process = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
        assert process.returncode == 0, process.stderr[-3000:]
        assert not list(folder.iterdir()), "opening wrote into the current folder"
        return json.loads(process.stdout.splitlines()[-1])

    return run
