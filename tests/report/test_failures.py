"""Failures of tracks made by hand: kind, part, and the frame where each begins."""

import math
from pathlib import Path

import davis_folder
import jhmdb_folder
import numpy as np
import pytest
import vip_folder
from scripted import Scripted

from corrkit.evaluation import evaluate
from corrkit.report.failures import Failure, mask_failures, point_failures, score_failures
from corrkit.report.opening import open_run
from corrkit.runs.comparable import read_runs
from corrkit.tasks.jhmdb_points import JOINTS


def story(folder: Path, clip: str, data: Path):
    ((run,), _) = read_runs([folder])
    return open_run(run, data).reader.story(clip)


def lost(index, truth):
    if index >= 4:
        truth[truth == 1] = 0
    return truth


def swapped(index, truth):
    return np.select([truth == 1, truth == 2], [2, 1], 0).astype(np.uint8) if index >= 3 else truth


def leaking(index, truth):
    """Object 1 grows to the left edge: 8 columns more than its 16."""
    if index >= 5:
        rows = np.flatnonzero((truth == 1).any(axis=1))
        truth[rows[0] : rows[-1] + 1, : np.flatnonzero((truth == 1).any(axis=0))[-1] + 1] = 1
        truth[rows[0] : rows[-1] + 1, 40:] = 1
    return truth


def drifting(index, truth):
    """Of object 2 a quarter of the columns is left."""
    if index >= 2:
        columns = np.flatnonzero((truth == 2).any(axis=0))
        truth[:, columns[len(columns) // 4] :][truth[:, columns[len(columns) // 4] :] == 2] = 0
    return truth


def blinking(index, truth):
    """Two frames in the middle are no failure."""
    return truth * 0 if index in (3, 4) else truth


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (lost, ["1 lost from frame 4"]),
        (swapped, ["1 swapped with 2 from frame 3", "2 swapped with 1 from frame 3"]),
        (leaking, ["1 leak from frame 5"]),
        (drifting, ["2 drift from frame 2"]),
        (blinking, []),
        (lambda _, truth: truth, []),
    ],
    ids=["lost", "swapped", "leak", "drift", "blink", "truth"],
)
def test_masks_that_fail_by_hand(tmp_path: Path, rule, expected: list[str]):
    data = davis_folder.make_clip(tmp_path / "data", "walk", frames=9, size=(48, 64))
    evaluate("davis", Scripted("hand", rule), data=data, out=tmp_path / "run")
    told = story(tmp_path / "run", "walk", data)
    assert [failure.text for failure in told.failures] == expected
    assert told.frames == tuple(range(1, 8))
    assert told.parts == ("1", "2")


def test_classes_are_called_by_their_names(tmp_path: Path):
    vip_folder.make_clip(tmp_path / "data", frames=6)

    def rule(index, truth):
        return np.where(truth == 5, 16, truth).astype(np.uint8) if index >= 2 else truth

    evaluate("vip", Scripted("hand", rule), data=tmp_path / "data", out=tmp_path / "run")
    told = story(tmp_path / "run", "videos1", tmp_path / "data")
    assert [failure.text for failure in told.failures] == ["dress lost from frame 2", "right-leg leak from frame 2"]


def test_joints_that_fail_by_hand(tmp_path: Path):
    """Positions on a ring: every joint is far from every other."""
    angles = 2 * np.pi * np.arange(len(JOINTS)) / len(JOINTS)
    ring = np.stack([100 + 80 * np.cos(angles), 100 + 80 * np.sin(angles)], axis=1)
    joints = np.stack([ring] * 8)
    jhmdb_folder.make_clip(tmp_path / "data", frames=8, size=(200, 240), joints=joints)

    def rule(index, truth):
        if index >= 2:
            truth[0] = np.nan  # neck
        if index >= 3:
            truth[[9, 10]] = truth[[10, 9]]  # knees
        if index >= 4:
            truth[2] = (100, 100)  # face: 80 pixels off; the figure's size is 0.6 * 226
        if index >= 5:
            truth[5] += (0, 3)  # right hip: within 0.1
        return truth

    evaluate("jhmdb", Scripted("hand", rule), data=tmp_path / "data", out=tmp_path / "run")
    told = story(tmp_path / "run", "Ball_jump_f_nm_np1_fr_med_0", tmp_path / "data")
    assert [failure.text for failure in told.failures] == [
        "neck lost from frame 2",
        "right-knee swapped with left-knee from frame 3",
        "left-knee swapped with right-knee from frame 3",
        "face lost from frame 4",
    ]
    assert told.scores["within 0.1"][:, -1].sum() == len(JOINTS) - 4


def test_a_swap_needs_the_prediction_on_another_part():
    """Object 1 vanishes while object 2's prediction covers both: 1 is lost, 2 leaks; nothing is swapped."""
    frame = np.array([[80, 0, 0], [0, 0, 10], [0, 0, 10]])
    counts = np.stack([frame] * 3)
    scores = np.array([[0.0] * 3, [0.5] * 3])
    assert mask_failures([4, 5, 6], counts, ["a", "b"], scores) == [
        Failure(part="a", kind="lost", frame=4),
        Failure(part="b", kind="leak", frame=4),
    ]


def test_frames_without_the_part_neither_end_nor_begin_a_failure():
    """Lost in frames 2 and 5, not there in 3 and 4: three frames would do, two at the end do, one in the middle not."""
    fine = np.array([[90, 0], [0, 10]])
    gone, absent = np.array([[90, 0], [10, 0]]), np.array([[100, 0], [0, 0]])
    counts = np.stack([fine, gone, absent, absent, gone])
    scores = np.array([[1, 0, math.nan, math.nan, 0]])
    assert mask_failures([1, 2, 3, 4, 5], counts, ["a"], scores) == [Failure(part="a", kind="lost", frame=2)]
    counts = np.stack([fine, gone, absent, fine, fine])
    assert mask_failures([1, 2, 3, 4, 5], counts, ["a"], np.array([[1, 0, math.nan, 1, 1]])) == []


def test_scores_alone_tell_what_is_lost_and_what_drifts():
    scores = np.array([[0.9, 0.9, 0.9, 0.4, 0.3, 0.2], [0.9, 0.9, 0.02, 0.0, 0.0, 0.9], [0.9] * 6])
    assert score_failures([1, 2, 3, 4, 5, 6], ["a", "b", "c"], scores) == [
        Failure(part="a", kind="drift", frame=4),
        Failure(part="b", kind="lost", frame=3),
    ]


def test_a_point_within_the_second_threshold_is_fine():
    truth = np.stack([np.array([[0.0, 0.0], [0.0, 100.0]])] * 4)  # the figure's size is 60
    near, far = truth + np.array([12.0, 0.0]), truth + np.array([12.5, 0.0])
    assert point_failures([0, 1, 2, 3], truth, near, ["a", "b"]) == []
    assert [one.kind for one in point_failures([0, 1, 2, 3], truth, far, ["a", "b"])] == ["drift", "drift"]
