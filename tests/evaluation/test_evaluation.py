"""`corrkit.evaluate` and `corrkit.score`: one pipeline, whatever goes wrong with a clip or a setting."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from colour_backbone import ColourBackbone, NaNBackbone
from davis_folder import make_clip, make_clips
from small_evaluation import evaluate

import corrkit
import corrkit.subject
from corrkit.errors import CheckpointError, CorrkitError, DataError, ProtocolError, UsageError
from corrkit.evaluation import evaluate_together
from corrkit.predictors.loading import make_predictor
from corrkit.predictors.propagator import Propagator
from corrkit.protocols import load_protocol, override
from corrkit.runs.tables import results_table
from corrkit.subject import open_subject
from corrkit.tasks import load_task
from corrkit.tasks.identity import data_identity
from corrkit.tasks.masks import write_mask
from corrkit.tasks.sources import open_data


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_clips(tmp_path / "DAVIS", frames=5)


def test_tracker_and_ceiling_lie_above_the_floor(data: Path):
    floor, tracker, ceiling = (
        corrkit.evaluate("davis", model, data=data, clips=["a"], size=[96]).summary["metrics"]["J&F-Mean"]
        for model in ("identity", ColourBackbone(4), "oracle@4")
    )
    # Soft labels may place an edge better than the oracle's hard ones, so these two are not compared.
    assert floor < 0.8 < 0.9 < min(tracker, ceiling)


def test_nothing_is_written_without_out(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(path for path in tmp_path.rglob("*"))
    result = evaluate(ColourBackbone(), data=data)
    assert sorted(path for path in tmp_path.rglob("*")) == before
    assert result.folder is None
    assert set(result.table.columns) == {"value", "low", "high"}
    assert result.table.loc["J&F-Mean", "value"] == result.summary["metrics"]["J&F-Mean"]


def test_saved_predictions_score_the_same_as_the_evaluation(data: Path, tmp_path: Path):
    result = evaluate(ColourBackbone(), data=data, out=tmp_path / "run", save_predictions=True)
    scored = corrkit.score("davis", data=data, pred=tmp_path / "run" / "predictions")
    assert scored.summary["metrics"] == result.summary["metrics"]
    assert scored.summary["intervals"] == result.summary["intervals"]
    assert scored.csvs == {path.name: path.read_text() for path in (tmp_path / "run").glob("*results-val.csv")}


def test_failed_clip_leaves_the_others_and_marks_the_result_partial(data: Path):
    (data / "JPEGImages/480p/b/00002.jpg").write_bytes(b"broken")
    result = evaluate(ColourBackbone(), data=data)
    assert list(result.failures) == ["b"]
    assert "00002.jpg" in str(result.failures["b"])
    assert result.summary["partial"] == ["b"]
    assert list(result.summary["per_clip"]) == ["a", "c"]


def test_frames_of_changing_size_are_named(data: Path):
    shutil.copy(
        next((make_clip(data.parent / "other", size=(40, 40)) / "JPEGImages/480p/walk").iterdir()),
        data / "JPEGImages/480p/b/00003.jpg",
    )
    result = evaluate(ColourBackbone(), data=data)
    assert "frame 3" in str(result.failures["b"])
    assert "is 40x40, frame 0 is 64x48" in str(result.failures["b"])


def test_masks_of_another_size_than_the_frames_are_named(data: Path):
    for index in range(5):
        write_mask(data / f"Annotations/480p/b/{index:05d}.png", np.ones((10, 20), np.uint8))
    result = evaluate(ColourBackbone(), data=data)
    assert "(20x10, the frames are 64x48)" in str(result.failures["b"])


def test_empty_first_mask_fails_that_clip_only(data: Path):
    write_mask(data / "Annotations/480p/b/00000.png", np.zeros((48, 64), np.uint8))
    result = evaluate(ColourBackbone(), data=data)
    assert "holds no object" in str(result.failures["b"])
    assert result.summary["clips"] == 2


def test_nan_features_name_the_frame(data: Path):
    result = evaluate(NaNBackbone(), data=data)
    assert set(result.failures) == {"a", "b", "c"}
    assert "frame 2" in str(result.failures["a"])


@pytest.mark.parametrize("frames", [1, 2])
def test_clips_without_a_scored_frame_count_for_nothing_and_are_named(data: Path, frames: int):
    make_clip(data, "short", frames=frames, size=(48, 64))
    result = evaluate(ColourBackbone(), data=data)
    others = evaluate(ColourBackbone(), data=data, clips=["a", "b", "c"])
    assert result.failures == {}
    assert result.summary["metrics"] == others.summary["metrics"]
    assert result.summary["objects"] == others.summary["objects"]
    assert any("without a scored frame" in note and "short" in note for note in result.notes)


def test_three_clips_give_an_interval_two_give_none(data: Path):
    assert evaluate(ColourBackbone(), data=data).summary["intervals"]["J&F-Mean"] is not None
    two = evaluate(ColourBackbone(), data=data, clips=["a", "b"])
    assert two.summary["intervals"]["J&F-Mean"] is None
    assert two.summary["partial"] == ["c"]


def test_a_part_of_the_benchmark_names_the_clips_that_it_lacks(tmp_path: Path):
    for name in ("bike-packing", "blackswan", "own"):
        make_clip(tmp_path / "DAVIS", name, frames=4, size=(48, 64))
    (note,) = (note for note in evaluate("identity", data=tmp_path / "DAVIS").notes if "data of your own" in note)
    assert "28 of the 30 clips of val are missing (bmx-trees, " in note
    assert note.count(",") == 5  # the first five and an ellipsis: JHMDB may lack 265
    assert note.endswith(", ...).")
    named = evaluate("identity", data=tmp_path / "DAVIS", dataset_name="mine").notes
    assert not any("data of your own" in note for note in named)


def test_own_data_called_embedded_stay_own_data(data: Path):
    summary = evaluate("identity", data=data, dataset_name="embedded-kitchen").summary
    assert summary["data"]["origin"] == "own"
    assert "Embedded clips" not in results_table([summary])
    assert (
        corrkit.evaluate("davis", "identity", data="embedded", clips=["embedded-0"]).summary["data"]["origin"]
        == "embedded"
    )


def test_forward_passes_that_fail_are_the_users_to_mend(data: Path):
    class Broken(torch.nn.Module):
        def forward(self, frames):
            raise ValueError("no such size")

    result = evaluate(Broken(), data=data)
    assert "ValueError: no such size" in str(result.failures["a"])


def test_overrides_mark_the_summary_as_modified(data: Path):
    summary = corrkit.evaluate("davis", ColourBackbone(), data=data, clips=["a"], radius=3).summary
    assert summary["modified"] == {"affinity.radius": 3.0}
    assert corrkit.evaluate("davis", "identity", data=data, radius=12).summary["modified"] == {}


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"radis": 3}, ProtocolError, "Did you mean 'radius'"),
        ({"topk": -1}, ProtocolError, "at least 0"),
        ({"protocol": "dinoo"}, ProtocolError, "Did you mean 'dino'"),
        ({"protocol": "vip/cropmae"}, CorrkitError, "davis"),
        ({"clips": ["aa"]}, DataError, "Known: a, b, c"),
        ({"clips": []}, UsageError, "names no clip"),
        ({"clips": "a"}, UsageError, "names no clip"),
        ({"size": [480, 480]}, ProtocolError, "frames.size"),
        ({"radius": float("inf")}, ProtocolError, "finite"),
        ({"split": "test"}, DataError, "no split 'test'"),
        ({"device": "gpu"}, UsageError, "--device"),
        ({"save_predictions": True}, UsageError, "out="),
        ({"heads": 3}, UsageError, "heads: options of loading"),
        ({"model": "identity", "layer": 3}, CheckpointError, "identity takes no layer"),
        ({"model": "oracle@8", "window": 4}, CheckpointError, "oracle@8 takes no window"),
    ],
)
def test_wrong_arguments_are_explained(data: Path, arguments: dict, error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        evaluate(data=data, **{"model": ColourBackbone(), **arguments})


def test_unknown_task_is_explained():
    with pytest.raises(UsageError, match="Did you mean 'davis'"):
        corrkit.evaluate("davs", "identity")


def test_features_of_another_patch_stay_aligned(data: Path):
    # 14 does not divide 64 and 85: both sides are floored to it, and grid and labels agree.
    result = evaluate(ColourBackbone(14), data=data)
    assert result.failures == {}
    assert result.summary["stride"] == 14


def test_environment_names_the_data(data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CORRKIT_DATA", str(data.parent))
    assert evaluate("identity").summary["data"]["name"] == "DAVIS"
    monkeypatch.setenv("CORRKIT_DATA", str(data.parent / "gone"))
    with pytest.raises(DataError, match="CORRKIT_DATA"):
        evaluate("identity")


def test_data_is_never_written_to(data: Path):
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    evaluate(ColourBackbone(), data=data)
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before


class TestScore:
    def test_missing_clips_are_named(self, data: Path, tmp_path: Path):
        shutil.copytree(data / "Annotations/480p/a", tmp_path / "pred" / "a")
        with pytest.raises(DataError, match="lacks 2 of 3 clips: b, c"):
            corrkit.score("davis", data=data, pred=tmp_path / "pred")
        partial = corrkit.score("davis", data=data, pred=tmp_path / "pred", allow_partial=True, allow_ground_truth=True)
        assert partial.summary["partial"] == ["b", "c"]
        assert partial.summary["metrics"]["J&F-Mean"] == 1.0

    def test_a_folder_with_other_names_says_what_it_holds(self, data: Path, tmp_path: Path):
        (tmp_path / "pred" / "elsewhere").mkdir(parents=True)
        with pytest.raises(DataError, match="It holds elsewhere"):
            corrkit.score("davis", data=data, pred=tmp_path / "pred", allow_partial=True)

    def test_ground_truth_is_refused(self, data: Path):
        with pytest.raises(DataError, match="equals the ground truth"):
            corrkit.score("davis", data=data, pred=data / "Annotations/480p")

    def test_missing_frames_are_named(self, data: Path, tmp_path: Path):
        shutil.copytree(data / "Annotations/480p", tmp_path / "pred")
        (tmp_path / "pred/b/00002.png").unlink()
        (tmp_path / "pred/b/00004.png").unlink()  # the last frame is not scored
        with pytest.raises(DataError, match=r"lacks 1 of 3 scored frames: 00002.png"):
            corrkit.score("davis", data=data, pred=tmp_path / "pred")

    def test_ids_that_the_clip_lacks_are_named(self, data: Path, tmp_path: Path):
        shutil.copytree(data / "Annotations/480p", tmp_path / "pred")
        write_mask(tmp_path / "pred/b/00002.png", np.full((48, 64), 9, np.uint8))
        with pytest.raises(DataError, match="holds id 9"):
            corrkit.score("davis", data=data, pred=tmp_path / "pred")

    def test_scored_predictions_are_not_called_reduced_precision(self, data: Path, tmp_path: Path):
        evaluate(ColourBackbone(), data=data, out=tmp_path / "run", save_predictions=True)
        summary = corrkit.score("davis", data=data, pred=tmp_path / "run/predictions").summary
        assert "precision" not in results_table([summary])

    def test_first_masks_alone_are_not_called_ground_truth(self, data: Path, tmp_path: Path):
        shutil.copytree(data / "Annotations/480p", tmp_path / "pred")
        for path in (data / "Annotations").rglob("*.png"):
            if path.stem != "00000":
                path.unlink()
        result = corrkit.score("davis", data=data, pred=tmp_path / "pred")
        assert "without a scored frame" in " ".join(result.notes)

    def test_masks_alone_are_enough(self, data: Path, tmp_path: Path):
        pred = evaluate(ColourBackbone(), data=data, out=tmp_path / "run", save_predictions=True)
        with_frames = corrkit.score("davis", data=data, pred=pred.folder / "predictions").summary["metrics"]
        shutil.rmtree(data / "JPEGImages")
        assert corrkit.score("davis", data=data, pred=pred.folder / "predictions").summary["metrics"] == with_frames


def test_each_lane_works_and_is_scored_by_its_own_protocol(data: Path, tmp_path: Path):
    subject = open_subject("davis", data=data, overrides={"size": [64], "multiple": 16})
    other = override(subject.protocol, {"radius": 1, "decay": "uint8"})
    predictor = make_propagator(ColourBackbone())
    outs = [tmp_path / "a", tmp_path / "b"]
    together = evaluate_together(subject, [(predictor, subject.protocol), (predictor, other)], outs=outs)
    for result, out, changes in zip(together, outs, ({}, {"radius": 1, "decay": "uint8"}), strict=True):
        alone = evaluate(ColourBackbone(), data=data, **changes)
        assert result.summary["metrics"] == alone.summary["metrics"]
        assert result.summary["modified"] == alone.summary["modified"]
        recorded = json.loads((out / "run.json").read_text())["fingerprint"]["overrides"]
        assert recorded.get("affinity.radius") == changes.get("radius")
    assert together[0].summary["metrics"] != together[1].summary["metrics"]


def test_an_opened_request_is_read_once_for_all_that_use_it(data: Path, monkeypatch: pytest.MonkeyPatch):
    read: list[str] = []
    monkeypatch.setattr(corrkit.subject, "data_identity", lambda clips: read.append("identity") or data_identity(clips))
    subject = open_subject("davis", data=data, overrides={"size": [64], "multiple": 16})
    for _ in range(2):
        evaluate_together(subject, [(make_predictor("identity"), subject.protocol)], outs=[None])
    assert read == ["identity"]


def test_a_subset_of_a_request_has_its_own_identity(data: Path):
    subject = open_subject("davis", data=data)
    part = replace(subject, clips=subject.clips[:1])
    assert part.data != subject.data
    assert part.data == open_subject("davis", data=data, clips=["a"]).data
    assert part.missing({"a": {}}) == ["b", "c"]


@pytest.mark.parametrize("name", ["data", "task", "progress", "clips", "protocol"])
def test_overrides_never_meet_options(data: Path, name: str):
    with pytest.raises(ProtocolError, match=f"no constant named '{name}'"):
        open_subject("davis", data=data, overrides={name: "x"})


class TestNetworkInput:
    """Protocols that agree on what the network sees may share its features."""

    def seen(self, data: Path, backbone=None, **changes):
        (clip, *_) = open_data(load_task("davis"), data, None).clips
        protocol = override(load_protocol("davis/dino"), {"size": [64], "multiple": 16, **changes})
        return make_propagator(backbone or ColourBackbone()).network_input(clip, protocol)

    @pytest.mark.parametrize("changes", [{"topk": 7}, {"radius": 3}, {"temperature": 0.5}, {"position": "size"}])
    def test_is_equal_where_only_what_follows_the_network_differs(self, data: Path, changes: dict):
        assert self.seen(data, **changes) == self.seen(data)

    @pytest.mark.parametrize("changes", [{"size": [48]}, {"std": [0.5, 0.5, 0.5]}, {"interpolation": "bilinear-float"}])
    def test_differs_where_the_frames_do(self, data: Path, changes: dict):
        assert self.seen(data, **changes) != self.seen(data)

    def test_differs_by_the_position_rule_where_there_are_positions_to_resample(self, data: Path):
        backbone = ColourBackbone()
        backbone.report = replace(backbone.report, position="absolute")
        assert self.seen(data, backbone, position="size") != self.seen(data, backbone)

    def test_is_the_size_alone_that_counts_not_how_it_was_said(self, data: Path):
        assert self.seen(data, resize="exact", size=[64, 80]) == self.seen(data)


def make_propagator(backbone) -> Propagator:
    return Propagator(backbone, torch.device("cpu"), name="test")
