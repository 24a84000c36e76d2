"""The results format and the official CSV files."""

import csv
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corrkit.errors import RunError
from corrkit.files.jsontext import to_json
from corrkit.protocols import load_protocol, override
from corrkit.runs.results import CheckpointFacts, Data, build_summary, parse_summary, read_summary, summary_csv
from corrkit.tasks.contract import Scores
from corrkit.tasks.official_csvs import davis_csvs

# DESIGN section 3, "One results format"
KEYS = (
    "task, protocol, checkpoint, data, precision, device, layer, stride, parameters, versions, modified, "
    "unreleased, partial, clips, objects, metrics, intervals, per_clip"
)
DATA = Data(name="embedded-davis", split="val", identity="f00", origin="embedded")
FRACTIONS = st.floats(0, 1) | st.just(math.nan)


def summary(metrics=None, intervals=None, changes=None, missing=()):
    return build_summary(
        Scores(
            metrics=metrics or {"mIoU": 0.5}, intervals=intervals or {}, per_clip={"a": {"mIoU": math.nan}}, objects=3
        ),
        override(load_protocol("davis/dino"), changes or {}),
        checkpoint=CheckpointFacts(spec="dino,small.pth", digest="ab", system="dino", architecture="vit"),
        data=DATA,
        precision="float32",
        device="cpu",
        layer="last",
        stride=16,
        parameters=21_665_664,
        versions={"corrkit": "0.1.0"},
        missing=missing,
    )


def test_the_keys_are_those_of_the_design():
    built = summary(changes={"radius": 6}, missing=["b"])
    assert ", ".join(built) == KEYS
    assert built["protocol"] == "davis/dino@1"
    assert built["modified"] == {"affinity.radius": 6.0}
    assert built["partial"] == ["b"]
    assert built["clips"] == 1
    assert not summary()["modified"]
    assert not summary()["partial"]


@given(st.dictionaries(st.sampled_from(["J-Mean", "F-Mean", "mIoU"]), FRACTIONS), st.tuples(FRACTIONS, FRACTIONS))
def test_a_summary_survives_the_disk(tmp_path_factory, metrics, interval):
    built = summary(metrics, dict.fromkeys(metrics, interval) | {"J-Mean": None})
    path = tmp_path_factory.mktemp("summary") / "summary.json"
    path.write_text(to_json(built))
    assert repr(read_summary(path)) == repr(built)  # repr: NaN equals NaN, floats to the last bit


def test_nan_is_null_in_the_file():
    stored = json.loads(to_json(summary({"J-Decay": math.nan}, {"J-Decay": None})))
    assert stored["metrics"] == {"J-Decay": None}
    assert stored["intervals"] == {"J-Decay": None}
    assert stored["per_clip"] == {"a": {"mIoU": None}}


@pytest.mark.parametrize(("name", "value"), [("mIoU", 52.0), ("J-Mean", -0.1), ("J-Decay", -1.5), ("mIoU", math.inf)])
def test_a_metric_that_is_no_fraction_is_a_bug(name, value):
    with pytest.raises(ValueError, match=name):
        summary({name: value})


def test_a_missing_damaged_or_foreign_summary_is_named(tmp_path):
    path = tmp_path / "summary.json"
    with pytest.raises(RunError, match=r"summary\.json is missing"):
        read_summary(path)
    path.write_text("{")
    with pytest.raises(RunError, match="can't be read"):
        read_summary(path)
    with pytest.raises(RunError, match=r"lacks .*checkpoint.* and has unknown accuracy"):
        parse_summary({"accuracy": 1}, "x.json")


def test_summary_csv_is_one_row_that_a_csv_reader_takes():
    text = summary_csv(summary({"mIoU": 1 / 3, "J-Decay": math.nan}, {"mIoU": (0.25, 0.5), "J-Decay": None}))
    (row,) = csv.DictReader(text.splitlines())
    assert row["checkpoint"] == "dino,small.pth"
    assert float(row["mIoU"]) == 1 / 3
    assert (row["mIoU low"], row["mIoU high"]) == ("0.25", "0.5")
    assert (row["J-Decay"], row["J-Decay low"]) == ("", "")
    assert row["official"] == "False"


@pytest.mark.golden
@pytest.mark.parametrize("which", ["", "core_"])
def test_the_official_csvs_are_reproduced_byte_for_byte(golden, which):
    """From the official tool's unrounded numbers to the two files that it wrote."""
    full = json.loads(golden("metrics/expected/official_full_precision.json").read_text())
    names = [name for name in full["J_per_object"] if not (which and name.startswith("e21_T300"))]
    per_object = {name: (full["J_per_object"][name], full["F_per_object"][name]) for name in names}
    files = davis_csvs(full["core_global" if which else "global_"], per_object, "val")
    assert list(files) == ["global_results-val.csv", "per-sequence_results-val.csv"]
    for name, text in files.items():
        assert text.encode() == golden(f"metrics/expected/{which}{name}").read_bytes()
