"""The pytest fixture `corrkit_regression`, for the test suites of people who train encoders."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def corrkit_regression() -> Callable[..., None]:
    """A function of model and baseline file that fails where a metric dropped on the embedded clips.

    The model is a spec, a backbone or a module, as for `corrkit.evaluate`; options as there (device, heads, ...).
    """

    def check(model: Any, baseline: str | Path, **options: Any) -> None:
        from corrkit.regression import compare, describe, measure, read_baseline

        path = Path(baseline)
        expected = read_baseline(path)
        rows = compare(measure(model, **options), expected, str(path))
        dropped = [describe(row) for row in rows if row.dropped]
        assert not dropped, "\n".join(dropped)

    return check
