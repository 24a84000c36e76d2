"""Finished runs without an evaluation."""

import pytest
from stored_runs import writer_of_runs


@pytest.fixture
def finished(tmp_path):
    """finished("davis", "a.pth", 0.6) writes a finished run whose scores are near 0.6, and returns its folder."""
    return writer_of_runs(tmp_path)
