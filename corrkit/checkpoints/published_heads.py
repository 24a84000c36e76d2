"""Attention heads of published vision transformers by width and depth, since no weight's shape tells them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Published:
    """Heads of a size. family: systems that alone have so many; "": all others."""

    width: int
    depth: int
    heads: int
    source: str
    family: str = ""


_TIMM = "timm 1.0.31 models/vision_transformer.py"
_WEBSSL = "facebookresearch/webssl c85b60b"

PUBLISHED = (
    Published(192, 12, 3, "facebookresearch/dino 7c446df vision_transformer.py; deit 7e160fe"),
    Published(384, 12, 6, "facebookresearch/dino 7c446df vision_transformer.py; deit 7e160fe"),
    Published(768, 12, 12, "google-research/vision_transformer c6de1e5"),
    Published(1024, 24, 16, "google-research/vision_transformer c6de1e5"),
    Published(1280, 32, 16, "facebookresearch/mae efb2a80 models_mae.py; open_clip 89fb801 ViT-H-14 (head_width 80)"),
    Published(1408, 40, 16, "facebookresearch/ijepa 52c1ae9; open_clip 89fb801 ViT-g-14 (head_width 88)"),
    Published(1664, 48, 16, "open_clip 89fb801 ViT-bigG-14 (head_width 104)"),
    Published(1792, 56, 16, "open_clip 89fb801 ViT-e-14 (head_width 112)"),
    Published(1152, 27, 16, "google-research/big_vision 0127fb6 (So400m); google-deepmind/tips 4db271d"),
    Published(544, 24, 16, "microsoft/unilm 768a3c8 beit2"),
    Published(2688, 24, 21, _WEBSSL),
    Published(3072, 26, 24, _WEBSSL),
    Published(3584, 32, 28, _WEBSSL),
    Published(4096, 32, 32, _WEBSSL),
    *(
        Published(width, depth, heads, _TIMM)
        for width, depth, heads in (
            *((256, 10, 4), (256, 14, 4), (320, 14, 5), (384, 36, 6), (512, 12, 8), (512, 20, 8), (640, 12, 10)),
            *((832, 21, 13), (896, 12, 14), (896, 18, 14)),
        )
    ),
    Published(1280, 32, 20, "facebookresearch/dinov3 6876159 (H+)", "dinov3"),
    Published(4096, 40, 32, "facebookresearch/dinov3 6876159 (7B)", "dinov3"),
    Published(1536, 40, 24, "facebookresearch/dinov2 b8931f7 (g); google-deepmind/tips 4db271d (g)", "dinov2"),
    Published(1536, 40, 16, "google-research/big_vision 0127fb6 (SigLIP 2 giant-opt)", "siglip"),
    Published(1408, 40, 22, "facebookresearch/vjepa2 c2963a4 (g)", "vjepa2"),
    Published(1664, 48, 26, "facebookresearch/vjepa2 app/vjepa_2_1 (G)", "vjepa2"),
    Published(1536, 50, 16, "facebookresearch/perception_models 3e352cc (G)", "pe"),
    Published(1536, 47, 16, "facebookresearch/perception_models 3e352cc (G, language)", "pe"),
    Published(1024, 23, 16, "facebookresearch/perception_models 3e352cc (L, language)", "pe"),
    *(Published(width, 24, width // 128, "apple/ml-aim bd9e068 aim-v2", "aimv2") for width in (1024, 1536, 2048, 3072)),
    Published(384, 12, 12, "facebookresearch/moco-v3 c349e6e vits.py", "mocov3"),
    Published(384, 11, 12, "facebookresearch/moco-v3 c349e6e vits.py", "mocov3"),
    Published(768, 11, 12, "facebookresearch/moco-v3 c349e6e vits.py", "mocov3"),
)

CLASSLESS = {(768, 12): "timm's vit_base_patch16_gap_224, which has no class token either, has 16 heads"}
"""Width and depth of a network without class token to the words on another one that alone has other heads."""


def published(width: int, depth: int, family: str) -> Published | None:
    """The row of a family for a size, else the one of all systems; None where the size is in neither."""
    rows = [row for row in PUBLISHED if (row.width, row.depth) == (width, depth)]
    return next((row for name in (family, "") for row in rows if row.family == name), None)


def contradictory(width: int, depth: int) -> list[Published]:
    """The rows of a size that families with the same names have different numbers for, where it has no other row."""
    rows = [row for row in PUBLISHED if (row.width, row.depth) == (width, depth)]
    return rows if len({row.heads for row in rows}) > 1 else []
