"""Published numbers and public checkpoints: what the files hold, and what is refused in them."""

import csv
import re
from collections import Counter
from pathlib import Path

import pytest

from corrkit.errors import DataError
from corrkit.manifests import manifest, published
from corrkit.manifests.published import (
    PublicCheckpoint,
    by_table,
    public_checkpoints,
    published_numbers,
)
from corrkit.protocols import load_protocol, override
from corrkit.task_table import task_facts


def test_every_number_is_a_metric_of_its_task_under_a_protocol_that_there_is():
    for number in published_numbers():
        assert number.metric in {metric.name for metric in task_facts(number.task).metrics}
        assert number.source
        if number.protocol:
            protocol = override(load_protocol(f"{number.task}/{number.protocol}"), number.changes)
            assert sorted(protocol.overrides) == sorted(number.changes), number  # none repeats what the protocol has
        else:
            assert number.settings, f"{number.method}: neither protocol nor what its source says"
            assert not number.overrides


def test_no_number_stands_twice():
    keys = Counter(
        (n.task, n.dataset, n.method, n.data, n.architecture, n.stride, n.protocol, n.overrides, n.settings, n.metric,
         n.source)
        for n in published_numbers()
    )  # fmt: skip
    assert [key for key, count in keys.items() if count > 1] == []


def test_every_checkpoint_has_numbers_and_every_number_its_checkpoint():
    names = [checkpoint.name for checkpoint in public_checkpoints()]
    assert sorted(set(names)) == sorted(names)
    assert {number.checkpoint for number in published_numbers()} - {""} == set(names)
    asked = {"dino", "ibot", "crw", "vfs", "cropmae", "t-core", "co-settle"}
    assert asked <= {re.match(r"co-settle|t-core|[a-z]+", name)[0] for name in names}
    assert Counter(name.startswith("t-core") for name in names)[True] == 3
    assert Counter(name.startswith("co-settle") for name in names)[True] == 16


def test_numbers_of_one_checkpoint_and_protocol_agree_where_one_source_read_them():
    """A tolerance is a promise about one file: two values of it in one source would contradict each other."""
    found: dict[tuple, set[float]] = {}
    for n in published_numbers():
        if n.checkpoint:
            found.setdefault((n.checkpoint, n.dataset, n.protocol, n.overrides, n.metric, n.source), set()).add(
                n.per_cent
            )
    assert [key for key, values in found.items() if len(values) > 1] == []


@pytest.mark.golden
def test_the_facts_of_2026_are_all_here(shared: Path):
    with (shared / "reference/data/published-2026.csv").open(encoding="utf-8") as file:
        facts = list(csv.DictReader(file))
    here = [(n.task, n.metric, n.per_cent) for n in published_numbers()]
    for fact in facts:
        for column, task, metric in (
            ("davis_JF", "davis", "J&F-Mean"), ("vip_mIoU", "vip", "mIoU"), ("jhmdb_PCK01", "jhmdb", "PCK@0.1"),
        ):  # fmt: skip
            if fact[column]:
                assert (task, metric, float(fact[column])) in here, fact


def test_table_5_of_dinov3_is_here_by_resolution_and_data():
    """Two rows of the table, typed from the paper's text: patch 16 as the protocol is, patch 14 at its own size."""
    numbers = published_numbers("davis")
    pe = [n for n in numbers if n.method == "PE-spatial" and n.source.startswith("arXiv 2508.10104")]
    assert [(n.dataset, n.resolution, n.per_cent) for n in pe] == [
        ("DAVIS-2017", "S", 68.4), ("DAVIS-2017", "M", 74.5), ("DAVIS-2017", "L", 70.5),
        ("YouTube-VOS", "S", 68.5), ("YouTube-VOS", "M", 67.5), ("YouTube-VOS", "L", 55.6),
        ("MOSE", "S", 39.3), ("MOSE", "M", 40.2), ("MOSE", "L", 34.0),
    ]  # fmt: skip
    assert {n.overrides for n in pe} == {"frames.size=[420]", "frames.size=[840]", "frames.size=[1260]"}
    seven = [n for n in numbers if n.architecture == "ViT-7B" and n.method == "DINOv3" and not n.other_data]
    assert [(n.protocol, n.per_cent, n.overrides) for n in seven] == [
        ("dinov3-S", 71.1, ""), ("dinov3-M", 79.7, ""), ("dinov3-L", 83.3, ""),
    ]  # fmt: skip


def test_filters_take_a_protocol_with_and_without_its_task_and_a_word_of_the_method():
    assert published_numbers("vip", protocol="cropmae") == published_numbers(protocol="vip/cropmae")
    assert {n.method for n in published_numbers(method="t-core")} == {"T-CORE"}
    assert published_numbers("vip", protocol="none") == ()


def test_one_row_of_a_table_holds_the_three_tasks():
    (row,) = [row for row in by_table(published_numbers(method="t-core")) if row[0].checkpoint.endswith("b16-k400")]
    assert [(n.task, n.per_cent) for n in row] == [("davis", 66.4), ("vip", 38.9), ("jhmdb", 47.1)]


def checkpoint(**facts) -> PublicCheckpoint:
    plain = {"name": "a", "method": "A", "architecture": "", "stride": None, "url": "", "size": None, "sha256": "",
             "hub": "", "page": "", "source": ""}  # fmt: skip
    return PublicCheckpoint(**{**plain, **facts})


@pytest.mark.parametrize(
    ("facts", "digest", "origin", "expected"),
    [
        ({"sha256": "0123abcd"}, "0123abcd" + "e" * 56, "", True),
        ({"sha256": "0123abcd"}, "0123abce" + "e" * 56, "", False),
        ({"sha256": "0123abcd"}, None, "a.pth", False),
        ({"hub": "o/n"}, "f" * 64, "hf:o/n", True),
        ({"hub": "o/n"}, "f" * 64, "hf:o/n@main", True),
        ({"hub": "o/n"}, "f" * 64, "hf:o/n2", False),
        ({}, "f" * 64, "", False),
        ({}, None, "hf:", False),
    ],
)
def test_only_digest_or_origin_identify_a_checkpoint(facts, digest, origin, expected):
    assert checkpoint(**facts).is_identified_by(digest, origin) is expected


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("https://", "http://", "not https"),
        ("db1a4c0d", "db1a4c0", "sha256 is 'db1a4c0'"),
        ("ResNet-18,8", "ResNet-18,eight", "stride is 'eight'"),
        ("name,method", "name,way", "columns"),
    ],
)
def test_a_damaged_table_is_named_with_its_line(monkeypatch, tmp_path: Path, old, new, words):
    text = Path(str(manifest("checkpoints.csv"))).read_text(encoding="utf-8")
    (tmp_path / "checkpoints.csv").write_text(text.replace(old, new), encoding="utf-8")
    monkeypatch.setattr(published, "manifest", tmp_path.joinpath)
    with pytest.raises(DataError, match=words):
        public_checkpoints()
