"""Systems are told by positive marks: nothing beside a network, or its absence, changes its features unsaid."""

import copy
import itertools
import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from swept import opened_state, redraw
from transformers_cases import CASES, CLIPS, written

from corrkit.checkpoints.branches import choose, find
from corrkit.checkpoints.naming import flatten
from corrkit.checkpoints.opening import open_checkpoint
from corrkit.checkpoints.recognition import recognise
from corrkit.checkpoints.registry import LAYOUTS, PREFERS
from corrkit.checkpoints.selection import fitting, select
from corrkit.errors import CheckpointError
from tests.checkpoints.test_goldens import GOLDENS, TOLERANCE, distance
from tests.checkpoints.test_recognition import built
from tests.checkpoints.test_resnet_goldens import SYSTEMS as RESNETS
from tests.checkpoints.test_resnet_goldens import file_of as file_of
from tests.checkpoints.test_video_goldens import SYSTEMS as VIDEO
from tests.checkpoints.test_wild import FIXTURES

# Without the tensors beside them these files bear the names of a plainer system, whose entry says what it assumes.
NOTED = ("don't tell", "assumed", "Taken as", "would need", "Without")
EVERY = [*GOLDENS, *VIDEO, "simmim_swin", "fastmim_swin", *(f"../checkpoints_wild/{name}" for name in FIXTURES)]
SAMPLE = ("mae", "dino", "dinov2_reg", "dinov3", "beit", "clip_openai", "pe_core", "hf_vit", "msn", "vjepa2")
PEERS = [*CASES, *CLIPS]
PEER_IDS = [f"{case.model}-{case.id}".rstrip("-") for case in PEERS]
PEER_SAMPLE = ("ViTModel", "CLIPVisionModel", "Dinov2Model", "SwinModel", "VivitModel", "Swinv2Model")
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
        features(checkpoint, heads, frames)
    except CheckpointError:
        assert name.startswith("..")  # refused as it is: tests/checkpoints/test_wild.py
        return
    assert_kept(checkpoint, heads, frames, FOREIGN if name in SAMPLE else ())


@pytest.mark.parametrize("case", PEERS, ids=PEER_IDS)
def test_an_encoder_of_transformers_alone_or_without_its_config_keeps_its_features(case, tmp_path):
    written(case, tmp_path)
    checkpoint, heads, frames = opened_peer(case, tmp_path)
    assert_kept(checkpoint, heads, frames, FOREIGN if case.model in PEER_SAMPLE else ())


def opened_peer(case, folder):
    """As `opened`, of a folder that transformers' class has written."""
    heads = case.options.get("num_attention_heads") or first(case.options, "num_heads", "num_attention_heads_per_stage")
    generator = torch.Generator().manual_seed(0)
    return open_checkpoint(folder), heads, [torch.randn(1, 3, *size, generator=generator) for size in case.sizes[:2]]


def first(options, *names):
    """The first entry of the first list that is there."""
    return next((options[name][0] for name in names if name in options), None)


def assert_kept(checkpoint, heads, frames, foreign):
    """Encoder alone, without a prefix, without a config, beside foreign tensors: equal, refused, asked, or noted."""
    _, noted, expected = features(checkpoint, heads, frames)
    recognised = recognise(checkpoint)
    alone = {key: tensor for key, tensor in flatten(checkpoint.tree).items() if key in recognised.origins.values()}
    plain = {key.removeprefix(recognised.prefix): tensor for key, tensor in alone.items()}
    trees = [alone, plain, *({**alone, f"{word}.weight": torch.ones(3, 3)} for word in foreign)]
    configs = [checkpoint.config, None] if checkpoint.config else [None]
    for tree, config in itertools.product(trees, configs):
        try:
            lone = replace(checkpoint, tree=tree, config=config, preprocessor=None)
            other, notes, found = features(lone, heads, frames)
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
    assert_marked(taken, readings, checkpoint)


@pytest.mark.parametrize("case", PEERS, ids=PEER_IDS)
@pytest.mark.parametrize("config", ["config", "lone"])
def test_no_order_of_entries_decides_alone_about_files_of_transformers(case, config, tmp_path):
    written(case, tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    checkpoint = checkpoint if config == "config" else replace(checkpoint, config=None)
    tensors = flatten(checkpoint.tree)
    readings, _ = choose(find([(key, tensor.ndim) for key, tensor in tensors.items()], LAYOUTS), PREFERS, case.model)
    try:
        taken = select(readings, tensors, checkpoint)
    except CheckpointError:
        assert config == "lone"  # then it is asked about
        return
    assert_marked(taken, readings, checkpoint)


def assert_marked(taken, readings, checkpoint):
    """A mark tells the system that is taken from every later entry of the same names with another network."""
    every = fitting(readings, flatten(checkpoint.tree), checkpoint)
    later = every[[found.system for found in every].index(taken.system) + 1 :]
    same = [found.system for found in later if found.reading.layout == taken.reading.layout]  # else its anchors tell
    rivals = [system.name for system in same if network(system) != network(taken.system)]
    assert taken.marks or not rivals, (taken.system.name, rivals)


@pytest.mark.golden
def test_a_lone_vision_encoder_in_siglips_names_is_asked_about(golden):
    """SmolVLM, Idefics and Phi-4 have the same names and sizes, and look positions up in another way."""
    checkpoint, _, _ = opened(golden, "hf_siglip")
    checkpoint = replace(checkpoint, config=None)
    assert recognise(checkpoint).system.name == "hf_siglip"  # its own head and loss beside it
    vision = {name: tensor for name, tensor in checkpoint.tree.items() if name.startswith("vision_model.")}
    with pytest.raises(CheckpointError, match="--system hf_siglip"):  # Phi-4's encoder has such a head
        recognise(replace(checkpoint, tree=vision))
    lone = {name: tensor for name, tensor in vision.items() if ".head." not in name}
    with pytest.raises(CheckpointError, match=r"hf_siglip[\s\S]*hf_idefics[\s\S]*--system hf_siglip"):
        recognise(replace(checkpoint, tree=lone))
    assert recognise(replace(checkpoint, tree=lone), system="hf_siglip").system.name == "hf_siglip"
    whole = {f"model.{name}": tensor for name, tensor in lone.items()}
    whole["model.connector.modality_projection.proj.weight"] = torch.ones(3, 3)
    with pytest.raises(CheckpointError, match="SmolVLM, Idefics2, Idefics3"):
        recognise(replace(checkpoint, tree=whole))


@pytest.mark.golden
def test_an_image_encoder_of_clip_is_asked_for_its_activation(golden):
    """OpenAI's, DFN's and MetaCLIP's weights need another one than LAION's, and no tensor of theirs tells."""
    checkpoint, heads, frames = opened(golden, "clip_openai")
    assert features(checkpoint, heads, frames)[0] == "clip"
    plain = {name: tensor for name, tensor in flatten(checkpoint.tree).items() if name.startswith("visual.")}
    with pytest.raises(
        CheckpointError, match=r"clip \(activation quick_gelu[\s\S]*--system clip or --system open_clip"
    ):
        recognise(replace(checkpoint, tree=plain))
    quick, exact = (recognise(replace(checkpoint, tree=plain), system=name) for name in ("clip", "open_clip"))
    assert [found.system.rules.activation for found in (quick, exact)] == ["quick-gelu", "gelu"]


@torch.no_grad()
def test_a_vit_with_layer_scale_takes_the_rule_of_whoever_wrote_it():
    """timm and DINOv2 give the same names; DINOv2's files have a mask token, timm's may have a classifier."""
    from timm.models.vision_transformer import VisionTransformer

    options: dict[str, Any] = {
        "img_size": 32,
        "patch_size": 8,
        "embed_dim": 192,
        "depth": 12,
        "num_heads": 3,
        "init_values": 0.1,
    }
    model = VisionTransformer(**options, num_classes=4, dynamic_img_size=True).eval()
    redraw(model)
    state = model.state_dict()
    frames = torch.randn(1, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    expected = model.forward_features(frames)[:, 1:].unflatten(1, (4, 8)).numpy()
    system, _, found = features(opened_state(state), None, [frames])
    assert (system, distance(found[0], expected) < TOLERANCE) == ("timm_vit_scaled", True)
    encoder = {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
    assert recognise(opened_state({**encoder, "mask_token": torch.zeros(1, 192)})).system.name == "dinov2"
    with pytest.raises(CheckpointError, match="--system dinov2 or --system timm_vit_scaled"):
        recognise(opened_state(encoder))


@torch.no_grad()
def test_norms_behind_attention_are_no_norms_in_front_of_it():
    """timm's ResPostBlock has the names and shapes of a Block; the order in which they are saved tells it."""
    from timm.models.vision_transformer import ResPostBlock, VisionTransformer

    options: dict[str, Any] = {
        "img_size": 32,
        "patch_size": 8,
        "embed_dim": 48,
        "depth": 1,
        "num_heads": 4,
        "num_classes": 0,
    }
    plain, behind = VisionTransformer(**options), VisionTransformer(**options, block_fn=ResPostBlock)
    assert plain.state_dict().keys() == behind.state_dict().keys()
    for prefix in ("", "model.backbone."):
        states = [{prefix + name: tensor for name, tensor in model.state_dict().items()} for model in (plain, behind)]
        assert recognise(opened_state(states[0])).system.name == "vit"
        with pytest.raises(CheckpointError, match=r"normalise what attention and MLP give[\s\S]*--system vit"):
            recognise(opened_state(states[1]))
        assert recognise(opened_state(states[1]), system="vit").system.name == "vit"
    ordered = dict(sorted(plain.state_dict().items()))  # as safetensors files are
    assert recognise(opened_state(ordered)).system.name == "vit"


def test_the_windowed_dinov2_of_rf_detr_is_refused():
    names = ("embeddings.patch_embeddings.projection.weight", "encoder.layer.0.layer_scale1.lambda1")
    tensors = {
        f"backbone.0.encoder.encoder.{name}": torch.ones(8, 3, 4, 4)[: 8 if "patch" in name else 1] for name in names
    }
    tensors["backbone.0.encoder.encoder.encoder.layer.0.attention.attention.query.weight"] = torch.ones(8, 8)
    with pytest.raises(CheckpointError, match="attend within windows"):
        recognise(opened_state({**tensors, "refpoint_embed.weight": torch.ones(9, 4)}))


def network(system):
    return system.build, system.rules, system.mean, system.std


# Tensors that move no features of a single frame, by system, and why that is no mistake.
_LATER = r"stages\.3\..*"  # the stage behind the one that is evaluated
UNMOVED = {
    **dict.fromkeys(("crw", "vfs", "spathentemp", "sfc", "moco", "simsiam"), r"layer4\..*"),  # likewise
    "timecycle": r"layer4\..*|afterconv1\.weight",  # likewise, and what --layer afterconv1 evaluates
    "": r".*\.num_batches_tracked",  # counters of training, which evaluation doesn't read
    "convnextv2": _LATER,
    "fcmae": _LATER,
    "hf_convnext": _LATER,
    "sam2": r"blocks\.4\..*",  # the stage behind the one that is evaluated
    "hf_sam2": r"blocks\.5\..*",  # likewise
    # What acts on the state, which is zero before the first frame; a key's bias shifts all logits of a query alike.
    "rvm": r"core\.\d+\.cross.*|state_norm\.weight|(input|state)_reset\.weight|state_update\.weight|.*\.k\.bias",
    "vjepa2_1": r"video_mod_embed|patch_embed\.proj\..*|norms_block\.[012]\..*",  # clips, and earlier taps
}


def idle(pristine, frames):
    """Tensors of a network that has not run yet whose change moves no feature."""
    plain = copy.deepcopy(pristine)(frames)
    unmoved = []
    for key in pristine.state_dict():
        changed = copy.deepcopy(pristine)
        tensor = changed.state_dict()[key]
        noise = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0))
        if tensor.is_floating_point():
            tensor += noise.abs() * tensor.abs().mean().clamp(min=1)  # variances stay positive
        if torch.equal(changed(frames), plain):
            unmoved.append(key)
    return unmoved


def assert_applied(recognised, heads, frames):
    """Every tensor that counts as used moves the features, or `UNMOVED` has a reason why it can't."""
    system = recognised.system.name
    allowed = "|".join(pattern for key, pattern in UNMOVED.items() if key in ("", system))
    unmoved = idle(built(recognised, heads).network.float(), frames)
    assert not (unexplained := [key for key in unmoved if not re.fullmatch(allowed, key)]), (system, unexplained)


@torch.no_grad()
def applied_golden(golden, name):
    checkpoint, heads, frames = opened(golden, name)
    try:
        recognised = recognise(checkpoint)
        built(recognised, heads)
    except CheckpointError:
        assert name.startswith("..")
        return
    assert_applied(recognised, heads, frames[0])


@pytest.mark.golden
@pytest.mark.parametrize("name", SAMPLE)
def test_every_tensor_that_counts_as_used_is_applied(golden, name):
    applied_golden(golden, name)


@pytest.mark.slow
@pytest.mark.golden
@pytest.mark.parametrize("name", [name for name in EVERY if loads(name) and name not in SAMPLE])
def test_every_tensor_of_the_other_goldens_is_applied(golden, name):
    applied_golden(golden, name)


@pytest.mark.slow
@pytest.mark.golden
@pytest.mark.parametrize("name", RESNETS)
@torch.no_grad()
def test_every_tensor_of_a_resnet_is_applied(golden, file_of, name):
    with np.load(golden(f"checkpoints/{name}") / "golden.npz") as arrays:
        frames = torch.from_numpy(arrays["x"][:1])
    assert_applied(recognise(open_checkpoint(file_of(name))), None, frames[..., :32, :32])


@pytest.mark.slow
@pytest.mark.parametrize("case", PEERS, ids=PEER_IDS)
@torch.no_grad()
def test_every_tensor_of_a_file_of_transformers_is_applied(case, tmp_path):
    written(case, tmp_path)
    checkpoint, _, frames = opened_peer(case, tmp_path)
    assert_applied(recognise(checkpoint), None, frames[0])
