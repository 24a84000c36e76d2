"""The parity page: what its script would write, and what its fixture refuses."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from parity import Measured, Parity, read, write

from corrkit.runs.attestations import Attestation, shipped_attestations

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("parity_table", REPOSITORY / "docs/parity_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_script_writes(script):
    """python docs/parity_table.py was run after a protocol, a measurement or an attestation changed."""
    page = script.PAGE.read_text(encoding="utf-8")
    assert script.updated(page, script.rows(), shipped_attestations()) == page


def test_every_measured_stage_is_of_a_protocol_that_is_shipped_and_shown(script):
    page = script.PAGE.read_text(encoding="utf-8")
    for protocol, stage in read():
        assert stage in script.STAGES
        assert f"| `{protocol}` |" in page


def test_a_difference_that_grew_fails(tmp_path: Path):
    parity = Parity(
        {("davis/dino", "frames"): Measured(1e-6, "", 10), ("davis/dino", "read-out"): Measured(0, "pixels", 9)}
    )
    parity("davis/dino", "frames", 2e-6, 10)
    parity("davis/dino", "read-out", 0, 9, "pixels")
    with pytest.raises(AssertionError, match="on the parity page"):
        parity("davis/dino", "frames", 1e-4, 10)
    with pytest.raises(AssertionError, match="on the parity page"):
        parity("davis/dino", "read-out", 5000, 9, "pixels")
    parity("davis/dino", "labels", 1, 1)  # of which the page says nothing


def test_counts_add_up_and_differences_take_the_largest(tmp_path: Path):
    parity = Parity(None)
    for pixels, difference in ((3, 2e-7), (4, 1e-7)):
        parity("davis/dino", "read-out", pixels, 100, "pixels")
        parity("davis/dino", "frames", difference, 10)
    write(parity.found, tmp_path / "parity.csv")
    write({("vip/crw", "score"): Measured(0, "", 1)}, tmp_path / "parity.csv")
    assert read(tmp_path / "parity.csv") == {
        ("davis/dino", "frames"): Measured(2e-7, "", 20),
        ("davis/dino", "read-out"): Measured(7, "pixels", 200),
        ("vip/crw", "score"): Measured(0, "", 1),
    }


def test_attestations_are_shown_with_who_when_and_on_what(script):
    number: Any = {
        "task": "davis", "protocol": "davis/dino@1", "overrides": {}, "metric": "J&F-Mean", "published": 61.8,
        "value": 61.74, "tolerance": 1.0, "within": True, "source": "", "data": "DAVIS-2017 val", "data_identity": "x",
    }  # fmt: skip
    one: Attestation = {
        "checkpoint": "dino-vits16", "digest": "0", "identified": "fetched", "date": "2026-11-27", "by": "us",
        "device": "cpu", "precision": "float32", "versions": {"torch": "2.10"},
        "numbers": [number, number | {"metric": "J-Mean", "within": False}],
    }  # fmt: skip
    text = script.attested([one])
    assert "| 61.8 | 61.74 | us, 2026-11-27 | cpu, torch 2.10 | DAVIS-2017 val |" in text
    assert "61.74, not reproduced" in text
    assert script.attested([]) == "None yet."
