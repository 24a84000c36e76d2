"""Clips of thousands of frames are evaluated in constant memory."""

import runpy

import pytest

from tests.conftest import REPOSITORY

MEGABYTES = 50


@pytest.mark.slow
def test_a_vip_clip_of_1000_frames_needs_no_more_memory_than_one_of_50():
    short, long = runpy.run_path(str(REPOSITORY / "benchmarks/memory_vip.py"))["peak_memories"](50, 1000)
    print(f"50 frames: {short:.0f} MB, 1000 frames: {long:.0f} MB")
    assert long - short <= MEGABYTES
