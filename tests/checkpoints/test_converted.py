"""`corrkit convert`: the cleaned file gives the same backbone."""

import pytest
import torch

from corrkit.backbones import load_backbone
from corrkit.checkpoints import converted
from corrkit.checkpoints.opening import open_checkpoint
from corrkit.checkpoints.recognition import recognise
from corrkit.errors import CheckpointError
from tests.checkpoints.test_goldens import GOLDENS, finds_heads, loaded


def convert(golden, name, target):
    backbone, meta, arrays = loaded(golden, name)
    opened = open_checkpoint(golden(f"checkpoints/{name}") / meta["file"])
    heads = None if finds_heads(name) else meta["heads"]
    converted.write(recognise(opened), target, digest=opened.digest, heads=heads)
    return backbone, arrays


@pytest.mark.golden
@pytest.mark.parametrize("name", GOLDENS)
@torch.no_grad()
def test_a_converted_file_loads_to_the_same_backbone(golden, name, tmp_path):
    original, arrays = convert(golden, name, tmp_path / "clean.safetensors")
    clean = load_backbone(tmp_path / "clean.safetensors")
    frames = torch.from_numpy(arrays["x"])
    assert torch.equal(clean(frames), original(frames))
    assert (clean.mean, clean.std, clean.stride) == (original.mean, original.std, original.stride)
    assert clean.mode == original.mode
    assert clean.report.system == original.report.system
    assert clean.report.tensors_used == clean.report.tensors_total
    assert clean.report.dropped == ()


@pytest.mark.golden
def test_nothing_is_overwritten(golden, tmp_path):
    (tmp_path / "there.safetensors").write_bytes(b"mine")
    with pytest.raises(CheckpointError, match="exists already"):
        convert(golden, "mae", tmp_path / "there.safetensors")
    assert (tmp_path / "there.safetensors").read_bytes() == b"mine"


@pytest.mark.golden
def test_a_header_of_another_version_is_refused(golden, tmp_path):
    from safetensors.torch import save_file

    save_file(
        {"a": torch.zeros(1)}, tmp_path / "new.safetensors", metadata={"corrkit": '{"format": 99, "system": "mae"}'}
    )
    with pytest.raises(CheckpointError, match="another version"):
        load_backbone(tmp_path / "new.safetensors")
