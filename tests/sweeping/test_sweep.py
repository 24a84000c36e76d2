"""Sweeps: each number that of its own run, one choice, honestly reported."""

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from colour_backbone import ColourBackbone
from davis_folder import make_clip, make_clips
from run_files import run_files

import corrkit
from corrkit.cli import main
from corrkit.errors import UsageError
from corrkit.protocols import load_protocol, override
from corrkit.sweeping.grid import grid_of, load_preset, preset_names

SMALL = {"size": [48], "multiple": 16}
AXES = {"temperature": [0.01, 0.7], "topk": [1, 5], "context": [1, 7], "radius": [1, "none"]}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Clips a, b and c in val, d in train."""
    root = make_clips(tmp_path / "DAVIS", frames=6, size=(64, 80))
    make_clip(root, "d", 6, (64, 80))
    lists = root / "ImageSets/2017"
    names = lists.joinpath("val.txt").read_text().split()
    lists.joinpath("val.txt").write_text("".join(f"{name}\n" for name in names if name != "d"))
    lists.joinpath("train.txt").write_text("d\n")
    return root


def test_each_number_is_that_of_its_own_run_to_the_last_bit(data: Path):
    found = corrkit.sweep("davis", ColourBackbone(), **AXES, data=data, select_on="val", **SMALL)
    assert len(found.trials) == 17  # and the default, a radius of 12
    assert len({trial.score for trial in found.trials}) > 5
    for trial in found.trials:
        alone = corrkit.evaluate("davis", ColourBackbone(), data=data, protocol=trial.setting)
        assert trial.result.statistics == alone.statistics
        assert {**trial.result.summary, "tuned_on": ""} == {**alone.summary, "tuned_on": ""}


@pytest.mark.parametrize("task", ["davis", "vip", "jhmdb"])
def test_embedded_clips_give_the_numbers_of_their_own_runs(task: str):
    small = {"davis": {"size": [96]}, "vip": {"size": [96]}, "jhmdb": {"size": [96, 96]}}[task]
    clips = [corrkit.evaluation.open_subject(task).clips[0].name]
    swept = {"topk": [3, 10], "temperature": [0.05, 0.7], "context": [2, 20]}
    found = corrkit.sweep(task, "hog", **swept, clips=clips, **small)
    for trial in found.trials[:: len(found.trials) // 3]:
        alone = corrkit.evaluate(task, "hog", protocol=trial.setting, clips=clips)
        assert trial.result.statistics == alone.statistics


def test_the_best_is_chosen_on_train_and_reported_on_val(data: Path, tmp_path: Path):
    found = corrkit.sweep("davis", ColourBackbone(), topk=[1, 5], data=data, out=tmp_path / "sweep", **SMALL)
    assert {clip for trial in found.trials for clip in trial.result.statistics} == {"d"}
    assert {clip for trial in found.reported for clip in trial.result.statistics} == {"a", "b", "c"}
    assert [trial.setting for trial in found.reported if trial.is_best] == [found.best.setting]
    assert found.best.score == max(trial.score for trial in found.trials)
    assert not any("tuned_on" in result.summary for result in found.results)
    folders = sorted(path.parent.name for path in (tmp_path / "sweep/train").glob("*/summary.json"))
    assert folders == ["topk1-multiple16-size48", "multiple16-size48"][::-1]
    assert "tuned-on" not in (tmp_path / "sweep/sweep.csv").read_text()


@pytest.fixture
def command(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    shown = ["--set", "size=[48]", "--set", "multiple=16", "--out", "sweep", "--quiet"]
    return ["sweep", "davis", "--ckpt", "rgb", "--data", str(data), *shown]


def test_a_setting_chosen_on_what_it_is_reported_on_says_so_everywhere(command, tmp_path: Path, capsys):
    asked = ["--temperature", "0.01,0.1", "--topk", "1,5", "--select-on", "val"]
    assert main([*command, *asked, "--format", "markdown"]) == 0
    table = capsys.readouterr().out
    rows = [line for line in table.splitlines() if line.startswith("|")]
    words = [line.split("|")[1].strip() for line in rows[2:]]
    assert words[0] == "best◊"
    assert "◊ tuned-on-val: " in table
    assert sorted(words[1:]) == ["", "", "default"]
    with (tmp_path / "sweep/sweep.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [row["best"] for row in found] == ["True", "False", "False", "False"]
    assert [row["tuned_on"] for row in found] == ["tuned-on-val", "", "", ""]
    assert found[0]["folder"].startswith("sweep/val/")
    written = json.loads((tmp_path / "sweep/sweep.json").read_text())
    assert [summary.get("tuned_on") for summary in written["reported"]] == ["val", None]
    assert written["settings"][0]["tuned_on"] == "tuned-on-val"
    drawn = ElementTree.parse(tmp_path / "sweep/sweep.svg").getroot()
    assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
    assert any("tuned-on-val" in text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text"))
    assert json.loads((tmp_path / found[0]["folder"] / "summary.json").read_text())["tuned_on"] == "val"
    assert "tuned_on" in (tmp_path / found[0]["folder"] / "summary.csv").read_text()
    assert main(["leaderboard", "sweep", "--out", "board.csv"]) == 0
    assert "tuned-on-val" in capsys.readouterr().out
    with (tmp_path / "board.csv").open() as file:
        assert sorted(row["tuned_on"] for row in csv.DictReader(file)) == ["", "", "", "val"]


def test_a_wider_grid_goes_on_where_the_first_ended(command, tmp_path: Path, capsys):
    assert main([*command, "--topk", "1,5", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "sweep").glob("*/*/clips/*.json")}
    assert len(before) == 2 + 3 * len(first["reported"])
    assert main([*command, "--topk", "1,5", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == first
    assert "run folders are resumed" in captured.err
    assert main([*command, "--topk", "1,3,5", "--temperature", "0.1,0.7", "--json"]) == 0
    wider = json.loads(capsys.readouterr().out)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len([row for row in wider["settings"] if row["split"] == "train"]) == 6


def test_workers_write_the_files_of_one_process(data: Path, tmp_path: Path):
    options = {"topk": [1, 5], "context": [1, 7], "data": data, "select_on": "val", **SMALL}
    alone = corrkit.sweep("davis", "rgb", out=tmp_path / "one", **options)
    together = corrkit.sweep("davis", "rgb", out=tmp_path / "two", workers=2, **options)
    assert [trial.result.summary for trial in together.trials] == [trial.result.summary for trial in alone.trials]
    assert run_files(tmp_path / "two" / "val") == run_files(tmp_path / "one" / "val")


def test_layers_and_sizes_are_axes(data: Path, golden):
    base = override(load_protocol("davis/dino"), {"size": [64], "multiple": 0})
    checkpoint = golden("davis/models/probe_vit64_dino.pth")
    found = corrkit.sweep(
        "davis", checkpoint, layers=[2, 4], resolution=[64, 128], heads=4, data=data, protocol=base, select_on="val"
    )
    rows = [(trial.setting.frames.size[0], trial.layer) for trial in found.trials]
    assert sorted(rows) == [(64, "2"), (64, "4"), (128, "2"), (128, "4")]
    assert [(t.setting.frames.size[0], t.layer) for t in found.trials if t.is_default] == [(64, "4")]
    for trial in found.trials:
        alone = corrkit.evaluate("davis", checkpoint, layer=trial.layer, heads=4, data=data, protocol=trial.setting)
        assert trial.result.statistics == alone.statistics


def test_a_clip_that_fails_costs_itself(command, data: Path, capsys):
    (data / "Annotations/480p/b/00000.png").write_bytes(b"")
    assert main([*command, "--topk", "1,5", "--select-on", "val"]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("failed: b") == 1
    assert "partial" in captured.out


def exit_code(arguments: list[str]) -> object:
    """Also that with which argparse ends the program."""
    try:
        return main(arguments)
    except SystemExit as end:
        return end.code


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ([], "Nothing is swept"),
        (["--topk", "5,5"], "names a value twice"),
        (["--topk", "five"], "no list of whole numbers"),
        (["--topk", "-1"], "at least 0"),
        (["--radius", "wide"], "no list of numbers"),
        (["--radius", "3", "--protocol", "dinov3-M-no-window"], "Add --set shape=circle"),
        (["--topk", "5", "--set", "topk=3"], "is swept"),
        (["--preset", "dinov3-table28"], "Did you mean 'dinov3-table27'"),
        (["--preset", "dinov3-table27", "--protocol", "dino"], "a protocol of its own"),
        (["--topk", "5", "--select-on", "tarin"], "no split"),
        (["--topk", "5", "--clips", "a", "--select-on", "train"], "clips"),
    ],
)
def test_what_can_not_be_swept_is_refused_before_the_work(command: list[str], capsys, asked, words):
    assert exit_code([*command, *asked]) == 2
    assert words in capsys.readouterr().err
    assert not Path("sweep").exists()


def test_the_papers_grids_have_as_many_settings_as_the_papers_say():
    counts = {}
    for name in preset_names():
        preset = load_preset(name, "davis")
        grid = grid_of(load_protocol(preset.protocol, preset.task), {}, preset)
        counts[name] = len(grid.settings)
        default = grid.settings[grid.default]
        assert {leaf: grid.values(default).get(leaf, value) for leaf, value in preset.default.items()} == preset.default
    assert counts == {"dinov3-table27": 18, "vjepa2.1-c3": 288}
    with pytest.raises(UsageError, match="is for davis"):
        load_preset("vjepa2.1-c3", "vip")


def test_the_same_clips_under_two_names_of_splits_are_no_training_split(tmp_path: Path):
    root = make_clips(tmp_path / "DAVIS", size=(64, 80))
    (root / "ImageSets/2017/val.txt").unlink()
    (root / "ImageSets/2017").rmdir()
    (root / "ImageSets").rmdir()
    found = corrkit.sweep("davis", ColourBackbone(), topk=[1, 3], data=root, **SMALL)
    assert found.splits.tuned_on == "val"
    assert "same clips" in found.splits.why
