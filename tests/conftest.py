"""Goldens and data: tests/golden for its copies, else $CORRKIT_SHARED, else `shared` beside the repository."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Several processes with as many threads as there are cores would only wait for each other. Read when torch is
    # imported, here and in the processes that tests start.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

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


def pytest_cmdline_main(config: pytest.Config) -> None:
    """Of several processes (`-n`) the one that is done takes tests from the others: long ones stand side by side."""
    if config.getoption("dist", "no") == "load":
        config.option.dist = "worksteal"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--parity", action="store_true", help="write what golden tests measure into docs/parity.csv")


@pytest.fixture(scope="session")
def parity(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Records the largest difference from published code, for docs/parity.md; see tests/support/parity.py."""
    from parity import Parity, read, write

    rewrites = request.config.getoption("--parity")
    recorder = Parity(None if rewrites else read())
    yield recorder
    if rewrites:
        write(recorder.found)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Training data: four clips of five small frames of noise."""
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    for clip in range(4):
        folder = tmp_path / "data" / f"clip{clip}"
        folder.mkdir(parents=True)
        for frame in range(5):
            pixels = generator.integers(0, 255, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{frame:03d}.png")
    return tmp_path / "data"


class GoldenFinder:
    """golden("davis/level1/dino/c01.npz"): the copy in tests/golden, else the one in shared, else a visible skip."""

    def __call__(self, relative: str) -> Path:
        for root in (REPOSITORY / "tests" / "golden", SHARED / "golden"):
            if (root / relative).exists():
                return root / relative
        pytest.skip(f"golden {relative} is neither in tests/golden nor in {SHARED}")


def _lacks_a_golden(report: Any) -> bool:
    """Marked golden, or skipped by one of the fixtures above, whatever its marks."""
    reason = str(report.longrepr)
    return "golden" in report.keywords or "needs goldens" in reason or "is neither in tests/golden" in reason


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line that .ci/run reads: golden tests are not to be skipped where the goldens are at hand."""
    skipped = terminalreporter.stats.get("skipped", [])
    golden = [report for report in skipped if _lacks_a_golden(report) and "gpu" not in report.keywords]
    terminalreporter.write_line(f"skipped tests: {len(skipped)}, golden ones: {len(golden)}")
