"""Video and hierarchical systems: the published file, in its genuine container, gives the published features."""

import json
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from corrkit.backbones import load_backbone
from corrkit.backbones.building import Built
from corrkit.backbones.networks.hiera import build_sam2
from corrkit.backbones.networks.hierarchical import Swin
from corrkit.backbones.networks.stages import Stage
from corrkit.backbones.windowed import Windowed
from corrkit.checkpoints.opening import open_checkpoint
from corrkit.checkpoints.recognition import recognise
from corrkit.checkpoints.rules import SwinRules, WindowedHieraRules
from corrkit.errors import CheckpointError

TOLERANCE = 1e-4  # of the features' scale: float32 with another order of sums (golden README-video.md)

# Folder to the recognised system and the stride of its default features.
SYSTEMS = {
    "videomae": ("videomae", 8),
    "videomae_v2": ("videomae_finetuned", 8),
    "videomae_v2_cosattn": ("videomae", 8),
    "mae_st": ("mae_st", 8),
    "mae_st_finetuned": ("mae_st_finetuned", 8),
    "mvd": ("mvd", 8),
    "omnimae": ("omnimae", 8),
    "vjepa": ("vjepa", 8),
    "vjepa2": ("vjepa2", 8),
    "maskfeat_image": ("maskfeat_image", 8),
    "maskfeat_video": ("maskfeat_video", 8),
    "mvitv1_video": ("mvit_video", 16),
    "mvitv2_video": ("mvit_video", 16),
    "mvitv2_image": ("mvit", 16),
    "fastmim_vit": ("fastmim_vit", 8),
    "violet_videoswin": ("violet", 32),
    "convnextv2": ("convnextv2", 16),
    "fcmae": ("fcmae", 16),
    "hiera_image": ("hiera", 32),
    "hiera_mae": ("hiera_mae", 16),
    "hiera_video": ("hiera_video", 32),
    "sam2_image_encoder": ("sam2", 16),
}
STATISTICS = {"mae_st", "mae_st_finetuned", "maskfeat_video", "mvitv1_video", "mvitv2_video", "hiera_video"}
"""Whose input has mean 0.45 and deviation 0.225."""

# Arrays of golden.npz beside `x` and `f`: which input gives them, and through which layer.
OTHER_SIZES = {
    "f_ns": "x_ns",
    "f_ns_interpolated": "x_ns",
    "f_big": "x_big",
    "f_big_timm": "x_big",
    "f_small": "x_small",
}
STAGES = {f"f_stage{number}": ("x", number) for number in range(1, 5)} | {
    "f_ns_stage3": ("x_ns", 3),
    "f_ns_stage4": ("x_ns", 4),
    "f_ns_timm": ("x_ns", None),
    "f_ns_timm_stage3": ("x_ns", 3),
}


def loaded(golden, name, **options):
    """Backbone and arrays; head counts as in meta.json where the files don't tell."""
    folder = golden(f"checkpoints/{name}")
    meta = json.loads((folder / "meta.json").read_text())
    heads = meta.get("heads") if isinstance(meta.get("heads"), int) else None
    arrays = dict(np.load(folder / "golden.npz"))
    return load_backbone(folder / meta["file"], heads=heads, **options), arrays


@torch.no_grad()
def distance(backbone, frames, published):
    features = backbone(torch.from_numpy(frames)).numpy()
    assert features.shape == published.shape
    return np.abs(features - published).max() / np.abs(published).max()


@pytest.mark.golden
@pytest.mark.parametrize("name", SYSTEMS)
def test_a_published_file_gives_the_published_features(golden, name):
    backbone, arrays = loaded(golden, name)
    # hiera_video has no `f`: the published class takes clips, and a still one gives two slices; ours is the first.
    published = arrays["f"] if "f" in arrays else arrays["f_static_laststage_norm"][:1]
    assert distance(backbone, arrays["x"], published) < TOLERANCE
    assert distance(pickle.loads(pickle.dumps(backbone)), arrays["x"], published) < TOLERANCE
    assert (backbone.report.system, backbone.stride) == SYSTEMS[name]
    assert backbone.mean == ((0.45, 0.45, 0.45) if name in STATISTICS else (0.485, 0.456, 0.406))
    for array, frames in OTHER_SIZES.items():
        if array in arrays:
            assert distance(backbone, arrays[frames], arrays[array]) < TOLERANCE, array


@pytest.mark.golden
@pytest.mark.parametrize(
    "name", ["violet_videoswin", "convnextv2", "fcmae", "hiera_image", "hiera_mae", "hiera_video", "sam2_image_encoder"]
)
def test_each_stage_is_a_layer(golden, name):
    met = 0
    for array, (frames, layer) in (STAGES | {"f_static_stage3": ("x", 3)}).items():
        backbone, arrays = loaded(golden, name, layer=layer)
        if array not in arrays or (name, array) == ("sam2_image_encoder", "f_stage4"):
            continue
        published = arrays[array][:1] if array == "f_static_stage3" else arrays[array]
        assert distance(backbone, arrays[frames], published) < TOLERANCE, array
        met += 1
    assert met


@pytest.mark.golden
def test_sam2_windows_of_an_unpublished_size_must_be_told(golden):
    """The golden's windows (8, 4, 6, 3) stand in no file: its last stage needs them, and a note says what assumed."""
    backbone, arrays = loaded(golden, "sam2_image_encoder", layer=4)
    assert any("assumed" in note for note in backbone.report.notes)
    folder = golden("checkpoints/sam2_image_encoder")
    meta = json.loads((folder / "meta.json").read_text())
    recognised = recognise(open_checkpoint(folder / meta["file"]))
    variant = (meta["heads"], tuple(meta["window_spec"]), tuple(meta["global_att_blocks"]))
    rules = WindowedHieraRules(variants={(meta["dim"], tuple(meta["stages"])): variant})
    built: Built = build_sam2(replace(recognised, system=replace(recognised.system, rules=rules)), layer=4)
    assert built.notes == ()
    assert distance(built.network, arrays["x"], arrays["f_stage4"]) < TOLERANCE


@pytest.mark.golden
@pytest.mark.parametrize(
    "name",
    [
        *("videomae", "mae_st", "mae_st_finetuned", "mvd", "omnimae", "vjepa", "vjepa2", "maskfeat_video"),
        *("mvitv1_video", "mvitv2_video", "violet_videoswin"),
    ],
)
@torch.no_grad()
def test_a_window_of_frames_gives_the_published_time_slices(golden, name):
    backbone, arrays = loaded(golden, name)
    clip, published = torch.from_numpy(arrays["clip"]), arrays["f_clip"]
    assert distance(Windowed(backbone, len(clip)).network.clip, arrays["clip"], published) < TOLERANCE
    windowed, _ = loaded(golden, name, window=len(clip))
    assert windowed.mode.kind == "windowed"
    assert windowed.mode.sees_future
    maps = torch.stack(list(windowed.encode(iter(clip))))
    # One map per frame: the published slices, linear in time between their centres.
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(published).permute(3, 0, 1, 2)[None], size=(len(clip), *published.shape[1:3]), mode="trilinear"
    )[0].permute(1, 2, 3, 0)
    assert np.abs((maps - expected).numpy()).max() / np.abs(published).max() < TOLERANCE


@pytest.mark.golden
@torch.no_grad()
def test_hiera_for_videos_takes_windows_of_its_own_length(golden):
    for layer, array in ((None, "f_clip_laststage_norm"), (3, "f_clip_stage3")):
        backbone, arrays = loaded(golden, "hiera_video", layer=layer)
        assert distance(backbone.network.clip, arrays["clip"], arrays[array]) < TOLERANCE
    with pytest.raises(CheckpointError, match="windows of 4 frames, not of 8"):
        loaded(golden, "hiera_video", window=8)


@pytest.mark.golden
@torch.no_grad()
def test_windows_stream_pad_and_overlap(golden):
    backbone, arrays = loaded(golden, "mvd")
    frames = torch.from_numpy(arrays["clip"])
    windowed = Windowed(backbone, 4)
    maps = list(windowed.encode(iter(frames[:6])))
    assert len(maps) == 6
    assert torch.equal(torch.stack(maps[:4]), windowed(frames[:4]))
    padded = torch.cat([frames[4:6], torch.zeros_like(frames[:2])])
    assert torch.equal(torch.stack(maps[4:]), windowed(padded)[:2])
    repeated = list(Windowed(backbone, 4, padding="repeat").encode(iter(frames[:3])))
    assert torch.equal(torch.stack(repeated), windowed(frames[[0, 1, 2, 2]])[:3])
    overlapping = list(Windowed(backbone, 4, step=2).encode(iter(frames)))
    assert len(overlapping) == len(frames)
    assert torch.equal(torch.stack(overlapping[2:4]), windowed(frames[2:6])[:2])


@pytest.mark.golden
def test_windows_that_do_not_fit_are_refused(golden):
    with pytest.raises(CheckpointError, match="tokens span 2 frames"):
        loaded(golden, "mvd", window=3)
    for still in ("convnextv2", "hiera_image"):
        with pytest.raises(CheckpointError, match="sees single frames only"):
            loaded(golden, still, window=8)


@pytest.mark.golden
@pytest.mark.parametrize("name", SYSTEMS)
def test_a_layer_that_does_not_exist_is_refused(golden, name):
    with pytest.raises(CheckpointError, match="has no layer 99"):
        loaded(golden, name, layer=99)


@pytest.mark.golden
@pytest.mark.parametrize("name", ["simmim_swin", "fastmim_swin"])
@pytest.mark.parametrize("size", ["x", "x_ns"])
def test_swin_equals_timms_own_with_any_tables(golden, name, size):
    """These two files hold relative positions of all zeros, which the features beside them were not made with.

    So nobody can meet those features. Instead the file, with tables drawn at random, is compared with timm's network,
    which the golden's meta.json reports equal to the published code. At the native size that is timm's usual network.
    At the other one the last grid is smaller than a window, and the golden was made without shrinking windows: tables
    fitted to `f` and `f_stage2` alone reproduce `f_ns_timm` so (4e-4), and not with shrunk windows (0.16).
    """
    from timm.models.swin_transformer import SwinTransformer

    backbone, arrays = loaded(golden, name)
    assert backbone.report.system == "swin"
    network = backbone.network
    tables = [tensor for key, tensor in network.state_dict().items() if "relative_position_bias_table" in key]
    assert all(not table.any() for table in tables)
    generator = torch.Generator().manual_seed(0)
    for table in tables:
        table.copy_(torch.randn(table.shape, generator=generator))
    frames = arrays[size]
    timm = SwinTransformer(img_size=frames.shape[2:], always_partition=size == "x_ns", **network.design).eval()
    timm.load_state_dict(network.state_dict())
    with torch.no_grad():
        published = timm.forward_features(torch.from_numpy(frames)).numpy()
    assert distance(backbone, frames, published) < TOLERANCE
    assert distance(pickle.loads(pickle.dumps(backbone)), frames, published) < TOLERANCE


def test_a_swin_grid_that_fits_into_one_window_is_not_shifted():
    """Two blocks in the last stage, whose grid is one window: timm's usual network doesn't shift there either."""
    from timm.models.swin_transformer import SwinTransformer

    design: Any = {"embed_dim": 8, "depths": (2, 2), "num_heads": (1, 2), "window_size": 4, "num_classes": 0}
    ours = Swin(design, 32, Stage(2, normed=True), SwinRules()).eval()
    timm = SwinTransformer(img_size=32, **design).eval()
    timm.load_state_dict(ours.state_dict())
    frames = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(ours(frames), timm.forward_features(frames))


@pytest.mark.golden
def test_swin_takes_other_sizes_than_its_own(golden):
    backbone, arrays = loaded(golden, "simmim_swin", layer=2)
    assert backbone.stride == 8
    with torch.no_grad():
        assert backbone(torch.from_numpy(arrays["x_ns"])).shape == (2, 6, 10, 16)
        assert backbone(torch.from_numpy(arrays["x"])).shape == arrays["f_stage2"].shape


@pytest.mark.golden
@pytest.mark.parametrize("name", ["hiera_image", "violet_videoswin", "simmim_swin", "mvitv2_video", "videomae"])
@torch.no_grad()
def test_layers_share_one_pass_and_equal_their_own(golden, name):
    backbone, arrays = loaded(golden, name)
    frames = torch.from_numpy(arrays["x"])
    together = backbone.network.taps(frames, tuple(range(1, backbone.network.num_layers + 1)))
    for number, features in enumerate(together, 1):
        alone, _ = loaded(golden, name, layer=number)
        assert torch.equal(features, alone(frames))


@pytest.mark.golden
def test_videomae_under_hugging_face_names_gives_the_same(golden, tmp_path):
    """Written from the published converter, so unproven against a file of transformers."""
    folder = golden("checkpoints/videomae")
    arrays = np.load(folder / "golden.npz")
    renamed = {}
    tree: Any = open_checkpoint(folder / "checkpoint.pth").tree
    for name, tensor in tree["model"].items():
        if name.startswith("encoder."):
            renamed.update(hugging_face(name.removeprefix("encoder."), tensor))
    torch.save(renamed, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": 4}))
    backbone = load_backbone(tmp_path)
    assert backbone.report.system == "hf_videomae"
    assert distance(backbone, arrays["x"], arrays["f"]) < TOLERANCE


def hugging_face(name, tensor):
    """One tensor of VideoMAE as transformers' convert_videomae_to_pytorch.py names and cuts it."""
    name = name.replace("blocks.", "encoder.layer.").replace(
        "patch_embed.proj", "embeddings.patch_embeddings.projection"
    )
    name = name.replace("norm1", "layernorm_before").replace("norm2", "layernorm_after")
    name = name.replace("mlp.fc1", "intermediate.dense").replace("mlp.fc2", "output.dense")
    name = name.replace("attn.proj", "attention.output.dense").replace("attn.", "attention.attention.")
    name = "layernorm" + name.removeprefix("norm") if name.startswith("norm.") else name
    if not name.endswith("qkv.weight"):
        return {f"videomae.{name}": tensor}
    parts = zip(("query", "key", "value"), tensor.chunk(3), strict=True)
    return {f"videomae.{name.replace('qkv', part)}": chunk.clone() for part, chunk in parts}
