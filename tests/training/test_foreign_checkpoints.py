"""A run that is gone on with from a checkpoint that somebody has changed: the file is named, nothing else happens."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from corrkit.errors import CheckpointError, CorrkitError
from corrkit.training.loop import pretrain
from tests.training.test_loop import OPTIONS, siammae

TWO_STEPS = dataclasses.replace(OPTIONS, steps=2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the checkpoint of two steps holds."""
    out = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(out.parent / "cache"))
        pretrain(siammae(), "embedded", out, dataclasses.replace(TWO_STEPS, embedded_clips=3))
    stored: dict[str, Any] = torch.load(out / "checkpoint.pth", weights_only=True)
    return stored


KEYS = ("model", "fingerprint", "optimizer", "scaler", "step", "faults")
CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    **{f"without {key}": lambda tree, key=key: tree.pop(key) for key in KEYS if key != "faults"},  # type: ignore[misc]
    **{f"{key} is 7": lambda tree, key=key: tree.update({key: "7"}) for key in KEYS},  # type: ignore[misc]
    "history": lambda tree: tree.update(history=7),
    "replaced": lambda tree: tree.update(faults={"reasons": {}}),
    "no weights": lambda tree: tree["model"].clear(),
    "other shape": lambda tree: tree["model"].update({name: torch.zeros(3) for name in tree["model"]}),
    "no tensors": lambda tree: tree["model"].update(dict.fromkeys(tree["model"], "x")),
    "no groups": lambda tree: tree.update(optimizer={"state": {}, "param_groups": []}),
    "no state": lambda tree: tree.update(optimizer={"state": 3, "param_groups": 4}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_checkpoint_is_named(
    name: str, trained: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tree = {key: dict(value) if isinstance(value, dict) else value for key, value in trained.items()}
    CHANGES[name](tree)
    out = tmp_path / "run"
    out.mkdir()
    torch.save(tree, out / "checkpoint.pth")
    content = (out / "checkpoint.pth").read_bytes()
    with pytest.raises(CorrkitError) as caught:
        pretrain(siammae(), "embedded", out, dataclasses.replace(TWO_STEPS, embedded_clips=3))
    assert isinstance(caught.value, CheckpointError)
    assert "checkpoint.pth is damaged" in caught.value.problem
    assert (out / "checkpoint.pth").read_bytes() == content
