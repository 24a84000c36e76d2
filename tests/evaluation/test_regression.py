"""`corrkit regress`: comparison rules, baseline files, and that a broken part is caught."""

import json
import re
from dataclasses import fields
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from corrkit import regression
from corrkit.backbones.loading import Loading
from corrkit.cli import main
from corrkit.errors import RunError
from corrkit.regression import Baseline, compare, junit, read_baseline, tolerances, write_baseline
from corrkit.task_table import task_names

TOLERANCES = {task: tolerances(task) for task in task_names() if tolerances(task)}


def measured(value: float = 0.5, data: str = "d") -> Baseline:
    return {
        "corrkit": "0.1.0",
        "checkpoint": {"spec": "rgb", "digest": "x"},
        "protocols": {task: f"{task}/p@1" for task in TOLERANCES},
        "data": dict.fromkeys(TOLERANCES, data),
        "metrics": {task: dict.fromkeys(metrics, value) for task, metrics in TOLERANCES.items()},
        "tolerances": {task: dict(tolerances) for task, tolerances in TOLERANCES.items()},
    }


@pytest.mark.parametrize(("now", "drops"), [(0.5, 0), (0.9, 0), (0.4951, 0), (0.4, 6), (float("nan"), 6)])
def test_only_falls_beyond_the_tolerance_are_drops(now: float, drops: int):
    assert sum(row.dropped for row in compare(measured(now), measured())) == drops


def test_a_baseline_of_other_clips_or_protocols_is_refused():
    with pytest.raises(RunError, match="other data"):
        compare(measured(), measured(data="e"))


def test_tolerances_edited_in_the_file_count_and_survive_an_update(tmp_path: Path):
    path = tmp_path / "baseline.json"
    write_baseline(path, measured())
    document = json.loads(path.read_text())
    document["tolerances"]["vip"]["mIoU"] = 0.2
    path.write_text(json.dumps(document))
    assert [row.metric for row in compare(measured(0.4), read_baseline(path)) if row.dropped] == [
        "J&F-Mean",
        "J-Mean",
        "F-Mean",
        "PCK@0.1",
        "PCK@0.2",
    ]
    write_baseline(path, measured(0.6))
    assert read_baseline(path)["tolerances"]["vip"]["mIoU"] == 0.2
    assert read_baseline(path)["metrics"]["vip"]["mIoU"] == 0.6


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"metrics": {}}'])
def test_other_files_are_no_baselines(tmp_path: Path, content: str):
    (tmp_path / "b.json").write_text(content)
    with pytest.raises(RunError, match="--update"):
        read_baseline(tmp_path / "b.json")
    with pytest.raises(RunError, match="does not exist"):
        read_baseline(tmp_path / "none.json")


def _broken():
    whole = measured()
    yield {**whole, "metrics": {}}
    yield {**whole, "metrics": {"davis": {}}}
    yield {**whole, "metrics": {"davis": {"J-Mean": None}}}
    yield {**whole, "metrics": {"davis": {"J-Median": 0.5}}}
    yield {**whole, "metrics": {"davs": {"J-Mean": 0.5}}}
    yield {**whole, "metrics": {"davis": {"J-Mean": -0.3}}}
    yield {**whole, "metrics": {"davis": {"J-Mean": 60}}}
    yield {**whole, "tolerances": {"davis": dict.fromkeys(whole["tolerances"]["davis"], 2)}}
    yield {**whole, "tolerances": {}}
    value: object
    for key in whole:
        for value in (None, 3, "x", [], {"davis": 3}):
            if not (key == "corrkit" and value == "x") and not (key == "checkpoint" and isinstance(value, dict)):
                yield {**whole, key: value}


@pytest.mark.parametrize("document", list(_broken()))
def test_a_baseline_that_could_never_tell_a_drop_is_refused(tmp_path: Path, document: dict):
    (tmp_path / "b.json").write_text(json.dumps(document))
    with pytest.raises(RunError, match="is no baseline"):
        read_baseline(tmp_path / "b.json")


def test_junit_counts_and_names_the_drops():
    suite = ElementTree.fromstring(junit(compare(measured(0.4), measured())))
    assert (suite.get("tests"), suite.get("failures")) == ("6", "6")
    assert {case.get("name") for case in suite} >= {"mIoU", "J&F-Mean", "PCK@0.1"}


def test_command_exits_with_1_on_a_drop_and_writes_junit(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(regression, "measure", lambda *args, **options: measured(0.4))
    write_baseline(tmp_path / "b.json", measured())
    code = main(
        ["regress", "--ckpt", "rgb", "--baseline", str(tmp_path / "b.json"), "--junit", str(tmp_path / "j.xml")]
    )
    assert code == 1
    assert re.search(r"davis +J&F-Mean +50.00 -> +40.00 +-10.00 .*DROPPED", capsys.readouterr().out)
    assert "failures=" in (tmp_path / "j.xml").read_text()
    assert main(["regress", "--ckpt", "rgb", "--baseline", str(tmp_path / "b.json"), "--update"]) == 0
    assert main(["regress", "--ckpt", "rgb", "--baseline", str(tmp_path / "b.json")]) == 0


def test_command_passes_every_option_of_loading_on(tmp_path: Path, monkeypatch):
    passed = {}

    def measure(spec: str, **options):
        passed.update(options)
        return measured()

    monkeypatch.setattr(regression, "measure", measure)
    given = {"heads": 3, "layer": "2", "window": 4, "ckpt-key": "teacher", "system": "dino", "layout": "mine.toml"}
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    assert main(["regress", "--ckpt", "x.pth", "--baseline", str(tmp_path / "b.json"), "--update", *words]) == 0
    asked = {"key" if name == "ckpt-key" else name: value for name, value in given.items()}
    assert {field.name: passed.get(field.name) for field in fields(Loading)} == asked


def test_another_default_type_measures_the_same_network(monkeypatch):
    monkeypatch.setattr(regression, "task_names", lambda: ())
    plain = regression.measure("random:vit_tiny_patch16_224")
    torch.set_default_dtype(torch.float64)
    try:
        same = regression.measure("random:vit_tiny_patch16_224")
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert same["checkpoint"] == plain["checkpoint"]
