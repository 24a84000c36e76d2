"""Where goldens and data are: $CORRKIT_SHARED, else `shared` beside the repository, else tests/golden for its copies."""

import os
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
