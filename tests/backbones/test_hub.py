"""hf:OWNER/NAME against a stub of the hub on the loopback: commits, the cache without a network, what is downloaded."""

import hashlib
import json
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from local_server import serve
from safetensors.torch import save_file

from corrkit import load_backbone
from corrkit.backbones.conversion import convert
from corrkit.backbones.inspection import inspect
from corrkit.backbones.layers import load_layers
from corrkit.backbones.loading import NO_OPTIONS
from corrkit.checkpoints.naming import flatten
from corrkit.checkpoints.opening import open_checkpoint
from corrkit.errors import CheckpointError

pytest.importorskip("huggingface_hub")
COMMITS = ["1" * 40, "2" * 40]
CONFIG = {"architectures": ["ViTModel"], "model_type": "vit", "hidden_size": 8, "num_attention_heads": 2}


def vit(seed: int) -> dict[str, torch.Tensor]:
    """A ViT of one block in the names of transformers."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "embeddings.cls_token": (1, 1, 8),
        "embeddings.position_embeddings": (1, 5, 8),
        "embeddings.patch_embeddings.projection.weight": (8, 3, 4, 4),
        "embeddings.patch_embeddings.projection.bias": (8,),
        "encoder.layer.0.intermediate.dense.weight": (16, 8),
        "encoder.layer.0.intermediate.dense.bias": (16,),
        "encoder.layer.0.output.dense.weight": (8, 16),
        "encoder.layer.0.output.dense.bias": (8,),
    }
    layer = "encoder.layer.0"
    for name in (*(f"{layer}.attention.attention.{part}" for part in ("query", "key", "value")), "output"):
        stem = f"{layer}.attention.output.dense" if name == "output" else name
        shapes |= {f"{stem}.weight": (8, 8), f"{stem}.bias": (8,)}
    for stem in (f"{layer}.layernorm_before", f"{layer}.layernorm_after", "layernorm"):
        shapes |= {f"{stem}.weight": (8,), f"{stem}.bias": (8,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


class Hub:
    """A model "owner/tiny" on the stub, whose main branch is at the commit pushed last."""

    def __init__(self, server, folder: Path) -> None:
        self.server, self.folder = server, folder

    def push(self, commit: str, *, seed: int = 0, safetensors: bool = True, pickled: bool = False) -> None:
        """Adds a commit with config.json and the weights in the formats asked for."""
        files = {"config.json": json.dumps(CONFIG).encode(), "README.md": b"a card"}
        place = self.folder / commit[0]
        place.mkdir()
        (place / "config.json").write_bytes(files["config.json"])
        if safetensors:
            save_file(vit(seed), place / "model.safetensors")
            files["model.safetensors"] = (place / "model.safetensors").read_bytes()
        if pickled:
            torch.save(vit(seed + 1), place / "pytorch_model.bin")
            files["pytorch_model.bin"] = (place / "pytorch_model.bin").read_bytes()
        entries = [
            {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            for name, content in files.items()
        ]
        info = {"id": "owner/tiny", "modelId": "owner/tiny", "sha": commit, "siblings": []}
        self.server.files |= {
            "api/models/owner/tiny/revision/main": json.dumps(info).encode(),
            f"api/models/owner/tiny/revision/{commit}": json.dumps(info).encode(),
            f"api/models/owner/tiny/tree/{commit}": json.dumps(entries).encode(),
            **{f"owner/tiny/resolve/{commit}/{name}": content for name, content in files.items()},
        }
        for entry in entries:
            told = {"ETag": f'"{entry["oid"]}"', "X-Repo-Commit": commit}
            self.server.headers[f"owner/tiny/resolve/{commit}/{entry['path']}"] = told

    @property
    def fetched(self) -> set[str]:
        """Names of the files that were asked for."""
        return {Path(name).name for name, _, status in self.server.requests if "/resolve/" in name and status == 200}


def point_at(monkeypatch, endpoint: str) -> None:
    """What HF_ENDPOINT sets; it is read once, when huggingface_hub is imported."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch):
    from huggingface_hub import constants

    with serve() as server:
        point_at(monkeypatch, server.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield Hub(server, tmp_path)


@contextmanager
def no_network(monkeypatch):
    from huggingface_hub import constants

    with monkeypatch.context() as patch:
        point_at(patch, "http://127.0.0.1:9")
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        yield


def features(spec: str) -> torch.Tensor:
    with torch.no_grad():
        return load_backbone(spec)(torch.linspace(-1, 1, 3 * 8 * 8).reshape(1, 3, 8, 8))


def test_the_commit_is_shown_and_part_of_the_digest(hub, tmp_path):
    hub.push(COMMITS[0])
    first = inspect("hf:owner/tiny")
    assert f"commit {COMMITS[0]} of owner/tiny" in " ".join(first["notes"])
    assert hub.fetched == {"config.json", "model.safetensors"}
    assert first["digest"] == load_backbone("hf:owner/tiny").digest
    assert torch.equal(features("hf:owner/tiny"), features(str(hub.folder / "1")))
    hub.push(COMMITS[1])  # the same weights in another commit: the branch has moved
    second = inspect("hf:owner/tiny")
    assert COMMITS[1] in " ".join(second["notes"])
    assert second["digest"] != first["digest"]
    assert inspect(f"hf:owner/tiny@{COMMITS[0]}")["digest"] == first["digest"]


def test_layers_and_conversion_take_models_of_the_hub(hub, tmp_path):
    hub.push(COMMITS[0])
    (backbone,) = load_layers("hf:owner/tiny", ["all"], NO_OPTIONS)
    assert COMMITS[0] in " ".join(backbone.report.notes)
    convert("hf:owner/tiny", tmp_path / "clean.safetensors")
    assert torch.equal(features(str(tmp_path / "clean.safetensors")), features("hf:owner/tiny"))


def test_the_cache_serves_without_a_network(hub, monkeypatch):
    hub.push(COMMITS[0])
    online = load_backbone("hf:owner/tiny").digest
    with no_network(monkeypatch):
        assert load_backbone("hf:owner/tiny").digest == online
        assert load_backbone(f"hf:owner/tiny@{COMMITS[0]}").digest == online
        with pytest.raises(CheckpointError, match="hf:owner/other can't be had"):
            load_backbone("hf:owner/other")


def test_safetensors_are_fetched_and_bin_files_are_not(hub):
    hub.push(COMMITS[0], pickled=True)
    load_backbone("hf:owner/tiny")
    assert hub.fetched == {"config.json", "model.safetensors"}


def test_a_model_with_bin_files_alone_is_taken(hub, monkeypatch):
    hub.push(COMMITS[0], safetensors=False, pickled=True)
    online = load_backbone("hf:owner/tiny").digest
    with no_network(monkeypatch):
        assert load_backbone("hf:owner/tiny").digest == online


def test_a_model_without_weights_is_refused_with_its_commit(hub):
    hub.push(COMMITS[0], safetensors=False)
    with pytest.raises(CheckpointError, match=rf"has none of model\*\.safetensors.*at commit {COMMITS[0]}"):
        load_backbone("hf:owner/tiny")


def test_a_download_that_breaks_off_is_the_users_to_mend(hub, monkeypatch):
    hub.push(COMMITS[0])
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between its retries
    hub.server.break_off_after = 200
    with pytest.raises(CheckpointError, match="hf:owner/tiny can't be had"):
        load_backbone("hf:owner/tiny")


def both_formats(folder, others, state):
    """model.safetensors of one training, and .bin files with these tensors."""
    save_file(vit(0), folder / "model.safetensors")
    torch.save(state, folder / "pytorch_model.bin")
    if len(others) == 2:
        weight_map = dict.fromkeys(state, "pytorch_model.bin")
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))


BOTH = pytest.mark.parametrize(
    "others", [["pytorch_model.bin"], ["pytorch_model.bin.index.json", "pytorch_model.bin"]], ids=["whole", "sharded"]
)


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_folder_with_both_formats_takes_safetensors_and_compares(tmp_path, others, dtype):
    """As transformers does, also where the .bin files are sharded, or keep another precision, or buffers."""
    state = {**{name: tensor.to(dtype) for name, tensor in vit(0).items()}, "embeddings.position_ids": torch.arange(4)}
    both_formats(tmp_path, others, state)
    opened = open_checkpoint(tmp_path)
    assert torch.equal(flatten(opened.tree)["layernorm.weight"], vit(0)["layernorm.weight"])
    assert len(opened.notes) == len(others)
    for name, note in zip(sorted(others), opened.notes, strict=True):
        assert note.startswith(f"model.safetensors is read; {name} beside it holds the same {len(vit(0))} tensors")
        assert note.endswith("1 tensor stands in only one of them")
    assert not open_checkpoint(tmp_path / "model.safetensors").notes


@BOTH
def test_a_folder_with_two_different_sets_of_weights_is_refused(tmp_path, others):
    both_formats(tmp_path, others, {**vit(0), "layernorm.weight": vit(1)["layernorm.weight"] + 1})
    with pytest.raises(CheckpointError, match=r"differ in 1 of \d+ tensors that both hold: layernorm\.weight"):
        open_checkpoint(tmp_path)
    assert not open_checkpoint(tmp_path / "model.safetensors").notes


def test_weights_beside_that_can_not_be_compared_are_said_so(tmp_path):
    both_formats(tmp_path, ["pytorch_model.bin"], {f"vit.{name}": tensor for name, tensor in vit(1).items()})
    assert "has other names, so the two weren't compared" in open_checkpoint(tmp_path).notes[0]
    (tmp_path / "pytorch_model.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert "can't be, so the two weren't compared" in open_checkpoint(tmp_path).notes[0]
