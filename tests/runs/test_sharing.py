"""`corrkit card`: what others are told of runs, read back by the libraries and schemas of those it is written for."""

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from stored_runs import CLIPS

from corrkit.cli import main
from corrkit.errors import RunError, UsageError
from corrkit.evaluation import evaluate
from corrkit.runs.results import read_summary
from corrkit.runs.sharing import told_runs, write_card
from corrkit.runs.sharing.model_card import model_card

SCHEMAS = Path(__file__).parents[1] / "support" / "schemas" / "every_eval_ever"
TASKS = ("davis", "vip", "jhmdb")
EVIL = "<script>alert(1)</script>|`a`\n---\n# [x](javascript:y)"


@pytest.fixture
def runs(finished) -> list[Path]:
    return [finished(task, "mae.pth", 0.6) for task in TASKS]


def head_of(card: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return found


def records_in(folder: Path) -> dict[str, tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Task to the record and its lines."""
    found = {}
    for path in sorted(folder.rglob("every_eval_ever/data/*/*/*/*.json")):
        lines = path.with_name(f"{path.stem}_samples.jsonl").read_text().splitlines()
        collection = path.relative_to(folder / "every_eval_ever" / "data").parts[0]
        found[collection.removeprefix("corrkit-")] = (json.loads(path.read_text()), [json.loads(x) for x in lines])
    return found


def shown(runs: list[Path], **named: Any) -> str:
    return model_card(told_runs(runs, **named)[0])


def test_the_head_is_what_the_hub_reads(runs):
    """By huggingface_hub's own reader; values are per cent of those in summary.json."""
    hub = pytest.importorskip("huggingface_hub")
    data = pytest.importorskip("huggingface_hub.repocard_data")
    card = shown(runs, model="me/mae-small", benchmarks={"davis": "davis/DAVIS-2017"})
    read = hub.ModelCard(card)
    results = read.data.eval_results
    assert read.data.model_name == "mae-small"
    assert {result.task_type for result in results} == {"image-segmentation", "keypoint-detection"}
    for folder in runs:
        summary = read_summary(folder / "summary.json")
        mine = {r.metric_type: r for r in results if r.dataset_args["protocol"] == summary["protocol"]}
        headline = {name: value for name, value in summary["metrics"].items() if "/" not in name}
        assert {n: r.metric_value for n, r in mine.items()} == {n: round(100 * v, 2) for n, v in headline.items()}
    assert {r.dataset_type for r in results} == {"davis/DAVIS-2017", "OWNER/VIP", "OWNER/JHMDB"}
    assert data.model_index_to_eval_results(head_of(card)["model-index"]) == ("mae-small", results)


def test_eval_results_are_what_the_hub_reads(runs, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    if not hasattr(hub, "parse_eval_result_entries"):
        pytest.skip(f"huggingface_hub {hub.__version__} doesn't read .eval_results")
    told, _ = told_runs(runs, benchmarks={"davis": "davis/DAVIS-2017"})
    write_card(told, tmp_path / "card")
    written = yaml.safe_load((tmp_path / "card/.eval_results/corrkit.yaml").read_text())
    entries = hub.parse_eval_result_entries(written)
    assert hub.eval_result_entries_to_yaml(entries) == written
    assert [entry.dataset_id for entry in entries] == ["davis/DAVIS-2017", "OWNER/VIP", "OWNER/JHMDB"]
    assert [entry.task_id for entry in entries] == ["davis-dino-1", "vip-cropmae-1", "jhmdb-cropmae-1"]
    for entry, folder, metric in zip(entries, runs, ("J&F-Mean", "mIoU", "PCK@0.1"), strict=True):
        summary = read_summary(folder / "summary.json")
        assert entry.value == round(100 * summary["metrics"][metric], 2)
        assert f"{metric} in per cent under {summary['protocol']}" in entry.notes


def test_records_keep_to_the_published_schemas(runs, tmp_path):
    jsonschema = pytest.importorskip("jsonschema")
    whole, line = (
        jsonschema.Draft7Validator(json.loads((SCHEMAS / f"{name}.schema.json").read_text()))
        for name in ("eval", "instance_level_eval")
    )
    write_card(told_runs(runs, model="me/mae-small", by="me")[0], tmp_path / "card")
    records = records_in(tmp_path / "card")
    assert set(records) == set(TASKS)
    for document, lines in records.values():
        assert [error.message for error in whole.iter_errors(document)] == []
        assert [error.message for one in lines for error in line.iter_errors(one)] == []
    broken = {**document, "model_info": {"name": "x"}}
    assert list(whole.iter_errors(broken)), "the schema refuses what lacks its fields"


def test_records_hold_the_numbers_of_the_run(runs, tmp_path):
    write_card(told_runs(runs, model="me/mae-small", by="me")[0], tmp_path / "card")
    for folder in runs:
        summary = read_summary(folder / "summary.json")
        document, lines = records_in(tmp_path / "card")[summary["task"]]
        scores = {r["metric_config"]["metric_name"]: r["score_details"] for r in document["evaluation_results"]}
        headline = {name: value for name, value in summary["metrics"].items() if "/" not in name}
        assert {name: details["score"] for name, details in scores.items()} == headline
        for name, details in scores.items():
            interval = details["uncertainty"]["confidence_interval"]
            assert [interval["lower"], interval["upper"]] == summary["intervals"][name]
        lower = {
            r["metric_config"]["metric_name"]: r["metric_config"]["lower_is_better"]
            for r in document["evaluation_results"]
        }
        assert {name for name, is_lower in lower.items() if is_lower} == {n for n in lower if n.endswith("Decay")}
        ids = {r["evaluation_result_id"]: r["metric_config"]["metric_name"] for r in document["evaluation_results"]}
        told = {(line["sample_id"], ids[line["evaluation_result_id"]]): line["evaluation"]["score"] for line in lines}
        assert told == {
            (clip, name): value
            for clip, values in summary["per_clip"].items()
            for name, value in values.items()
            if name in scores and not math.isnan(value)
        }
        assert {line["evaluation_id"] for line in lines} == {document["evaluation_id"]}
        detailed = document["detailed_evaluation_results"]
        samples = tmp_path / "card/every_eval_ever" / detailed["file_path"]
        assert detailed["checksum"] == hashlib.sha256(samples.read_bytes()).hexdigest()
        assert detailed["total_rows"] == len(lines) >= len(CLIPS)


def test_what_is_no_benchmark_result_never_stands_among_them(finished, tmp_path):
    """Another data set, or another task of it; and the reason in words."""
    changes: list[dict[str, Any]] = [
        {},
        {"origin": "embedded"},
        {"origin": "own"},
        {"changes": {"radius": 6}},
        {"changes": {"radius": 7}},
        {"missing": CLIPS[:1], "identity": "official-davis"},
        {"precision": "bfloat16"},
    ]
    told, notes = told_runs(
        [finished("davis", "mae.pth", 0.5, **change) for change in changes], benchmarks={"davis": "davis/DAVIS-2017"}
    )
    places = [(one.dataset, one.variant) for one in told]
    assert len(set(places)) == len(places)
    assert [dataset for dataset, _ in places].count("davis/DAVIS-2017") == len(changes) - 2
    written = {one.variant: one.remarks for one in told}
    assert written["davis-dino-1-partial"] == ["partial: 1 of 6 clips are missing (clip0)"]
    assert written["davis-dino-1-bfloat16"] == ["reduced precision: bfloat16"]
    assert [note for note in notes if "--model" in note]


def test_training_on_the_benchmarks_videos_is_told(finished, tmp_path):
    run = finished("davis", "sam2.pt", 0.8, checkpoint={"system": "sam2"})
    write_card(told_runs([run])[0], tmp_path / "card")
    words = "trained on this benchmark's videos, or may be"
    assert words in (tmp_path / "card/README.md").read_text()
    (entry,) = yaml.safe_load((tmp_path / "card/.eval_results/corrkit.yaml").read_text())
    assert words in entry["notes"]
    document, _ = records_in(tmp_path / "card")["davis"]
    assert words in document["evaluation_results"][0]["generation_config"]["additional_details"]["remarks"]


def test_a_real_run_is_told_with_a_command_without_folders(tmp_path):
    result = evaluate("davis", "rgb", out=tmp_path / "run", clips=["embedded-0"], size=[32], multiple=16)
    assert result.folder
    (told,), _ = told_runs([result.folder])
    assert told.command.startswith("corrkit eval davis --ckpt rgb --protocol dino@1 --clips embedded-0 --set ")
    assert str(tmp_path) not in model_card([told])


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        ("/home/me/runs/mae.pth", "mae.pth"),
        ("py:/home/me/a.py:build", "py:a.py:build"),
        ("timm:vit_tiny=/home/me/a.pth", "timm:vit_tiny=a.pth"),
        ("/home/me/a.pth+/home/me/b.pth", "a.pth+b.pth"),
        ("hf:owner/name@main", "hf:owner/name@main"),
    ],
)
def test_the_command_names_no_folder_of_the_machine(finished, spec: str, shown: str):
    (told,), _ = told_runs([finished("davis", spec, 0.5)])
    assert told.command == f"corrkit eval davis --ckpt {shown} --data DAVIS-2017 --protocol dino@1"


def test_nothing_in_a_name_comes_alive(finished, tmp_path):
    run = finished("davis", EVIL, 0.5, checkpoint={"architecture": EVIL, "pretraining": EVIL})
    told, _ = told_runs([run])
    card = model_card(told)
    head, text = card.split("\n---\n")  # one end of the head, whatever the name holds
    assert yaml.safe_load(head)["model-index"]
    fenced = re.compile(r"^```text\n[^\n]*\n```$", re.MULTILINE)
    assert fenced.search(text)
    prose = fenced.sub("", text)
    assert re.findall(r".<script", prose) == ["\\<script"] * prose.count("<script")
    assert not re.search(r"(?<!\\)\[x\]\(", prose)
    write_card(told, tmp_path / "card")
    assert [path.name for path in (tmp_path / "card").iterdir() if path.name != "README.md"]


def test_a_card_is_about_one_checkpoint(finished):
    with pytest.raises(RunError, match="other checkpoints, or other layers"):
        told_runs([finished("davis", "a.pth", 0.5), finished("vip", "b.pth", 0.5)])


@pytest.mark.parametrize("name", ["mae", "me/mae/small", "/mae", "me/", "https://hub/me/mae", "me/ma e"])
def test_a_name_that_is_no_repositorys_is_refused(runs, name: str):
    with pytest.raises(UsageError, match="is no name of a repository"):
        told_runs(runs, model=name)
    with pytest.raises(UsageError, match="is no name of a repository"):
        told_runs(runs, benchmarks={"davis": name})


def test_somebodys_own_readme_stays(runs, tmp_path):
    told, _ = told_runs(runs)
    (tmp_path / "card").mkdir()
    (tmp_path / "card/README.md").write_text("# mine\n")
    with pytest.raises(UsageError, match="is somebody's own"):
        write_card(told, tmp_path / "card")
    assert [path.name for path in (tmp_path / "card").iterdir()] == ["README.md"]
    first = write_card(told, tmp_path / "again")
    assert write_card(told, tmp_path / "again") == first, "a card of ours is written over, and nothing is there twice"


def test_the_command_prints_the_card_or_writes_all(runs, tmp_path, capsys):
    words = ["card", *map(str, runs), "--model", "me/mae-small", "--benchmark", "davis=davis/DAVIS-2017"]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert head_of(printed.out)["model-index"][0]["name"] == "mae-small"
    assert "--benchmark vip=OWNER/NAME" in printed.err
    assert "--benchmark davis=" not in printed.err
    assert main([*words, "--out", str(tmp_path / "card")]) == 0
    files = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert files[0] == tmp_path / "card/README.md"
    assert all(path.is_file() for path in files)
    assert len(files) == 2 + 2 * len(runs)
    assert main(["card", str(runs[0]), "--benchmark", "dovis=a/b"]) == 2
