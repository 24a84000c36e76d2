"""A sample of benchmarks/checkpoint_sweep.py: what becomes of files that other libraries' classes write."""

import pytest
import swept_timm
import swept_transformers
import torch
from swept import TOLERANCE, Row, compared, judge, opened_state, redraw

TIMM = {
    "test_vit": "assumed",
    "test_vit2": "assumed",
    "deit_tiny_distilled_patch16_224": "assumed",
    "vit_base_patch16_gap_224": "assumed",
    "resnetblur18": "assumed",
    "cait_xxs24_224": "refused",
    "dla46_c": "refused",
    "hrnet_w18_small": "refused",
    "resnet51q": "refused",
    "vit_tiny_r_s16_p8_224": "refused",
}
# What was once said of them and isn't so.
FALSE_WORDS = ("adapter", "no layer 3", "OpenAI CLIP", "Only networks for RGB", "incomplete", "--system deit3")
TRANSFORMERS = {
    "vit.modeling_vit:ViTModel": "equal",
    "vit.modeling_vit:ViTModel (lone)": "noted",
    "dpt.modeling_dpt:DPTModel": "equal",
    "dpt.modeling_dpt:DPTModel (lone)": "assumed",
    "dpt.modeling_dpt:DPTForDepthEstimation": "equal",
    "dpt.modeling_dpt:DPTForDepthEstimation (lone)": "noted",
    "convnext.modeling_convnext:ConvNextModel": "equal",
    "convnext.modeling_convnext:ConvNextModel (lone)": "noted",
    "cvt.modeling_cvt:CvtModel": "refused",
    "cvt.modeling_cvt:CvtModel (lone)": "refused",
}


def test_networks_of_timm_give_their_own_features_or_are_refused_truthfully():
    rows = {row.name: row for row in swept_timm.rows(list(TIMM))}
    assert {name: row.outcome for name, row in rows.items()} == TIMM
    assert not [row.words for row in rows.values() if any(words in row.words for words in FALSE_WORDS)]


def test_networks_of_transformers_give_their_own_features_or_are_refused_truthfully():
    names = list(dict.fromkeys(name.removesuffix(" (lone)") for name in TRANSFORMERS))
    rows = {row.name: row for row in swept_transformers.rows(names)}
    assert {name: row.outcome for name, row in rows.items()} == TRANSFORMERS


@torch.no_grad()
def test_sam_in_the_names_of_timm_resamples_positions_as_timm_does():
    from timm.models.vision_transformer_sam import VisionTransformerSAM

    model = VisionTransformerSAM(
        img_size=64,
        patch_size=8,
        embed_dim=48,
        depth=2,
        num_heads=4,
        num_classes=0,
        window_size=3,
        global_attn_indexes=(1,),
        use_rel_pos=True,
        neck_chans=16,
    ).eval()
    redraw(model)
    row, built = judge(opened_state(model.state_dict()))
    assert row.system == "timm_sam"
    for height, width in ((64, 64), (64, 96)):
        frames = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))
        expected = model.forward_features(frames).movedim(1, -1)
        assert float((built.network(frames) - expected).abs().max()) < TOLERANCE * float(expected.abs().max())


@torch.no_grad()
def test_a_swin_in_the_names_of_timm_is_at_other_sizes_what_timm_makes_for_them():
    """As long as no stage's grid is smaller than a window; timm then shrinks windows and needs other tables."""
    from timm.models.swin_transformer import SwinTransformer

    options = {"embed_dim": 12, "depths": (2, 2, 2), "num_heads": (1, 2, 4), "window_size": 4, "num_classes": 0}
    weights = SwinTransformer(img_size=64, **options)
    redraw(weights)
    row, built = judge(opened_state(weights.state_dict()))
    assert (row.system, row.outcome) == ("timm_swin", "noted")
    for size in ((64, 64), (64, 96), (96, 160), (80, 64), (80, 112)):
        peer = SwinTransformer(img_size=size, **options).eval()
        peer.load_state_dict(weights.state_dict())
        frames = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
        expected = peer.forward_features(frames)
        assert float((built.network(frames) - expected).abs().max()) < TOLERANCE * float(expected.abs().max())


def test_a_model_of_texts_and_images_is_not_called_a_text_model():
    words = torch.zeros(9, 4)
    both = {"text.token_embedding.weight": words, "visual.stem.0.conv.weight": torch.zeros(4, 3, 3, 3)}
    assert "text model" not in judge(opened_state(both))[0].words
    assert "text model" in judge(opened_state({"text.token_embedding.weight": words}))[0].words


@pytest.mark.parametrize("square", [False, True])
def test_the_sweep_notices_other_features(square):
    built = judge(opened_state(swept_timm.made_by_timm("test_vit").state_dict()), heads=2)[1]

    def peer(frames):
        shifted = square == (frames.shape[2] == frames.shape[3])
        return built.network(frames) + (0.1 if shifted else 0.0)

    row = Row(name="", outcome="equal")
    assert compared(row, built, peer, [(64, 64), (64, 96)]).outcome == "wrong"


def test_a_convnext_with_larger_patches_is_refused():
    from transformers import ConvNextConfig, ConvNextModel

    config = ConvNextConfig(patch_size=8, depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 24, 32])
    row, _ = judge(opened_state(ConvNextModel(config).state_dict()))
    assert (row.outcome, "patches of 8x8" in row.words) == ("refused", True)
