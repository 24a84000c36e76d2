"""`corrkit doctor`: what it finds here, and what it says mends it."""

import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from davis_folder import make_clip

from corrkit.backbones.networks import vit
from corrkit.cli import main
from corrkit.diagnosis import data, installation, machine, outlook
from corrkit.manifests.clips import official_clips
from corrkit.processes.workers import suitable_workers
from corrkit.propagation import probe

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = (64, 96)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What $CORRKIT_DATA names."""
    monkeypatch.setenv("CORRKIT_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measures on small frames; the whole takes seconds."""
    monkeypatch.setattr(outlook, "SIZE", SMALL)


def by_name(facts) -> dict[str, Any]:
    return {fact.name: fact for fact in facts}


def test_data_that_are_missing_come_with_the_command_that_gets_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CORRKIT_DATA", raising=False)
    found = by_name(data.facts())
    assert found["davis"].mend == "corrkit data get davis --to FOLDER/davis; export CORRKIT_DATA=FOLDER"
    assert found["vip"].mend == "corrkit data get vip"  # prints the page: nothing can be downloaded
    assert "by hand" in found["vip"].text


def test_where_the_folder_is_set_data_go_into_it(folder: Path):
    assert by_name(data.facts())["davis"].mend == f"corrkit data get davis --to {folder}/davis"


def test_a_variable_that_names_no_folder_is_said_once(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CORRKIT_DATA", str(folder / "absent"))
    (fact,) = data.facts()
    assert "absent, which is not a folder" in fact.text
    assert "unset $CORRKIT_DATA" in fact.mend


def test_a_data_set_with_clips_that_lack_frames_is_incomplete(folder: Path):
    make_clip(folder / "davis", "blackswan", frames=3, size=(48, 64))
    fact = by_name(data.facts())["davis"]
    assert "1 clip(s), 3 frames of val; INCOMPLETE: 30 of 30 clips lack frames: bike-packing, " in fact.text
    assert fact.value["complete"] is False
    assert fact.mend == "corrkit data check davis"


def test_a_data_set_is_complete_by_the_numbers_of_its_manifest(folder: Path, monkeypatch: pytest.MonkeyPatch):
    make_clip(folder / "davis", "blackswan", frames=3, size=(48, 64))
    short = [replace(clip, num_frames=3) for clip in official_clips("davis", "val") if clip.clip == "blackswan"]
    monkeypatch.setattr(data, "official_clips", lambda task, split: tuple(short))
    fact = by_name(data.facts())["davis"]
    assert fact.value["complete"] is True
    assert not fact.mend


def test_data_of_ones_own_are_counted(folder: Path):
    make_clip(folder / "davis", "mine", frames=2, size=(48, 64))
    fact = by_name(data.facts())["davis"]
    assert fact.text.endswith("1 clip(s), 2 frames of val; data of your own")
    assert not fact.mend


def test_a_data_set_that_cant_be_read_says_what_its_reader_says(folder: Path):
    (folder / "davis").mkdir()
    fact = by_name(data.facts())["davis"]
    assert "is not in DAVIS layout" in fact.text
    assert "Expected: ROOT/JPEGImages/480p" in fact.mend


def test_an_extra_that_is_missing_comes_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(installation, "version", lambda package: None if package == "huggingface_hub" else "1.0")
    found = by_name(installation.facts())
    assert found["extra hub"].mend == "pip install 'corrkit[hub]'"
    assert not found["extra lightning"].mend
    assert not found["packages"].mend


def test_the_extras_are_those_of_the_project():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {
        name: {re.split(r"[<>=~]", requirement)[0] for requirement in requirements}
        for name, requirements in project["optional-dependencies"].items()
    }
    known = {name: set(packages) for name, (packages, _) in installation.EXTRAS.items()}
    assert known == {name: packages for name, packages in extras.items() if name not in {"test", "docs"}}


def test_both_decoders_of_jpeg_are_asked(monkeypatch: pytest.MonkeyPatch):
    import cv2

    assert installation.jpeg_decoders_agree()
    honest = cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda *a: np.flip(honest(*a), 0))
    found = by_name(installation.facts())["JPEG decoders agree"]
    assert found.value is False
    assert "simplejpeg" in found.mend


@pytest.mark.parametrize("lost", ["batches", "threads"])
def test_results_that_depend_on_how_the_work_is_divided_are_told(lost: str, monkeypatch: pytest.MonkeyPatch):
    assert set(probe.stability()) == {"tiles", "batches", "threads"}
    honest = probe._layers

    def other(tokens: torch.Tensor) -> torch.Tensor:
        is_other = len(tokens) == 1 if lost == "batches" else torch.get_num_threads() > 1
        return honest(tokens) + is_other

    monkeypatch.setattr(probe, "_layers", other)
    before = torch.get_num_threads()
    assert probe.stability()[lost] is False
    assert torch.get_num_threads() == before
    assert f"NOT over {lost}" in by_name(machine.facts())["results bit-equal"].text


def test_a_setting_around_that_changes_products_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    assert by_name(machine.facts())["$NVIDIA_TF32_OVERRIDE"].mend == "unset NVIDIA_TF32_OVERRIDE"


def test_what_the_caller_set_for_products_is_not_what_an_evaluation_computes_in():
    products: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = products.fp32_precision
    products.fp32_precision = "bf16"
    try:
        assert by_name(machine.facts())["precision"].value["oneDNN products"] == "ieee"
    finally:
        products.fp32_precision = before


def test_the_estimate_is_what_was_measured_times_the_frames_of_davis(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(outlook, "seconds_of_encoding", lambda device, size: 0.9)
    monkeypatch.setattr(outlook, "seconds_of_matching", lambda device, size: 0.1)
    fact = by_name(outlook.facts())["DAVIS val"]
    assert fact.value["seconds"] == pytest.approx(1999 / suitable_workers(1999, "cpu"))
    assert "900 ms to encode and 100 ms to match" in fact.text


def test_the_probe_takes_longer_for_larger_frames():
    here = torch.device("cpu")
    with torch.no_grad():
        for measure in (outlook.seconds_of_encoding, outlook.seconds_of_matching):
            assert 0 < measure(here, SMALL) < measure(here, (4 * SMALL[0], 4 * SMALL[1]))


def test_on_a_slow_machine_the_probe_runs_one_block_of_the_network(monkeypatch: pytest.MonkeyPatch):
    honest, blocks = vit.Block.forward, []
    monkeypatch.setattr(vit.Block, "forward", lambda self, *a: blocks.append(self) or honest(self, *a))
    monkeypatch.setattr(outlook, "LONGEST", 0.0)
    with torch.no_grad():
        assert outlook.seconds_of_encoding(torch.device("cpu"), SMALL) > 0
    assert len(blocks) == 2  # with the rehearsal


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("columns", [80, 200])
def test_lines_fit_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.delenv("CORRKIT_DATA", raising=False)
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    assert [line for line in lines if not line.startswith(" ")] == ["installation", "computing", "data", "time"]


@pytest.mark.usefixtures("quick")
def test_json_has_every_fact_with_what_mends_it(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["computing"]["precision"]["value"]["type"] == "float32"
    assert found["data"]["jhmdb"]["mend"] == f"corrkit data get jhmdb --to {folder}/jhmdb"
    assert found["time"]["DAVIS val"]["value"]["frames"] == 1999
