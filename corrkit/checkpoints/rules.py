"""What the tensors of a network can't tell: one frozen dataclass per builder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Stages = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ViTRules:
    """What the tensors of a vision transformer can't tell.

    heads: family of `published_heads` whose numbers of heads are special; sizes that aren't there have
        width / head_width. row_first_heads: the same, where the stored positions are the sine-cosine table with rows
        first (MoCo v3's).
    cls: whether there is a class token (None: as in the file). final_norm: "affine" where the features are normalised
        by tensors that must be in the file, "optional" where some files of the system have them and some not,
        "weightless", "none". position: the published resampling rule of a stored table, "sincos" where it is
        computed, None without absolute positions. relative_rule: how tables of relative positions are resampled.
        gate: the activation of a SwiGLU, "config" where a configuration may name another. absent: biases that the
        system lacks, of patch, qkv, proj, mlp.
    """

    heads: str = ""
    row_first_heads: str = ""
    head_width: int = 64
    cls: bool | None = True
    final_norm: Literal["affine", "optional", "weightless", "none"] = "affine"
    eps: float = 1e-6
    norm: Literal["layer", "rms"] = "layer"
    activation: Literal["gelu", "gelu-tanh", "quick-gelu"] = "gelu"
    position: str | None = "dino"
    rotary: str | None = None
    relative: bool = False
    relative_rule: Literal["geometric", "bilinear"] = "geometric"
    gate: Literal["silu", "config"] = "silu"
    absent: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResNetRules:
    """How a ResNet is evaluated densely.

    strides: of the four layers, as in the published test code; layer: the one whose output the features are, or the
    name of the convolution behind it. padding: of all padded convolutions. pool: after the first convolution.
    normalise: whether the features have length 1. colour: of the input.
    """

    strides: tuple[int, int, int, int] = (1, 2, 1, 1)
    layer: int | Literal["afterconv1", "post_convolution"] = 3
    padding: Literal["zeros", "reflect"] = "zeros"
    pool: Literal["max", "none"] = "max"
    colour: Literal["rgb", "lab", "grey"] = "rgb"


@dataclass(frozen=True, slots=True, kw_only=True)
class SwinRules:
    """How windows are laid out over a grid.

    shifts: where they aren't shifted: along an axis whose grid is one window ("each"), or where either axis' is
        ("both"). The first is Swin's and torchvision's rule, the second transformers'
        (SwinLayer.set_shift_and_window_size).
    pads: whether a grid is filled up to whole windows in front of the shift, as in Swin's detectors, torchvision and
        transformers, or behind it, as in timm.
    """

    shifts: Literal["each", "both"] = "each"
    pads: Literal["in front", "behind"] = "in front"


@dataclass(frozen=True, slots=True, kw_only=True)
class HieraRules:
    """Hiera: heads of the first stage by its width; q_pool: how many stage ends halve the grid."""

    heads: Mapping[int, int] = field(default_factory=dict)
    q_pool: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowedHieraRules:
    """SAM 2's trunk: (width, blocks per stage) to (heads, window per stage, blocks with global attention)."""

    variants: Mapping[tuple[int, Stages], tuple[int, Stages, Stages]] = field(default_factory=dict)
    windows: Stages = (8, 4, 14, 7)


@dataclass(frozen=True, slots=True, kw_only=True)
class TubeletRules:
    """A vision transformer whose tokens are tubelets.

    heads: family of `published_heads`; other sizes have width / 64. final_norm: "affine" where the published features
    are normalised by the file's `norm`, "none" where it (or `fc_norm`) acts on the mean of the tokens only.
    position: "sinusoid" (VideoMAE: computed over all tokens, nothing stored), "stored" (one row per token, resized per
    time slice), "separable" (space plus time), "trilinear" (one row per token, resized in time too), "rotary".
    frames, side: of the clips of training; side only where nothing is stored and the width is a published one.
    activation, eps: as in `ViTRules`.
    """

    heads: str = ""
    final_norm: Literal["affine", "none"] = "affine"
    activation: Literal["gelu", "gelu-tanh"] = "gelu"
    eps: float = 1e-6
    position: Literal["sinusoid", "stored", "separable", "trilinear", "rotary"]
    frames: int = 16
    side: int = 224
    widths: frozenset[int] = frozenset({384, 768, 1024, 1280, 1408})


@dataclass(frozen=True, slots=True, kw_only=True)
class MViTRules:
    """MViT's strides where the file holds no configuration: of keys and values in the first stage, and of queries.

    Queries are pooled where the width grows.
    """

    key_stride: int = 8
    image_key_stride: int = 4
