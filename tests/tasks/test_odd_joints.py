"""Joints as people have them: unscored, in archives, of other frames, outside of them."""

from pathlib import Path

import numpy as np
import pytest
from jhmdb_folder import make_clip as make_jhmdb_clip
from jhmdb_folder import save_joints
from odd_data import checked
from scipy.io import savemat
from small_copies import pack

import corrkit
from corrkit.errors import DataError


def test_joints_that_are_not_scored_are_counted(tmp_path: Path):
    truth = make_jhmdb_clip(tmp_path / "data", size=(240, 320))
    (tmp_path / "p").mkdir()
    predicted = truth.copy()
    predicted[1:, 2:] = np.nan
    np.save(tmp_path / "p/Ball_jump_f_nm_np1_fr_med_0.npy", predicted)
    result = corrkit.score("jhmdb", data=tmp_path / "data", pred=tmp_path / "p", allow_ground_truth=True)
    assert any(note.startswith("Scored are 6 of 45 joints (13.3%)") for note in result.notes), result.notes
    np.save(tmp_path / "p/Ball_jump_f_nm_np1_fr_med_0.npy", truth + 1)
    assert not corrkit.score("jhmdb", data=tmp_path / "data", pred=tmp_path / "p").notes


def test_archives_of_joints_are_read_but_for_pickles(tmp_path: Path):
    truth = make_jhmdb_clip(tmp_path / "data", size=(240, 320))
    for name in ("npy", "dat"):
        (tmp_path / name).mkdir()
    np.save(tmp_path / "npy/Ball_jump_f_nm_np1_fr_med_0.npy", truth + 1)
    (truth + 1).transpose(2, 1, 0).dump(tmp_path / "dat/0.dat")
    options = {"data": tmp_path / "data", "grid": (320, 240)}
    archives = [pack(tmp_path / name, tmp_path / f"{name}.zip") for name in ("npy", "dat")]
    expected = corrkit.score("jhmdb", pred=tmp_path / "npy", **options).summary["metrics"]
    assert corrkit.score("jhmdb", pred=archives[0], **options).summary["metrics"] == expected
    with pytest.raises(DataError, match=r"0\.dat is a pickle in an archive"):
        corrkit.score("jhmdb", pred=archives[1], **options)


@pytest.mark.parametrize("size", [(120, 160), (480, 640)])
def test_frames_of_another_size_than_jhmdbs_are_noted(size: tuple[int, int], tmp_path: Path):
    make_jhmdb_clip(tmp_path, size=size)
    notes = corrkit.evaluate("jhmdb", "identity", data=tmp_path).notes
    assert any(f"({size[1]}x{size[0]})" in note and "320x240" in note for note in notes)
    own = corrkit.evaluate("jhmdb", "identity", data=tmp_path, dataset_name="mine").notes
    assert all("upper left quarter" in note for note in own), "what else these frames are too large for is not known"


@pytest.mark.parametrize("factor", [0.5, 0.9, 2, 3])
@pytest.mark.parametrize("dataset_name", [None, "mine"])
def test_the_frame_size_that_joints_assume_stands_in_their_file(
    factor: float, dataset_name: str | None, tmp_path: Path
):
    """JHMDB's pos_world is pos_img relative to the frame: together they tell its size, whoever's the data are."""
    height, width = 240, 320
    truth = make_jhmdb_clip(tmp_path, size=(round(height * factor), round(width * factor)))
    scale = np.linspace(0.3, 0.5, len(truth))
    x, y = truth[..., 0] + 1, truth[..., 1] + 1
    world = np.stack([(x / width - 0.5) * width / height, y / height - 0.5]) / scale[None, :, None]
    path = tmp_path / "joint_positions/jump/Ball_jump_f_nm_np1_fr_med_0/joint_positions.mat"
    found = {"pos_img": np.stack([x, y]).transpose(0, 2, 1), "pos_world": world.transpose(0, 2, 1), "scale": scale}
    savemat(path, found)
    notes = corrkit.evaluate("jhmdb", "identity", data=tmp_path, dataset_name=dataset_name).notes
    assert any("of 320x240, the frames are" in note for note in notes)
    assert any("of 320x240, the frames are" in problem for problem in checked(tmp_path, "jhmdb")[0])
    savemat(path, found | {"pos_world": found["pos_world"] * 1.3})  # somebody's own unit tells nothing
    notes = corrkit.evaluate("jhmdb", "identity", data=tmp_path, dataset_name=dataset_name).notes
    assert not any("of 320x240, the frames are" in note for note in notes)


def test_joints_outside_of_the_frames_are_noted_for_any_data(tmp_path: Path):
    truth = make_jhmdb_clip(tmp_path)
    save_joints(tmp_path / "joint_positions/jump/Ball_jump_f_nm_np1_fr_med_0/joint_positions.mat", truth * 2)
    notes = corrkit.evaluate("jhmdb", "identity", data=tmp_path, dataset_name="mine").notes
    assert any("Joints outside of the frames" in note and "frames are 64x48" in note for note in notes)
    assert any("Joints outside of the frames" in note for note in checked(tmp_path, "jhmdb")[1])
