"""A run folder: what resumes it, what is another run, and the folder that is taken where none is named."""

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from colour_backbone import ColourBackbone
from davis_folder import make_clips
from small_evaluation import evaluate

from corrkit.errors import RunError
from corrkit.lanes import run_folder
from corrkit.predictors.loading import make_predictor
from corrkit.protocols import load_protocol, override
from corrkit.tasks.masks import write_mask


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_clips(tmp_path / "DAVIS", frames=5)


def run_bytes(folder: Path) -> dict[str, bytes]:
    """Every file of a run folder, timing fields aside."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            if path.parent.name == "clips":
                document = json.loads(content)
                del document["record"]["timing"]
                content = json.dumps(document).encode()
            found[str(path.relative_to(folder))] = content
    return found


def test_repeating_a_command_resumes_and_ends_with_the_same_bytes(data: Path, tmp_path: Path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    evaluate(ColourBackbone(), data=data, out=whole, save_predictions=True)
    shutil.copytree(whole, broken)
    for name in ("summary.json", "summary.csv", "clips/b.json"):
        (broken / name).unlink()
    shutil.rmtree(broken / "predictions" / "b")
    calls: list[str] = []
    evaluate(
        ColourBackbone(),
        data=data,
        out=broken,
        save_predictions=True,
        progress=lambda clip, done, total: calls.append(clip),
    )
    assert set(calls) == {"b"}
    assert run_bytes(broken) == run_bytes(whole)


def test_another_setting_in_the_same_folder_is_refused_with_the_difference(data: Path, tmp_path: Path):
    evaluate(ColourBackbone(), data=data, out=tmp_path / "run")
    with pytest.raises(RunError, match=r"affinity\.topk"):
        evaluate(ColourBackbone(), data=data, out=tmp_path / "run", topk=7)
    with pytest.raises(RunError, match="checkpoint"):
        evaluate(ColourBackbone(8), data=data, out=tmp_path / "run")


def test_changed_annotations_are_another_data_set(data: Path, tmp_path: Path):
    evaluate(ColourBackbone(), data=data, out=tmp_path / "run")
    write_mask(data / "Annotations/480p/a/00003.png", np.ones((48, 64), np.uint8))
    with pytest.raises(RunError, match="data"):
        evaluate(ColourBackbone(), data=data, out=tmp_path / "run")


def test_a_corrected_frame_of_the_same_size_is_another_data_set(data: Path, tmp_path: Path):
    frame = data / "JPEGImages/480p/a/00002.jpg"
    pixels = np.full((48, 64, 3), 7, np.uint8)
    for value in (b"BM-one", b"BM-two"):
        cv2.imwrite(str(frame), pixels)
        with frame.open("ab") as file:  # bytes after the end marker: the same size, other content
            file.write(value)
        os.utime(frame, (1, 1))
        if value == b"BM-one":
            evaluate(ColourBackbone(), data=data, out=tmp_path / "run")
    with pytest.raises(RunError, match=r"data\.identity"):
        evaluate(ColourBackbone(), data=data, out=tmp_path / "run")


def test_backbone_without_digest_runs_but_cannot_be_resumed(data: Path, tmp_path: Path):
    backbone = ColourBackbone()
    del backbone.digest
    evaluate(backbone, data=data, out=tmp_path / "run")
    with pytest.raises(RunError, match="can't be resumed"):
        evaluate(backbone, data=data, out=tmp_path / "run")


def test_predictions_are_kept_unless_that_is_refused(data: Path, tmp_path: Path):
    """A clip that was finished without them is not evaluated again, but where they are asked for."""
    kept, without = tmp_path / "kept", tmp_path / "without"
    evaluate(ColourBackbone(), data=data, out=kept)
    assert len(list((kept / "predictions").rglob("*.png"))) == 3 * 5
    evaluate(ColourBackbone(), data=data, out=without, save_predictions=False)
    assert not (without / "predictions").exists()
    (without / "clips/b.json").unlink()
    seen: list[str] = []
    evaluate(ColourBackbone(), data=data, out=without, progress=lambda clip, done, total: seen.append(clip))
    assert set(seen) == {"b"}
    assert {path.parent.name for path in (without / "predictions").rglob("*.png")} == {"b"}
    evaluate(ColourBackbone(), data=data, out=without, save_predictions=True)
    assert run_bytes(without) == run_bytes(kept)


def test_other_data_of_the_same_content_is_another_run(data: Path, tmp_path: Path):
    evaluate("identity", data=data, out=tmp_path / "run")
    with pytest.raises(RunError, match=r"data\.dataset_name is None there and mine now"):
        evaluate("identity", data=data, out=tmp_path / "run", dataset_name="mine")


def test_the_name_of_the_datas_folder_makes_no_other_run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = evaluate("identity", data=data, out=tmp_path / "run")
    data.rename(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = evaluate("identity", data=".", out=tmp_path / "run")
    assert again.summary["data"]["identity"] == first.summary["data"]["identity"]
    assert any("is resumed: 3 clip(s) were done by" in note for note in again.notes)


@pytest.mark.parametrize("damage", ["missing", "changed", "empty"])
def test_predictions_are_counted_and_checked_on_resume(data: Path, tmp_path: Path, damage: str):
    run = tmp_path / "run"
    evaluate(ColourBackbone(), data=data, out=run, save_predictions=True)
    whole, file = run_bytes(run), run / "predictions/b/00002.png"
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(b"" if damage == "empty" else (run / "predictions/b/00003.png").read_bytes())
    calls: list[str] = []
    options = {"out": run, "save_predictions": True, "progress": lambda clip, done, total: calls.append(clip)}
    evaluate(ColourBackbone(), data=data, **options)
    assert set(calls) == {"b"}
    assert run_bytes(run) == whole


def test_default_folders_differ_where_settings_do(tmp_path: Path):
    predictor = make_predictor("identity")
    plain = load_protocol("davis/dino")
    folders = [
        run_folder(predictor, protocol, **settings)
        for protocol, settings in (
            (plain, {"data": "DAVIS"}),
            (plain, {}),
            (override(plain, {"radius": "20"}), {"data": "DAVIS"}),
            (override(plain, {"radius": "21"}), {"data": "DAVIS"}),
            (plain, {"data": "DAVIS", "clips": ["a"]}),
        )
    ]
    assert len(set(folders)) == len(folders)
    assert folders[0].name == "identity-identity-davis-dino"
    assert folders[1].name == "identity-identity-davis-dino-embedded"


@pytest.mark.parametrize("changes", [{"size": "[240]"}, {"frames.size": "240"}, {"frames.size": (240,)}])
def test_one_value_in_another_spelling_is_the_same_run(changes: dict):
    predictor, plain = make_predictor("identity"), load_protocol("davis/dino")
    assert run_folder(predictor, override(plain, changes)) == run_folder(predictor, override(plain, {"size": [240]}))
