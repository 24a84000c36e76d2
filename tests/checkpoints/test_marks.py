"""Systems are told by positive marks: nothing beside a network, or its absence, changes its features unsaid."""

import copy
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from corrkit.checkpoints.branches import choose, find
from corrkit.checkpoints.naming import flatten
from corrkit.checkpoints.opening import open_checkpoint
from corrkit.checkpoints.recognition import recognise
from corrkit.checkpoints.registry import LAYOUTS, PREFERS
from corrkit.checkpoints.selection import fitting, select
from corrkit.errors import CheckpointError
from tests.checkpoints.test_goldens import GOLDENS, TOLERANCE, distance
from tests.checkpoints.test_recognition import built
from tests.checkpoints.test_video_goldens import SYSTEMS as VIDEO
from tests.checkpoints.test_wild import FIXTURES

# Without the tensors beside them these files bear the names of a plainer system, whose entry says what it assumes.
NOTED = ("don't tell", "assumed", "Taken as", "would need", "Without")
EVERY = [*GOLDENS, *VIDEO, *(f"../checkpoints_wild/{name}" for name in FIXTURES)]
SAMPLE = ("mae", "dino", "dinov2_reg", "dinov3", "beit", "clip_openai", "pe_core", "hf_vit", "msn", "vjepa2")
FOREIGN = ("target_encoder", "teacher", "model_ema", "decoder", "predictor", "head", "attn_pool", "anything")


def opened(golden, name):
    """The file, its options, and what it gives for the inputs of its golden; a skip for those that are refused."""
    folder = golden(f"checkpoints/{name}")
    meta = json.loads((folder / "meta.json").read_text())
    heads = meta.get("heads") if isinstance(meta.get("heads"), int) else None
    checkpoint = open_checkpoint(folder / meta["file"])
    with np.load(folder / "golden.npz") as arrays:
        frames = [torch.from_numpy(arrays[key][:1]) for key in ("x", "x_ns") if key in arrays]
    return checkpoint, heads, frames


@torch.no_grad()
def features(checkpoint, heads, frames):
    """The system's name, the notes, and the features of each input."""
    recognised = recognise(checkpoint)
    made = built(recognised, heads)
    network = made.network.float()  # files in half precision stay so until they are evaluated
    return recognised.system.name, {*recognised.notes, *made.notes}, [network(x).numpy() for x in frames]


def loads(name):
    return not name.startswith("..") or name.split("/")[-1][:1] in "rs"


@pytest.mark.golden
@pytest.mark.parametrize("name", [name for name in EVERY if loads(name)])
def test_an_encoder_alone_or_beside_a_foreign_tensor_keeps_its_features(golden, name):
    try:
        checkpoint, heads, frames = opened(golden, name)
        _, noted, expected = features(checkpoint, heads, frames)
    except CheckpointError:
        assert name.startswith("..")  # refused as it is: tests/checkpoints/test_wild.py
        return
    recognised = recognise(checkpoint)
    alone = {key: tensor for key, tensor in flatten(checkpoint.tree).items() if key in recognised.origins.values()}
    plain = {key.removeprefix(recognised.prefix): tensor for key, tensor in alone.items()}
    foreign = [{f"{word}.weight": torch.ones(3, 3)} for word in FOREIGN] if name in SAMPLE else []
    trees = [alone, plain, *({**alone, **beside} for beside in foreign)]
    for tree in trees:
        try:
            other, notes, found = features(replace(checkpoint, tree=tree), heads, frames)
        except CheckpointError:
            continue
        worst = max(
            distance(mine, theirs) if mine.shape == theirs.shape else 1
            for mine, theirs in zip(found, expected, strict=True)
        )
        said = notes - noted
        assert worst < TOLERANCE or any(word in note for note in said for word in NOTED), (other, worst, said)


@pytest.mark.golden
@pytest.mark.parametrize("name", [name for name in EVERY if loads(name)])
def test_no_order_of_entries_decides_alone(golden, name):
    """Whichever entry is taken has a mark where a later one with another network fits too."""
    checkpoint, _, _ = opened(golden, name)
    try:
        tensors = flatten(checkpoint.tree)
        readings, _ = choose(find([(key, tensor.ndim) for key, tensor in tensors.items()], LAYOUTS), PREFERS, name)
        taken = select(readings, tensors, checkpoint)
    except (CheckpointError, IndexError):
        assert name.startswith("..")
        return
    every = fitting(readings, tensors, checkpoint)
    later = every[[found.system for found in every].index(taken.system) + 1 :]
    same = [found.system for found in later if found.reading.layout == taken.reading.layout]  # else its anchors tell
    rivals = [system.name for system in same if network(system) != network(taken.system)]
    assert taken.marks or not rivals, (taken.system.name, rivals)


@pytest.mark.golden
def test_a_lone_vision_encoder_in_siglips_names_is_asked_about(golden):
    """SmolVLM and Idefics have the same names and sizes, and look positions up in another way."""
    checkpoint, _, _ = opened(golden, "hf_siglip")
    checkpoint = replace(checkpoint, config=None)
    assert recognise(checkpoint).system.name == "hf_siglip"  # its own head and loss beside it
    vision = {name: tensor for name, tensor in checkpoint.tree.items() if name.startswith("vision_model.")}
    assert recognise(replace(checkpoint, tree=vision)).system.name == "hf_siglip"
    lone = {name: tensor for name, tensor in vision.items() if ".head." not in name}
    with pytest.raises(CheckpointError, match=r"hf_siglip[\s\S]*hf_idefics[\s\S]*--system hf_siglip"):
        recognise(replace(checkpoint, tree=lone))
    assert recognise(replace(checkpoint, tree=lone), system="hf_siglip").system.name == "hf_siglip"
    whole = {f"model.{name}": tensor for name, tensor in lone.items()}
    whole["model.connector.modality_projection.proj.weight"] = torch.ones(3, 3)
    with pytest.raises(CheckpointError, match="SmolVLM, Idefics2, Idefics3"):
        recognise(replace(checkpoint, tree=whole))


def network(system):
    return system.build, system.rules, system.mean, system.std


# Tensors that move no features of a single frame, by system, and why that is no mistake.
_LATER = r"stages\.3\..*"  # the stage behind the one that is evaluated
UNMOVED = {
    "": r".*\.num_batches_tracked",  # counters of training, which evaluation doesn't read
    "convnextv2": _LATER,
    "fcmae": _LATER,
    "hf_convnext": _LATER,
    "sam2": r"blocks\.4\..*",  # the stage behind the one that is evaluated
    # What acts on the state, which is zero before the first frame; a key's bias shifts all logits of a query alike.
    "rvm": r"core\.\d+\.cross.*|state_norm\.weight|(input|state)_reset\.weight|state_update\.weight|.*\.k\.bias",
    "vjepa2_1": r"video_mod_embed|patch_embed\.proj\..*|norms_block\.[012]\..*",  # clips, and earlier taps
}


@pytest.mark.slow
@pytest.mark.golden
@pytest.mark.parametrize("name", [name for name in EVERY if loads(name)])
@torch.no_grad()
def test_every_tensor_that_counts_as_used_is_applied(golden, name):
    checkpoint, heads, frames = opened(golden, name)
    try:
        recognised = recognise(checkpoint)
        backbone = built(recognised, heads)
    except CheckpointError:
        assert name.startswith("..")
        return
    pristine = copy.deepcopy(backbone.network.float())
    plain = backbone.network(frames[0])
    idle = []
    for key in pristine.state_dict():
        changed = copy.deepcopy(pristine)
        tensor = changed.state_dict()[key]
        noise = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0))
        if tensor.is_floating_point():
            tensor += noise.abs() * tensor.abs().mean().clamp(min=1)  # variances stay positive
        if torch.equal(changed(frames[0]), plain):
            idle.append(key)
    system = recognised.system.name
    allowed = "|".join(pattern for key, pattern in UNMOVED.items() if key in ("", system))
    assert not (unexplained := [key for key in idle if not re.fullmatch(allowed, key)]), (system, unexplained)
