"""A published number beside a result: for an identified checkpoint, under its protocol, on the benchmark's data."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest

from corrkit.cli import eval_words
from corrkit.errors import RunError
from corrkit.evaluation import Result
from corrkit.manifests.published import public_checkpoint
from corrkit.protocols import load_protocol
from corrkit.runs import attestations
from corrkit.runs.attestations import read_attestation, shipped_attestations
from corrkit.runs.published import beside_published, numbers_beside, published_table

DINOV3 = public_checkpoint("dinov3-vits16").sha256 + "0" * 56
VFS50 = public_checkpoint("vfs-resnet50").sha256 + "0" * 56


def summary(task="davis", protocol="dinov3-M", digest=DINOV3, metrics=None, **changes):
    made = {
        "task": task,
        "protocol": f"{task}/{protocol}@1",
        "checkpoint": {"spec": "a.pth", "digest": digest, "system": "dinov3", "architecture": "vit_small_patch16"},
        "data": {"name": "DAVIS-2017", "split": "val", "identity": "x", "official": True, "origin": "official"},
        "modified": {},
        "partial": [],
        "metrics": metrics or {"J&F-Mean": 0.7312, "J-Mean": 0.7, "F-Mean": 0.7624},
    }
    made.update(changes)
    return made


def test_a_known_digest_brings_the_published_value():
    (beside,) = beside_published(summary())
    assert beside.number.per_cent == 72.7
    assert beside.difference == pytest.approx(0.42)
    assert beside.is_within
    sentence = beside.sentence()
    assert sentence.startswith("published J&F-Mean 72.7 (DINOv3 ViT-S/16, facebookresearch/dinov3 6876159")
    assert sentence.endswith("; read in the named file at the named commit); here 73.1 (+0.4)")


def test_the_hubs_name_brings_it_too():
    assert beside_published(summary(digest="f" * 64), "hf:facebook/dinov3-vits16-pretrain-lvd1689m@main")
    assert not beside_published(summary(digest="f" * 64), "hf:somebody/dinov3-vits16-pretrain-lvd1689m")


OWN = {"name": "kitchen", "split": "val", "identity": "x", "official": False, "origin": "own"}


@pytest.mark.parametrize(
    "changes",
    [
        {"digest": "f" * 64},  # another file of the same layout
        {"digest": None},
        {"protocol": "dinov3-S"},
        {"protocol": "dino"},
        {"modified": {"affinity.topk": 7}},
        {"partial": ["bear"]},
        {"data": OWN},
        {"data": {**OWN, "name": "DAVIS-2017"}},
    ],
)
def test_whatever_differs_brings_nothing(changes: dict):
    """A look-alike of the layout, another protocol or override, missing clips, other data."""
    assert beside_published(summary(**changes)) == []


def test_numbers_with_overrides_belong_to_runs_with_these():
    metrics = {"J&F-Mean": 0.695, "J-Mean": 0.67, "F-Mean": 0.72}
    plain = summary(protocol="vfs", digest=VFS50, metrics=metrics)
    assert beside_published(plain) == []  # ResNet-50 was published at radius 18
    modified = copy.deepcopy(plain)
    modified["modified"] = {"affinity.radius": 18.0}
    found = beside_published(modified)
    assert [one.number.per_cent for one in found] == [69.5, 67.0, 72.0]
    off = copy.deepcopy(plain)
    off["modified"] = {"affinity.radius": 18.0}
    off["metrics"]["J&F-Mean"] = 0.701
    assert [one.is_within for one in beside_published(off)] == [False, True, True]


def test_eval_says_it_at_the_end(capsys, tmp_path: Path):
    protocol = load_protocol("davis/dinov3-M")
    result = Result(summary=summary(), protocol=protocol, statistics={}, folder=tmp_path)
    assert eval_words.closing_words(result, "a.pth") == 0
    assert "published J&F-Mean 72.7 (DINOv3 ViT-S/16" in capsys.readouterr().err
    assert eval_words.closing_words(replace(result, summary=summary(digest="f" * 64)), "a.pth") == 0
    assert "published" not in capsys.readouterr().err


def test_the_block_of_a_protocol_holds_the_benchmarks_own_data_only():
    numbers = numbers_beside({"davis/dinov3-S@1", "vip/cropmae@1"})
    assert {number.dataset for number in numbers} == {"DAVIS-2017", "VIP"}
    table = published_table(numbers)
    assert table.head == (
        "Method", "Network", "Trained on", "Protocol", "J&F-Mean", "mIoU", "Certainty", "Source",
    )  # fmt: skip
    assert numbers_beside({"davis/mine@1+abc"}) == ()


def test_shipped_attestations_are_whole_and_damaged_ones_named(tmp_path: Path):
    assert all(one["numbers"] for one in shipped_attestations())
    path = tmp_path / "a.json"
    path.write_text('{"checkpoint": 1}')
    with pytest.raises(RunError, match="lacks by, date, device"):
        read_attestation(path)
    path.write_text("no")
    with pytest.raises(RunError, match="can't be read"):
        attestations.read_attestation(path)
