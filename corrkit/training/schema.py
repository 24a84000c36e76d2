"""What a recipe says, as frozen dataclasses. Leaves without a default must stand in the recipe or its parent."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeVar

from corrkit.constants import AT_LEAST_ONE, NON_NEGATIVE, POSITIVE, SHARE


@dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    """From a clip or image to the network's inputs.

    kind: "single" (one image), "pair" and "triple" (frames of a clip), "clip" (`frames` frames), "crops" (a global and
        a local crop of one image, see `crop_of_crop`), "augmented" (two augmented crops), "multicrop" (two global
        crops, then `locals` local ones).
    size: pixels of a view's side. sizes, until: sizes that come first, and the share of the training where each ends.
    gap: frames between the frames of a pair, both ends included. pairing: how pair and triple are placed, see
        `sampling.choose_frames`. area: share of the frame that a crop covers; local_area: that of local crops. aspect:
        ratio of a crop's sides. shared_box: the frames of a clip have one box and one flip.
    flip: probability, of the frame before it is cropped. repeat: samples from each decoded item. frame_stride: frames
    between those of a clip. crop_of_crop: the local crop is of the global one.
    colour: augmentation of "augmented" and "multicrop" views, see `views.COLOURS`; with "-device" it is done by the
    device that trains, not by the processes that decode.
    """

    kind: Literal["single", "pair", "triple", "clip", "crops", "augmented", "multicrop"]
    size: int = field(metadata=AT_LEAST_ONE)
    area: tuple[float, float] = field(metadata=SHARE)
    flip: float = field(metadata=SHARE)
    sizes: tuple[int, ...] = field(default=(), metadata=AT_LEAST_ONE)
    until: tuple[float, ...] = field(default=(), metadata=SHARE)
    repeat: int = field(default=1, metadata=AT_LEAST_ONE)
    aspect: tuple[float, float] = field(default=(3 / 4, 4 / 3), metadata=POSITIVE)
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    gap: tuple[int, ...] = field(default=(), metadata=NON_NEGATIVE)
    pairing: Literal["gap-first", "start-first", "spread"] = "gap-first"
    shared_box: bool = True
    frames: int = field(default=1, metadata=AT_LEAST_ONE)
    frame_stride: int = field(default=1, metadata=AT_LEAST_ONE)
    crop_of_crop: bool = False
    local_area: tuple[float, ...] = field(default=(), metadata=SHARE)
    local_size: int = field(default=0, metadata=NON_NEGATIVE)
    locals: int = field(default=0, metadata=NON_NEGATIVE)
    colour: Literal["none", "siameseim", "dino", "siameseim-device", "dino-device"] = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskRule:
    """Which tokens of a view are hidden; see `masks.draw`.

    kind: "none", "random", "tube", "cells", "block", "cube" (blocks with a length in time), "ibot" (blocks of a drawn
    share, half of the views have none), "boxes" (VIOLET: boxes in half of the views, in the others each token is drawn
    on its own). ratio: share hidden. rounding of
    a count: "keep-floor" (visible = int(L (1 - r))), "hide-floor", "hide-ceil", "hide-round". cell: tokens of a side of
    a cell ("cells", "block", "cube"). count: exact number of cells hidden by blocks, of `smallest` to `largest` cells
    each. fill: how blocks get there. total: number hidden in the end, the others at random (0: no others). roll:
    largest number of tokens of blocks that are then swapped for visible ones.
    """

    kind: Literal["none", "random", "tube", "cells", "block", "cube", "ibot", "boxes"]
    ratio: float = field(default=0.0, metadata=SHARE)
    rounding: Literal["keep-floor", "hide-floor", "hide-ceil", "hide-round"] = "keep-floor"
    cell: int = field(default=1, metadata=AT_LEAST_ONE)
    count: int = field(default=0, metadata=NON_NEGATIVE)
    smallest: int = field(default=0, metadata=NON_NEGATIVE)
    largest: int = field(default=0, metadata=NON_NEGATIVE)
    fill: Literal["stop", "random", "endless"] = "stop"
    total: int = field(default=0, metadata=NON_NEGATIVE)
    roll: int = field(default=0, metadata=NON_NEGATIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSpec:
    """The network that is kept.

    network: "vit" (of timm's blocks), "convnextv2" (FCMAE) or "mvit" (MViTv2). Of the latter two, networks in stages,
    dim and heads are those of the first stage and double at the blocks `widens` (0 is the first), where the grid halves
    until a token has `patch` pixels. widening: whether attention or the MLP of the block before changes MViT's width.
    grn: responses of ConvNeXt V2 are normalised over each "image", or over the "batch" as its sparse code does.
    patch: pixels of a token's side; tubelet: its frames. position: "sincos-column" (MAE), "sincos-row" (MoCo v3),
    "sinusoid" (VideoMAE, one-dimensional), "separable" (MAE-ST, learned), "learned", "none". bias: "qkv", or "qv"
    without one for keys. hidden_tokens: "drop" (only visible tokens are processed), "replace" (by a mask token),
    "pixels" (by a learned colour), "zeros" (by zeros, the mean colour), "grey" (they lose their colour: the siamese
    baseline of colour dropout). joint: the
    views go through the blocks together. view_vectors: learned vectors that tell joint views apart. relative: BEiT's
    bias shared by all blocks. scale: initial LayerScale, 0 for none.
    """

    dim: int = field(metadata=AT_LEAST_ONE)
    depth: int = field(metadata=AT_LEAST_ONE)
    heads: int = field(metadata=AT_LEAST_ONE)
    patch: int = field(metadata=AT_LEAST_ONE)
    position: Literal["sincos-column", "sincos-row", "sinusoid", "separable", "learned", "none"]
    mlp_ratio: float = field(default=4.0, metadata=POSITIVE)
    tubelet: int = field(default=1, metadata=AT_LEAST_ONE)
    cls: bool = True
    final_norm: bool = True
    bias: Literal["qkv", "qv"] = "qkv"
    hidden_tokens: Literal["drop", "replace", "pixels", "zeros", "grey"] = "drop"
    joint: bool = False
    view_vectors: int = field(default=0, metadata=NON_NEGATIVE)
    frozen_patches: bool = False
    drop_path: float = field(default=0.0, metadata=SHARE)
    relative: bool = False
    scale: float = field(default=0.0, metadata=NON_NEGATIVE)
    network: Literal["vit", "convnextv2", "mvit"] = "vit"
    widens: tuple[int, ...] = field(default=(), metadata=NON_NEGATIVE)
    widening: Literal["attention", "mlp"] = "attention"
    grn: Literal["image", "batch"] = "image"

    @property
    def width(self) -> int:
        """Channels of a token behind the last block."""
        return int(self.dim * 2 ** len(self.widens))


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderSpec:
    """From visible tokens to predictions for all tokens.

    blocks: order of the sublayers of a block: c(ross-attention to the memory), s(elf-attention), m(lp); "v" for
    ConvNeXt V2's; "" for none: only the head.
    norm: before ("pre") or after ("post") each sublayer; eps: of the sublayers' norms. hidden: of the MLP, 0 for
    4 x dim. memory_position: positions are added to the memory too. frame_vectors: learned vectors that tell several
    memories apart. cls: "encoder" (its class token goes through), "own" (a learned one), "none". final_norm: before the
    head. visible_position: visible tokens get positions too, not only mask tokens. concatenates: the memory is appended
    to the queries and read by self-attention (SiamMAE's joint decoder).
    """

    blocks: str
    dim: int = field(metadata=NON_NEGATIVE)
    depth: int = field(metadata=NON_NEGATIVE)
    heads: int = field(metadata=AT_LEAST_ONE)
    position: Literal["sincos-column", "sincos-row", "sinusoid", "separable", "none"] = "sincos-column"
    norm: Literal["pre", "post"] = "pre"
    eps: float = field(default=1e-6, metadata=POSITIVE)
    hidden: int = field(default=0, metadata=NON_NEGATIVE)
    activation: Literal["gelu", "relu"] = "gelu"
    memory_position: bool = True
    frame_vectors: int = field(default=0, metadata=NON_NEGATIVE)
    concatenates: bool = False
    visible_position: bool = True
    dropout: float = field(default=0.0, metadata=SHARE)
    cls: Literal["encoder", "own", "none"] = "encoder"
    bias: Literal["qkv", "qv"] = "qkv"
    embed_bias: bool = True
    final_norm: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One prediction: of `target` for the tokens of view `query`, from the tokens of the views in `memory`.

    target: a name that `targets.target_of` knows. over: the tokens whose losses are averaged.
    cls_from: the view whose class token takes the place of the query's own (ToBo). decoder: index into the recipe's.
    """

    query: int = field(metadata=NON_NEGATIVE)
    target: str
    loss: Literal["mse", "l1", "smooth-l1", "cosine", "cross-entropy"]
    memory: tuple[int, ...] = field(default=(), metadata=NON_NEGATIVE)
    over: Literal["masked", "all"] = "masked"
    weight: float = field(default=1.0, metadata=NON_NEGATIVE)
    decoder: int = field(default=0, metadata=NON_NEGATIVE)
    cls_from: int = field(default=-1, metadata={"min": -1})


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimiser:
    """AdamW and its schedules.

    rate: base learning rate, for `reference` samples (0: absolute). rate_unit: whether the batch that scales it counts
    decoded items or samples. schedule: "cosine" (MAE: by fractional epoch), "table" (DINO, VideoMAE), "steps" (tenths
    at `milestones`). warmup, epochs: in epochs of the data; a `repeat` of the views shortens both where `divides`.
    last_rate: at the end; `last_rate_scales`: it is scaled by the batch as the rate is, else it is absolute. clip:
    largest gradient norm, 0 for none; clip_each: per parameter. last_decay: weight decay at the end (cosine), -1 for
    one that stays.
    """

    rate: float = field(metadata=POSITIVE)
    reference: int = field(metadata=NON_NEGATIVE)
    batch: int = field(metadata=AT_LEAST_ONE)
    epochs: int = field(metadata=AT_LEAST_ONE)
    warmup: float = field(metadata=NON_NEGATIVE)
    betas: tuple[float, float] = field(metadata=SHARE)
    decay: float = field(metadata=NON_NEGATIVE)
    rate_unit: Literal["item", "sample"] = "item"
    schedule: Literal["cosine", "table", "steps"] = "cosine"
    milestones: tuple[float, ...] = field(default=(), metadata=NON_NEGATIVE)
    last_rate: float = field(default=0.0, metadata=NON_NEGATIVE)
    last_rate_scales: bool = False
    last_decay: float = -1.0
    clip: float = field(default=0.0, metadata=NON_NEGATIVE)
    clip_each: bool = False
    divides: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherSpec:
    """Momentum of a teacher that follows the student, from `momentum` to `last` along half a cosine."""

    momentum: float = field(default=1.0, metadata=SHARE)
    last: float = field(default=1.0, metadata=SHARE)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOptions:
    """Where targets come from that pixels alone don't give.

    tokenizer: of the target "ids", see `tokenizers.load_tokenizer`. teachers: specs of the backbones that give the
    targets "features-0", "features-1", ...
    """

    tokenizer: str = ""
    teachers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitMaskOptions(TargetOptions):
    """temperature and match_weight: of the contrast between the halves."""

    temperature: float = field(metadata=POSITIVE)
    match_weight: float = field(metadata=NON_NEGATIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class BootMAEOptions:
    """ramp: share of the training in which the features' weight rises to 1."""

    ramp: float = field(metadata={**POSITIVE, "max": 1})


@dataclass(frozen=True, slots=True, kw_only=True)
class SdAEOptions:
    """groups: of hidden tokens, each seen by the teacher on its own. axis: along which the cosine is taken."""

    groups: int = field(metadata=AT_LEAST_ONE)
    axis: Literal["features", "tokens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DINOOptions:
    """hidden, bottleneck, prototypes: widths of the head. temperature: of the teacher: first, last, epochs between."""

    hidden: int = field(metadata=AT_LEAST_ONE)
    bottleneck: int = field(metadata=AT_LEAST_ONE)
    prototypes: int = field(metadata=AT_LEAST_ONE)
    student_temperature: float = field(metadata=POSITIVE)
    temperature: tuple[float, float, int] = field(metadata=POSITIVE)
    centre_momentum: float = field(metadata=SHARE)


@dataclass(frozen=True, slots=True, kw_only=True)
class IBOTOptions(DINOOptions):
    """patch_temperature: as `temperature`, for the patches."""

    patch_temperature: tuple[float, float, int] = field(metadata=POSITIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RSPOptions:
    """groups, classes: of the latent. noise: deviation of what is added to the future frame. See `rsp.balanced_kl`."""

    groups: int = field(metadata=AT_LEAST_ONE)
    classes: int = field(metadata=AT_LEAST_ONE)
    noise: float = field(metadata=NON_NEGATIVE)
    kl_weight: float = field(metadata=NON_NEGATIVE)
    balance: float = field(metadata=SHARE)
    free_bits: float = field(metadata=NON_NEGATIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiameseIMOptions:
    """negative: weight of UniGrad's second term."""

    negative: float = field(metadata=NON_NEGATIVE)


OPTIONS: Mapping[str, type] = MappingProxyType({
    "masked": TargetOptions, "omnimae": TargetOptions, "bootmae": BootMAEOptions, "sdae": SdAEOptions,
    "dino": DINOOptions, "ibot": IBOTOptions, "rsp": RSPOptions, "splitmask": SplitMaskOptions,
    "siameseim": SiameseIMOptions,
})  # fmt: skip
"""An objective's own constants, by its name in `objectives.OBJECTIVES`."""

Own = TypeVar("Own", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe(Generic[Own]):
    """A whole objective.

    objective: a name of `objectives.OBJECTIVES`. options: that objective's own constants. source: where the facts
    come from; proven: what the goldens show. unverified: dotted name of a constant that nothing proves, to the reason.
    image_views: at most one, how images become views where they are mixed with videos, in batches of their own.
    """

    name: str
    title: str
    source: str
    proven: str
    objective: str
    views: Views
    image_views: tuple[Views, ...] = ()
    masks: tuple[MaskRule, ...]
    encoder: EncoderSpec
    decoders: tuple[DecoderSpec, ...] = ()
    branches: tuple[Branch, ...] = ()
    optimiser: Optimiser
    teacher: TeacherSpec = TeacherSpec()
    options: Own
    unverified: MappingProxyType[str, str] = field(default_factory=lambda: MappingProxyType({}))


AnyRecipe = Recipe[Any]
"""Of whichever objective: a name in the file says whose options they are."""
