"""JHMDB on disk: layouts, lists, odd clips, prediction files, and the errors of bad input."""

import json
import pickle

import numpy as np
import pytest
from colour_backbone import ColourBackbone
from jhmdb_folder import make_clip, save_joints
from scipy.io import savemat

import corrkit
from corrkit.errors import DataError, ProtocolError
from corrkit.protocols import load_protocol, override
from corrkit.tasks import load_task
from corrkit.tasks.jhmdb_points import JOINTS

TASK = load_task("jhmdb")
CROPMAE = load_protocol("jhmdb/cropmae")
AT = "Goalkeeper_@_7_jump_f_cm_np1_ri_med_0"


def open_root(root, split="split1"):
    return TASK.open(root, split=split, dataset_name=None)


def names(dataset) -> list[str]:
    return [clip.name for clip in dataset.clips]


def counts_of(clip, predictions, protocol=CROPMAE) -> np.ndarray:
    scorer = TASK.scorer(clip, protocol, TASK.truth(clip, protocol))
    for index, prediction in enumerate(predictions):
        if prediction is not None:
            scorer.update(index, prediction)
    return np.array(scorer.result()["counts"])


# --- layout -----------------------------------------------------------------------------------------------------------


def test_splits_name_the_test_clips_sorted_by_action(tmp_path):
    make_clip(tmp_path, "B_run_x_0", action="run")
    make_clip(tmp_path, "A_run_x_0", action="run", part=1)
    make_clip(tmp_path, "C_jump_x_0")
    dataset = open_root(tmp_path)
    assert names(dataset) == ["C_jump_x_0", "B_run_x_0"]
    assert not dataset.official
    assert names(open_root(tmp_path, "all")) == ["C_jump_x_0", "A_run_x_0", "B_run_x_0"]


@pytest.mark.parametrize("order", ["MAT FRAMES", "FRAMES MAT"])
@pytest.mark.parametrize("prefix", ["", "/home/someone/JHMDB/", "JHMDB/"])
def test_list_files_take_either_column_order_and_any_prefix(tmp_path, order, prefix):
    truth = make_clip(tmp_path, AT)
    make_clip(tmp_path, "B_jump_x_0")
    columns = {
        "FRAMES": f"{prefix}Rename_Images/jump/{AT}/",
        "MAT": f"{prefix}joint_positions/jump/{AT}/joint_positions.mat",
    }
    (tmp_path / "mine.txt").write_text(" ".join(columns[word] for word in order.split()) + "\n\n")
    for split in ("mine", "mine.txt", str(tmp_path / "mine.txt")):
        dataset = open_root(tmp_path, split)
        assert names(dataset) == [AT]
        np.testing.assert_allclose(dataset.clips[0].annotation(1), truth[1])


@pytest.mark.parametrize(
    "line", ["Rename_Images/jump/A", "a b c", "x/y.mat z/y.mat", "Rename_Images/a Rename_Images/b"]
)
def test_a_list_line_of_another_form_is_an_error(tmp_path, line):
    make_clip(tmp_path)
    (tmp_path / "mine.txt").write_text(line)
    with pytest.raises(DataError, match=r"mine\.txt has the line"):
        open_root(tmp_path, "mine")


@pytest.mark.parametrize("where", [".", ".."])
def test_a_root_one_folder_too_high_is_found(tmp_path, where):
    make_clip(tmp_path / "JHMDB", AT)
    assert names(open_root((tmp_path / "JHMDB" / where).resolve())) == [AT]


def test_a_root_of_another_layout_names_the_expected_tree(tmp_path):
    with pytest.raises(DataError, match=r"joint_positions\.mat"):
        open_root(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        open_root(tmp_path / "nowhere")


def test_an_unknown_split_names_the_known_ones(tmp_path):
    make_clip(tmp_path)
    with pytest.raises(DataError, match="Known: all, split1"):
        open_root(tmp_path, "split7")


def test_without_splits_the_message_says_how_to_go_on(tmp_path):
    make_clip(tmp_path)
    (tmp_path / "splits/jump_test_split1.txt").unlink()
    (tmp_path / "splits").rmdir()
    with pytest.raises(DataError, match="--split all"):
        open_root(tmp_path)
    assert len(open_root(tmp_path, "all").clips) == 1


def test_a_split_whose_clips_are_all_elsewhere_is_an_error(tmp_path):
    make_clip(tmp_path)
    (tmp_path / "splits/jump_test_split1.txt").write_text("Other.avi 2\n")
    with pytest.raises(DataError, match="none of which"):
        open_root(tmp_path)


def test_a_split_without_test_clips_is_an_error(tmp_path):
    make_clip(tmp_path, part=1)
    with pytest.raises(DataError, match="names no clip"):
        open_root(tmp_path)


def test_two_clips_of_one_name_are_an_error(tmp_path):
    make_clip(tmp_path, "A_x_0", action="run")
    make_clip(tmp_path, "A_x_0", action="jump")
    with pytest.raises(DataError, match="one clip name"):
        open_root(tmp_path)


def test_clips_of_one_source_video_form_one_cluster(tmp_path):
    for number in range(3):
        make_clip(tmp_path, f"Ball_jump_f_nm_np1_fr_med_{number}")
    make_clip(tmp_path, AT)
    result = corrkit.evaluate("jhmdb", "identity", data=tmp_path)
    assert result.summary["clips"] == 4
    evidence_units = {clip.source for clip in open_root(tmp_path).clips}
    assert evidence_units == {"Ball", "Goalkeeper_@_7"}


# --- clips ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("frames", "annotated"), [(6, 4), (4, 6)])
def test_more_or_fewer_frames_than_annotations_are_scored_as_far_as_both_go_and_noted(tmp_path, frames, annotated):
    make_clip(tmp_path, frames=frames, annotated=annotated)
    result = corrkit.evaluate("jhmdb", "identity", data=tmp_path)
    assert not result.failures
    assert any(f"joints of {annotated} frames, but {frames} frames are there" in note for note in result.notes)
    (clip,) = open_root(tmp_path).clips
    first = clip.annotation(0)
    assert counts_of(clip, [first] * frames)[-1].tolist() == [3] * len(JOINTS)  # 4 in common, frame 0 not scored


def test_a_gap_in_the_frame_numbers_is_an_error(tmp_path):
    make_clip(tmp_path)
    (tmp_path / "Rename_Images/jump/Ball_jump_f_nm_np1_fr_med_0/00003.png").unlink()
    with pytest.raises(DataError, match=r"00003\.png: frame missing"):
        _ = open_root(tmp_path).clips[0].frames


def test_an_empty_clip_fails_alone(tmp_path):
    make_clip(tmp_path, AT)
    make_clip(tmp_path)
    for path in (tmp_path / "Rename_Images/jump" / AT).iterdir():
        path.unlink()
    result = corrkit.evaluate("jhmdb", "identity", data=tmp_path)
    assert list(result.failures) == [AT]
    assert "holds no frame" in str(result.failures[AT])
    assert result.summary["partial"]


def test_a_set_of_which_no_clip_can_be_evaluated_has_nan_scores(tmp_path):
    make_clip(tmp_path, AT)
    (tmp_path / f"joint_positions/jump/{AT}/joint_positions.mat").write_bytes(b"MATLAB")
    result = corrkit.evaluate("jhmdb", "identity", data=tmp_path)
    assert list(result.failures) == [AT]
    assert np.isnan(result.summary["metrics"]["PCK@0.1"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"pos": np.zeros((2, 15, 4))}, r"has no pos_img \(it holds pos\)"),
        ({"pos_img": np.zeros((2, 13, 4))}, r"shape \[2, 13, 4\]"),
        ({"pos_img": np.full((2, 15, 4), np.nan)}, "no positions"),
        ({"pos_img": "text"}, "no matrix of real numbers"),
    ],
)
def test_a_mat_file_of_other_content_is_an_error(tmp_path, content, message):
    make_clip(tmp_path)
    savemat(tmp_path / "joint_positions/jump/Ball_jump_f_nm_np1_fr_med_0/joint_positions.mat", content)
    with pytest.raises(DataError, match=message):
        open_root(tmp_path).clips[0].annotation(0)


@pytest.mark.parametrize("content", [b"", b"no MATLAB file at all", b"\x89HDF\r\n\x1a\n" + bytes(200)])
def test_a_damaged_mat_file_is_an_error(tmp_path, content):
    make_clip(tmp_path)
    path = tmp_path / "joint_positions/jump/Ball_jump_f_nm_np1_fr_med_0/joint_positions.mat"
    path.write_bytes(content)
    with pytest.raises(DataError, match="can't be read as a MATLAB file"):
        open_root(tmp_path).clips[0].annotation(0)
    path.unlink()
    with pytest.raises(DataError, match="is missing"):
        open_root(tmp_path).clips[0].annotation(0)


def test_a_single_annotated_frame_is_read(tmp_path):
    make_clip(tmp_path, frames=1)
    assert open_root(tmp_path).clips[0].annotation(0).shape == (15, 2)


def test_joints_outside_the_frame_are_scored_by_the_prediction_alone(tmp_path):
    """The truth of joint 0 lies outside. Predicted as invisible it is not scored, found anywhere it is a miss."""
    truth = make_clip(tmp_path)
    truth[:, 0] = (-500.0, 20.0)
    save_joints(tmp_path / "joint_positions/jump/Ball_jump_f_nm_np1_fr_med_0/joint_positions.mat", truth)
    clip = open_root(tmp_path).clips[0]
    invisible = truth.copy()
    invisible[:, 0] = np.nan
    assert counts_of(clip, invisible)[:, 0].tolist() == [0, 0, 0, 0, 0, 0]
    found = truth.copy()
    found[:, 0] = (20.0, 20.0)
    assert counts_of(clip, found)[-1, 0] == 3
    assert counts_of(clip, found)[0, 0] == 0
    result = corrkit.evaluate("jhmdb", ColourBackbone(16), data=tmp_path)
    assert not result.failures


def test_frames_with_no_visible_joint_count_for_nothing(tmp_path):
    truth = make_clip(tmp_path)
    prediction = truth.copy()
    prediction[2] = np.nan
    counts = counts_of(open_root(tmp_path).clips[0], prediction)
    assert counts[-1].tolist() == [2] * 15
    assert counts[0].tolist() == [2] * 15


def test_a_clip_whose_first_frame_shows_no_joint_predicts_none(tmp_path):
    make_clip(tmp_path, joints=np.full((4, 15, 2), -900.0))
    result = corrkit.evaluate("jhmdb", ColourBackbone(16), data=tmp_path)
    assert not result.failures
    assert np.isnan(result.summary["metrics"]["PCK@0.1"])
    assert result.summary["objects"] == 0


def test_frame_zero_is_scored_where_the_protocol_says_so(tmp_path):
    truth = make_clip(tmp_path)
    clip = open_root(tmp_path).clips[0]
    assert counts_of(clip, truth)[-1].tolist() == [3] * 15
    assert counts_of(clip, truth, load_protocol("jhmdb/spa-then-temp"))[-1].tolist() == [4] * 15
    assert counts_of(clip, truth, override(CROPMAE, {"score_first": True}))[-1].tolist() == [4] * 15


def test_visibility_decides_about_x_equal_to_zero(tmp_path):
    truth = make_clip(tmp_path)
    prediction = truth.copy()
    prediction[:, 0, 0] = 0.0
    clip = open_root(tmp_path).clips[0]
    assert counts_of(clip, prediction)[-1, 0] == 3
    assert counts_of(clip, prediction, override(CROPMAE, {"visibility": "positive"}))[-1, 0] == 0


# --- protocols --------------------------------------------------------------------------------------------------------


def test_protocols_of_other_colours_refuse_rgb_networks(tmp_path):
    make_clip(tmp_path)
    with pytest.raises(ProtocolError, match="--set colour=published"):
        corrkit.evaluate("jhmdb", ColourBackbone(16), data=tmp_path, protocol="spa-then-temp")
    result = corrkit.evaluate("jhmdb", ColourBackbone(16), data=tmp_path, protocol="uvc", colour="published")
    assert not result.failures
    assert result.summary["modified"]


@pytest.mark.parametrize("protocol", ["cropmae", "crw", "crw-issue10", "spa-then-temp", "uvc"])
def test_every_protocol_follows_joints_on_a_moving_square(tmp_path, protocol):
    make_clip(tmp_path, size=(96, 128), frames=5)
    result = corrkit.evaluate("jhmdb", ColourBackbone(8), data=tmp_path, protocol=protocol, colour="published")
    assert not result.failures
    assert result.summary["metrics"]["PCK@0.5"] > 0.4


# --- predictions ------------------------------------------------------------------------------------------------------


@pytest.fixture
def clip_and_truth(tmp_path):
    truth = make_clip(tmp_path / "data", AT)
    return open_root(tmp_path / "data").clips[0], truth


def read_all(folder, clip, **options) -> np.ndarray:
    return np.stack(list(TASK.predictions(folder, options).read(clip, CROPMAE)))


def test_written_predictions_are_read_back(tmp_path, clip_and_truth):
    clip, truth = clip_and_truth
    truth[2, 5] = np.nan
    for index in range(4):
        TASK.write_prediction(tmp_path / "p", clip, index, truth[index])
    np.testing.assert_array_equal(read_all(tmp_path / "p", clip), truth)
    assert np.load(tmp_path / "p" / f"{AT}.npy").shape == (4, 15, 2)
    TASK.write_prediction(tmp_path / "p", clip, 0, truth[0])
    assert np.isnan(np.load(tmp_path / "p" / f"{AT}.npy")[1:]).all(), "a clip begun again leaves nothing of the old"


def test_npy_npz_and_csv_say_the_same(tmp_path, clip_and_truth):
    clip, truth = clip_and_truth
    truth[1, 3] = np.nan
    (tmp_path / "a").mkdir()
    np.savez(tmp_path / "a" / f"{AT}.npz", truth)
    np.testing.assert_array_equal(read_all(tmp_path / "a", clip), truth)
    (tmp_path / "b").mkdir()
    lines = ["frame,joint,x,y"]
    for frame in range(4):
        for joint, name in enumerate(JOINTS):
            x, y = ("" if np.isnan(value) else repr(float(value)) for value in truth[frame, joint])
            lines.append(f"{frame},{name if frame % 2 else joint},{x},{y}")
    (tmp_path / "b" / f"{AT}.csv").write_text("\n".join(lines))
    np.testing.assert_array_equal(read_all(tmp_path / "b", clip), truth)


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_published_dat_files_are_read_in_cells(tmp_path, clip_and_truth, protocol, dtype):
    clip, _ = clip_and_truth
    cells = np.random.default_rng(0).uniform(0, 19, (2, 15, 4)).astype(dtype)
    cells[:, 4, 2] = -1
    with (tmp_path / "0.dat").open("wb") as file:
        pickle.dump(cells, file, protocol=protocol)
    joints = read_all(tmp_path, clip, grid=(20, 10))
    expected = np.stack([cells[0] / dtype(20) * dtype(64), cells[1] / dtype(10) * dtype(48)]).transpose(2, 1, 0)
    assert np.isnan(joints[2, 4]).all()
    seen = ~np.isnan(joints)
    assert seen.sum() == 4 * 15 * 2 - 2
    np.testing.assert_array_equal(joints[seen], expected[seen])


def test_a_dat_without_a_grid_is_an_error(tmp_path, clip_and_truth):
    np.zeros((2, 15, 4)).dump(tmp_path / "0.dat")
    with pytest.raises(DataError, match="--grid W,H"):
        read_all(tmp_path, clip_and_truth[0])


def test_a_dat_that_would_call_a_function_is_refused(tmp_path, clip_and_truth):
    witness = tmp_path / "executed"

    class Hostile:
        def __reduce__(self):
            return (exec, (f"open({str(witness)!r}, 'w').close()",))

    (tmp_path / "0.dat").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(DataError, match=r"would call builtins\.exec"):
        read_all(tmp_path, clip_and_truth[0], grid=(20, 20))
    assert not witness.exists()


@pytest.mark.parametrize("content", [{"a": 1}, np.zeros((2, 14, 4)), np.array(["x"], object)])
def test_a_dat_of_other_content_is_an_error(tmp_path, clip_and_truth, content):
    (tmp_path / "0.dat").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=r"0\.dat holds"):
        read_all(tmp_path, clip_and_truth[0], grid=(20, 20))


def test_missing_frames_are_named(tmp_path, clip_and_truth):
    clip, truth = clip_and_truth
    np.save(tmp_path / f"{AT}.npy", truth[:2])
    with pytest.raises(DataError, match="frames 2 to 3 are missing"):
        read_all(tmp_path, clip)


def test_surplus_frames_are_ignored(tmp_path, clip_and_truth):
    clip, truth = clip_and_truth
    np.save(tmp_path / f"{AT}.npy", np.concatenate([truth, truth]))
    assert read_all(tmp_path, clip).shape == (4, 15, 2)


def test_a_folder_of_other_names_says_what_it_holds(tmp_path, clip_and_truth):
    clip, truth = clip_and_truth
    np.save(tmp_path / "other.npy", truth)
    assert not TASK.predictions(tmp_path, {}).holds(clip)
    with pytest.raises(DataError, match=r"data, other\.npy"):
        read_all(tmp_path, clip)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (f"{AT}.npy", b"no array"),
        (f"{AT}.npy", pickle.dumps([1])),
        (f"{AT}.npz", b"PK"),
        (f"{AT}.csv", b"frame,joint,x,y\n0,elbow,1,2"),
        (f"{AT}.csv", b"frame,joint,x,y\n0,neck,1,2"),
        (f"{AT}.csv", b"a,b\n1,2"),
        (f"{AT}.csv", b"\xff\xfe\x00"),
    ],
)
def test_damaged_prediction_files_are_errors(tmp_path, clip_and_truth, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=AT):
        read_all(tmp_path, clip_and_truth[0])


@pytest.mark.parametrize("shape", [(4, 15, 3), (2, 15, 4), (60, 2)])
def test_arrays_of_another_shape_are_errors(tmp_path, clip_and_truth, shape):
    np.save(tmp_path / f"{AT}.npy", np.zeros(shape))
    with pytest.raises(DataError, match="Expected"):
        read_all(tmp_path, clip_and_truth[0])


def test_scoring_saved_predictions_equals_the_evaluation_that_saved_them(tmp_path):
    make_clip(tmp_path / "data", AT)
    make_clip(tmp_path / "data", frames=6)
    run = corrkit.evaluate(
        "jhmdb", ColourBackbone(8), data=tmp_path / "data", out=tmp_path / "run", save_predictions=True
    )
    scored = corrkit.score("jhmdb", data=tmp_path / "data", pred=run.folder / "predictions")
    assert json.dumps(scored.summary["metrics"]) == json.dumps(run.summary["metrics"])  # NaN equals NaN
