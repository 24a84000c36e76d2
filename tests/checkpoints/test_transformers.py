"""transformers' own classes write tiny files while the test runs: a release that changes names or rules is noticed."""

import copy
import json
import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers_cases import CASES, CLIPS, NATIVE, RESIZED, VIT, WIDE, Written, written

from corrkit.backbones import load_backbone
from corrkit.errors import CheckpointError
from tests.checkpoints.test_goldens import distance

TOLERANCE = 2e-6  # of the features' scale: float32 with another order of sums; most are equal to the last bit


def features(case, model, frames):
    """[B, h, w, C] of the peer's model."""
    output = copy.deepcopy(model)(frames, **case.call)  # Swin's remembers that it has seen a small input
    found = output["last_hidden_state"]
    if case.output == "channels last":
        return found
    if found.ndim == 4:
        return found.movedim(1, -1)
    grid = (frames.shape[2] // case.stride, frames.shape[3] // case.stride)
    return found[:, case.prefix :].unflatten(1, grid)


@pytest.mark.parametrize("case", CASES, ids=[f"{case.model}-{case.id}".rstrip("-") for case in CASES])
@torch.no_grad()
def test_a_file_of_transformers_gives_the_features_of_its_class(case, tmp_path):
    model = written(case, tmp_path)
    backbone = load_backbone(tmp_path, layer=case.layer)
    assert backbone.stride == case.stride
    for height, width in case.sizes:
        frames = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(height + width))
        expected = features(case, model, frames).numpy()
        assert distance(backbone(frames).numpy(), expected) < TOLERANCE, (height, width)


@torch.no_grad()
def test_tubelets_of_transformers_are_fed_one_frame(tmp_path):
    case = Written(
        model="VJEPA2Model",
        config="VJEPA2Config",
        options={"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "mlp_ratio": 2.0, "crop_size": 64}
        | {"patch_size": 8, "frames_per_clip": 4, "pred_hidden_size": 12, "pred_num_attention_heads": 2}
        | {"pred_num_hidden_layers": 1, "pred_num_mask_tokens": 2},
    )
    model, backbone = written(case, tmp_path), load_backbone(tmp_path)
    frames = torch.randn(2, 3, *NATIVE, generator=torch.Generator().manual_seed(0))
    output = model(frames[:, None].expand(-1, 2, -1, -1, -1), skip_predictor=True)
    assert distance(backbone(frames).numpy(), output.last_hidden_state.unflatten(1, (8, 8)).numpy()) < TOLERANCE
    assert any("crop_size" in note for note in backbone.report.notes)  # at other sizes the class numbers by it


@pytest.mark.parametrize("case", CLIPS, ids=[f"{case.model}-{case.id}".rstrip("-") for case in CLIPS])
@torch.no_grad()
def test_a_clip_of_transformers_gives_the_features_of_its_class(case, tmp_path):
    model, backbone = written(case, tmp_path), load_backbone(tmp_path)
    for height, width in case.sizes:
        clip = torch.randn(6, 3, height, width, generator=torch.Generator().manual_seed(height + width))
        tokens = model(clip[None], **case.call).last_hidden_state[:, case.prefix :]
        grid = (height // 8, width // 8)
        if case.model == "TimesformerModel":  # its tokens are ordered by place, then by time
            expected = tokens.unflatten(1, (*grid, 6)).movedim(3, 1)
        else:
            expected = tokens.unflatten(1, (3, *grid))
        assert distance(backbone.network.clip(clip).numpy(), expected[0].numpy()) < TOLERANCE, (height, width)


@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
@torch.no_grad()
def test_a_resnet_of_transformers_gives_stage_three_at_stride_eight(kind, tmp_path):
    """Its own class, with the third stage's stride taken out, as CRW's test code does with any ResNet."""
    widths = [64, 128, 256, 512] if kind == "basic" else [256, 512, 1024, 2048]
    options = {"embedding_size": 64, "hidden_sizes": widths, "depths": [1, 2, 1, 1], "layer_type": kind}
    model = written(Written(model="ResNetModel", config="ResNetConfig", options=options), tmp_path)
    backbone = load_backbone(tmp_path)
    for module in model.encoder.stages[2].modules():
        if isinstance(module, torch.nn.Conv2d):
            module.stride = (1, 1)
    for height, width in (NATIVE, WIDE):
        frames = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))
        expected = model(frames, output_hidden_states=True).hidden_states[3].movedim(1, -1)
        assert distance(backbone(frames).numpy(), expected.numpy()) < TOLERANCE


@pytest.mark.parametrize(
    ("model", "config", "options", "base"),
    [
        ("SwinForMaskedImageModeling", "SwinConfig", {"window_size": 4, "encoder_stride": 16}, "swin"),
        ("Swinv2ForMaskedImageModeling", "Swinv2Config", {"window_size": 4, "encoder_stride": 16}, "swinv2"),
    ],
    ids=["swin", "swinv2"],
)
@torch.no_grad()
def test_simmims_class_gives_the_features_of_its_encoder(model, config, options, base, tmp_path):
    sizes = {"image_size": 64, "embed_dim": 12, "depths": [2, 2, 2], "num_heads": [1, 2, 4]}
    whole, backbone = (
        written(Written(model=model, config=config, options={**sizes, **options}), tmp_path),
        load_backbone(tmp_path),
    )
    for height, width in (NATIVE, WIDE, (96, 128)):
        frames = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(height))
        case = Written(model=model, config=config, options={}, prefix=0, stride=16)
        expected = features(case, getattr(whole, base), frames)
        assert distance(backbone(frames).numpy(), expected.numpy()) < TOLERANCE
    groups = dict(backbone.report.dropped)
    assert any("mask token" in why for why in groups.values())
    assert any("decoder" in why for why in groups.values())


SIMMIM = (  # transformers' convert_swin_simmim_to_pytorch.py, backwards
    (r"^swin\.embeddings\.patch_embeddings\.projection\.", "encoder.patch_embed.proj."),
    (r"^swin\.embeddings\.norm\.", "encoder.patch_embed.norm."),
    (r"^swin\.embeddings\.mask_token", "encoder.mask_token"),
    (r"^swin\.layernorm\.", "encoder.norm."),
    (r"^swin\.encoder\.", "encoder."),
    (r"attention\.self\.relative", "attn.relative"),
    (r"attention\.output\.dense", "attn.proj"),
    (r"layernorm_before", "norm1"),
    (r"layernorm_after", "norm2"),
    (r"intermediate\.dense", "mlp.fc1"),
    (r"(?<!attention\.)output\.dense", "mlp.fc2"),
)


@torch.no_grad()
def test_simmims_own_names_give_the_features_of_its_class(tmp_path):
    """In place of the golden of simmim_swin, whose tables are all zero while its features were made with others."""
    options = {"image_size": 64, "embed_dim": 12, "depths": [2, 2, 1], "num_heads": [1, 2, 4], "window_size": 4}
    case = Written(
        model="SwinForMaskedImageModeling", config="SwinConfig", options={**options, "encoder_stride": 16}, prefix=0
    )
    model = written(case, tmp_path)
    renamed = {}
    for name, tensor in load_file(tmp_path / "model.safetensors").items():
        for pattern, replacement in SIMMIM:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    for stem in [name.removesuffix("query.weight") for name in renamed if name.endswith("self.query.weight")]:
        for kind in ("weight", "bias"):
            parts = [renamed.pop(f"{stem}{part}.{kind}") for part in ("query", "key", "value")]
            renamed[f"{stem.removesuffix('attention.self.')}attn.qkv.{kind}"] = torch.cat(parts)
        renamed[f"{stem.removesuffix('attention.self.')}attn.relative_position_index"] = torch.zeros(16, 16).long()
    renamed["encoder.layers.0.blocks.1.attn_mask"] = torch.zeros(16, 16, 16)
    torch.save({"model": renamed, "optimizer": {}, "lr_scheduler": {}, "epoch": 799}, tmp_path / "simmim.pth")
    backbone = load_backbone(tmp_path / "simmim.pth")
    assert backbone.report.system == "swin"
    for height, width in (NATIVE, (96, 128)):  # at others the two differ in where they shift: `SwinRules`
        frames = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
        expected = features(replace(case, stride=16), model.swin, frames).numpy()
        assert distance(backbone(frames).numpy(), expected) < TOLERANCE


@torch.no_grad()
def test_a_frame_of_timesformer_is_a_clip_of_one(tmp_path):
    """Its class takes clips of num_frames only: that of one frame, with the same weights, gives what a frame gives."""
    import transformers

    case = Written(model="TimesformerModel", config="TimesformerConfig", options={**VIT, "num_frames": 6})
    weights = written(case, tmp_path).state_dict()
    backbone = load_backbone(tmp_path)
    single = transformers.TimesformerModel(transformers.TimesformerConfig(**VIT, num_frames=1)).eval()
    weights["embeddings.time_embeddings"] = weights["embeddings.time_embeddings"][:, :1]
    single.load_state_dict(weights)
    frames = torch.randn(2, 3, *NATIVE, generator=torch.Generator().manual_seed(0))
    expected = single(frames[:, None]).last_hidden_state[:, 1:].unflatten(1, (8, 8))
    assert distance(backbone(frames).numpy(), expected.numpy()) < TOLERANCE


@torch.no_grad()
def test_the_part_about_images_of_a_composite_config_counts(tmp_path):
    text = {"hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 32}
    case = Written(
        model="CLIPModel",
        config="CLIPConfig",
        options={"text_config": text, "vision_config": {**VIT, "hidden_act": "gelu"}, "projection_dim": 8},
    )
    model, backbone = written(case, tmp_path), load_backbone(tmp_path)
    frames = torch.randn(2, 3, *WIDE, generator=torch.Generator().manual_seed(0))
    expected = features(Written(model="", config="", options={}, call=RESIZED), model.vision_model, frames)
    assert distance(backbone(frames).numpy(), expected.numpy()) < TOLERANCE


LOOK_ALIKES = [
    ("Idefics3VisionTransformer", "Idefics3VisionConfig", VIT),
    ("SmolVLMVisionTransformer", "SmolVLMVisionConfig", VIT),
    ("YolosModel", "YolosConfig", {**VIT, "image_size": [64, 64], "num_detection_tokens": 3}),
    ("BlipVisionModel", "BlipVisionConfig", VIT),
]


@pytest.mark.parametrize(("model", "config", "options"), LOOK_ALIKES, ids=[name for name, *_ in LOOK_ALIKES])
def test_a_look_alike_is_refused_by_its_model_type(model, config, options, tmp_path):
    import transformers

    kind = getattr(transformers, config).model_type
    getattr(transformers, model)(getattr(transformers, config)(**options)).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=f"model_type '{kind}'") as refusal:
        load_backbone(tmp_path)
    assert "incomplete" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("num_hidden_layers", 3, r"num_hidden_layers 3 \(here: 2\)"),
        ("image_size", 96, r"image_size 96 \(here: 64\)"),
        ("num_attention_heads", 5, "5 heads"),
        ("qkv_bias", False, r"qkv_bias False \(here: True\)"),
        ("hidden_act", "relu6", "'relu6'"),
    ],
)
def test_a_config_that_contradicts_the_tensors_is_refused_by_name(name, value, words, tmp_path):
    written(CASES[0], tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, name: value}))
    with pytest.raises(CheckpointError, match=words):
        load_backbone(tmp_path)


@pytest.mark.parametrize("kind", ["joint_space_time", "space_only"])
def test_another_attention_of_timesformer_is_refused_by_name(kind, tmp_path):
    options = {**VIT, "num_frames": 2, "attention_type": kind}
    written(Written(model="TimesformerModel", config="TimesformerConfig", options=options), tmp_path)
    with pytest.raises(CheckpointError, match=f"attention_type {kind}") as refusal:
        load_backbone(tmp_path)
    assert "incomplete" not in str(refusal.value)


def test_swin_v2_without_its_config_asks_for_it(tmp_path):
    """Nothing in its tensors depends on the size of a window."""
    options = {"image_size": 64, "embed_dim": 12, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
    written(Written(model="Swinv2Model", config="Swinv2Config", options=options), tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"only the config beside it tells[\s\S]*Put the model's config.json"):
        load_backbone(tmp_path)


@pytest.mark.parametrize(
    ("told", "mean", "std"),
    [
        ({"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.2]}, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2)),
        ({"do_normalize": False, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}, (0.0,) * 3, (1.0,) * 3),
        ({"image_mean": 0.5, "image_std": 0.25}, (0.5,) * 3, (0.25,) * 3),
        ({"rescale_factor": 1 / 127.5, "offset": True, "do_normalize": False}, (0.5,) * 3, (0.5,) * 3),
        (
            {"rescale_factor": 1 / 127.5, "offset": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
            (0.75,) * 3,
            (0.25,) * 3,
        ),
    ],
)
def test_the_input_is_what_its_processor_makes_of_it(told, mean, std, tmp_path):
    """ViViT's and TIPS v2's processors do something else than subtract image_mean and divide by image_std."""
    import transformers

    written(CASES[0], tmp_path)
    transformers.VivitImageProcessor(**{"offset": False, "rescale_factor": 1 / 255, **told}).save_pretrained(tmp_path)
    backbone = load_backbone(tmp_path)
    processor = transformers.VivitImageProcessor.from_pretrained(
        tmp_path, do_resize=False, do_center_crop=False, size={"shortest_edge": 8}
    )
    frame = torch.randint(0, 256, (3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).numpy()
    processed = processor([[frame]], return_tensors="pt")["pixel_values"][0, 0]
    assert backbone.mean == pytest.approx(mean, abs=1e-6)
    assert backbone.std == pytest.approx(std, abs=1e-6)
    middle, spread = (torch.tensor(values).view(3, 1, 1) for values in (backbone.mean, backbone.std))
    ours = (torch.from_numpy(frame) / 255 - middle) / spread
    torch.testing.assert_close(processed.float(), ours, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["HieraModel", "SamVisionModel", "Sam2HieraDetModel"])
def test_an_epsilon_that_a_network_lacks_is_refused(name, tmp_path):
    case = next(case for case in CASES if case.model == name)
    written(replace(case, options={**case.options, "layer_norm_eps": 1e-2}), tmp_path)
    with pytest.raises(CheckpointError, match=r"layer_norm_eps 0\.01 \(here: 1e-06\)"):
        load_backbone(tmp_path)


def test_a_hiera_whose_patches_have_no_middle_is_refused(tmp_path):
    sizes = {"image_size": [64, 64], "embed_dim": 8, "patch_size": [8, 8]}
    options = {**sizes, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8]}
    written(Written(model="HieraModel", config="HieraConfig", options=options), tmp_path)
    with pytest.raises(CheckpointError, match="has patches of 8x8 pixels"):
        load_backbone(tmp_path)


def test_an_activation_that_a_network_in_stages_lacks_is_refused(tmp_path):
    options = {"image_size": 64, "embed_dim": 12, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
    written(Written(model="SwinModel", config="SwinConfig", options={**options, "hidden_act": "relu"}), tmp_path)
    with pytest.raises(CheckpointError, match=r"hidden_act relu \(here: gelu\)"):
        load_backbone(tmp_path)
