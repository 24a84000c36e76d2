"""Inputs built after public reports of people who do this job: each with its right value or its refusal."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

import corrkit
from corrkit.datasets.checking import DataCheck
from corrkit.errors import DataError
from corrkit.evaluation import Result
from corrkit.files.archive import open_root

# J&F in per cent of `--ckpt rgb`: what the official tool gives on the same content put in order.
VALUES = {
    "img_ref": 89.5,
    "id_gap_ref": 51.57,
    "list_ref": 71.3,
    "mixed_ref": 65.49,
    "palette_ref": 62.61,
    "order_ref": 72.91,
    "order_unpadded": 72.91,
    "list_slash": 71.3,
    "rubbish_nolist": 71.3,
    "trailer4k": 89.5,
}
# First file and reason of what is refused.
REFUSED = {
    "mask_jpeg_named_png": ("car/00000.png", "JPEG data"),
    "mixed_255_1": ("girls/00001.png", "of another kind than the first"),
    "palette_adaptive": ("girls/00000.png", "re-ordered palette"),
    "mask_beside_frame": ("car/00000.png", "second file of one frame"),
    "corrupt_middle": ("car/00003.jpg", "can't be decoded"),
}
# The official tool's own value on odd data, and the note that goes with it.
NOTED = {"id_gap": (90.3, "each missing id counts as an object")}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def field(shared: Path) -> Path:
    if not (shared / "field").is_dir():
        pytest.skip(f"needs the inputs of {shared / 'field'}")
    return shared / "field"


def evaluated(root: Path) -> Result:
    return corrkit.evaluate("davis", "rgb", data=root)


def percent(result: Result) -> float:
    return result.summary["metrics"]["J&F-Mean"] * 100


def problems(root: Path) -> list[str]:
    check = DataCheck("davis", open_root(root), split="val", expected=())
    return [f"{fault.problem} {' '.join(fault.files)}" for fault in check.faults()]


@pytest.mark.parametrize("folder", VALUES)
def test_content_in_order_has_the_official_tools_value(folder: str, field: Path):
    result = evaluated(field / folder / "data")
    assert not result.failures
    assert percent(result) == pytest.approx(VALUES[folder], abs=0.06)
    assert not problems(field / folder / "data")
    masks = field / folder / "data/Annotations/480p"
    scored = corrkit.score("davis", data=field / folder / "data", pred=masks, allow_ground_truth=True)
    assert percent(scored) == 100
    assert scored.notes == result.notes


@pytest.mark.parametrize("folder", REFUSED)
def test_what_cannot_be_is_refused_with_the_files_name_by_eval_and_data_check(folder: str, field: Path):
    file, reason = REFUSED[folder]
    result = evaluated(field / folder / "data")
    (failure,) = map(str, result.failures.values())
    assert file in failure
    assert reason in failure
    assert any(file in problem for problem in problems(field / folder / "data"))


@pytest.mark.parametrize("folder", ["mask_jpeg_named_png", "mixed_255_1", "palette_adaptive", "mask_beside_frame"])
def test_score_refuses_what_eval_refuses(folder: str, field: Path):
    reference = {"mixed_255_1": "mixed_ref", "palette_adaptive": "palette_ref"}.get(folder, "img_ref")
    with pytest.raises(DataError) as refusal:
        corrkit.score("davis", data=field / folder / "data", pred=field / reference / "data/Annotations/480p")
    assert REFUSED[folder][1] in str(refusal.value)


@pytest.mark.parametrize("folder", NOTED)
def test_where_the_official_tool_defines_a_value_it_stays_with_a_note(folder: str, field: Path):
    value, words = NOTED[folder]
    root = field / folder / "data"
    result = evaluated(root)
    assert percent(result) == pytest.approx(value, abs=0.06)
    scored = corrkit.score("davis", data=root, pred=root / "Annotations/480p", allow_ground_truth=True)
    for notes in (result.notes, scored.notes):
        assert any(words in note for note in notes)
    assert any("ids with gaps" in problem for problem in problems(root))


@pytest.mark.parametrize("prediction", ["pred_1", "pred_255", "pred_1bit"])
def test_davis_2016_predictions_are_read_in_each_form(prediction: str, field: Path):
    result = corrkit.score("davis", data=field / "davis2016/data", pred=field / "davis2016" / prediction)
    assert percent(result) == pytest.approx(97.2, abs=0.06)


@pytest.mark.parametrize(("prediction", "value"), [("ref", 74.3), ("maskname", 74.3), ("ref12", 44.9)])
def test_vip_predictions_have_the_published_scripts_value(prediction: str, value: float, field: Path, shared: Path):
    result = corrkit.score("vip", data=shared / "data/VIP_rendered", pred=field / "vip_score" / prediction)
    assert result.summary["metrics"]["mIoU"] * 100 == pytest.approx(value, abs=0.06)


@pytest.mark.parametrize(
    ("prediction", "reason"),
    [
        ("abstain255", "above the last class, 19, the largest 255"),
        ("beyond", "above the last class, 19"),
        ("void", "above the last class, 19, the largest 255"),
        ("odd_size", "is 600x300, of another aspect ratio"),
        ("upright", "is 360x640, of another aspect ratio"),
        ("from0", "lacks 28 of 28 labelled frames"),
        ("rgb", "its colours are no ids"),
    ],
)
def test_vip_predictions_that_abstain_or_are_stretched_are_refused(
    prediction: str, reason: str, field: Path, shared: Path
):
    with pytest.raises(DataError, match=reason):
        corrkit.score("vip", data=shared / "data/VIP_rendered", pred=field / "vip_score" / prediction)


@pytest.mark.parametrize("factor", [0.5, 2])
def test_jhmdb_frames_of_another_size_than_the_joints_are_noted(factor: float, shared: Path, tmp_path: Path):
    shutil.copytree(shared / "data/JHMDB", tmp_path / "JHMDB")
    for path in (tmp_path / "JHMDB/Rename_Images").rglob("*.png"):
        with Image.open(path) as image:
            image.resize((int(320 * factor), int(240 * factor))).save(path)
    result = corrkit.evaluate("jhmdb", "identity", data=tmp_path / "JHMDB")
    size = f"{int(320 * factor)}x{int(240 * factor)}"
    assert any(f"({size})" in note and "320x240" in note for note in result.notes)
    assert any(f"of 320x240, the frames are {size}" in note for note in result.notes)
    assert not any(
        "320x240" in note for note in corrkit.evaluate("jhmdb", "identity", data=shared / "data/JHMDB").notes
    )
