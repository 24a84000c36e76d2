"""The groups of a protocol as frozen dataclasses: every constant an evaluation depends on.

No field has a default: each value comes from `protocols/TASK/NAME.toml` together with its source. Leaf names are unique
over all groups, so `radius` and `affinity.radius` name the same field. A field appears here together with the code
that obeys it. This module imports nothing heavy; every room may use it.
"""

import functools
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal

from corrkit.constants import POSITIVE
from corrkit.task_table import task_facts

_MOST = (1 << 31) - 1
NON_NEGATIVE = MappingProxyType({"min": 0, "max": _MOST})
AT_LEAST_ONE = MappingProxyType({"min": 1, "max": _MOST})
"""Limits of counts and lengths: beyond them numbers would wrap around in what computes with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """How a decoded frame becomes the network's input size.

    resize: "short-side" scales the short side to size[0], "long-side" the long one, the other side keeps the ratio;
        "exact" resizes to size = [height, width]; "native" leaves the frame as it is.
    size: pixels; [side], [height, width], or [] for "native".
    multiple: sides are rounded to a multiple of this many pixels; 1 keeps whole pixels, 0 stands for the backbone's
        patch.
    side_rounding: "down" floors the free side to `multiple`; "up" raises the given side and then the free one, which
        keeps its ratio to the raised side; "nearest" takes each side to the nearest multiple by itself, a half up.
    interpolation: "bilinear" is OpenCV's fixed-point bilinear on uint8; "bilinear-float" OpenCV's bilinear on float32
        RGB in [0, 1]; "bicubic" and "lanczos" are Pillow's on uint8, which average over what they shrink.
    indivisible: what happens when the backbone's patch does not divide the network size. "resize" floors both sides to
        a multiple of the patch before resizing, so that cells and labels stay aligned; "crop" resizes as published and
        lets the patch projection drop the rest at the right and bottom.
    """

    resize: Literal["short-side", "long-side", "exact", "native"]
    size: tuple[int, ...] = field(metadata=AT_LEAST_ONE)
    multiple: int = field(metadata=NON_NEGATIVE)
    side_rounding: Literal["down", "up", "nearest"]
    interpolation: Literal["bilinear", "bilinear-float", "bicubic", "lanczos"]
    indivisible: Literal["resize", "crop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DavisFrames(Frames):
    """The same for DAVIS, whose copies some published code re-stored before it read them.

    stored_size: [], or [height, width] of the copy that the published preprocessing wrote: frames resized to it by
        Pillow's nearest and saved as JPEG of quality 75, annotations resized to it by nearest. It is re-made in memory;
        first labels come from it, and masks are scored at its size.
    """

    stored_size: tuple[int, ...] = field(metadata=AT_LEAST_ONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What a protocol asks of the features, beyond what the backbone decides itself.

    colour: what the network must have been trained on: "published" takes any backbone with its own colour; "lab" and
        "grey" take only backbones of that colour, and refuse others.
    std: per-channel divisor in RGB order; applied only to backbones with ImageNet statistics. [] leaves the
        backbone's own.
    position: resampling rule of absolute position embeddings: "published" (the backbone's own), "dino" (bicubic by
        scale factor with the +0.1 offset) or "size" (bicubic to the grid size).
    layers: the features are the mean over this many layers (blocks) up to the one that is evaluated, each after the
        norm that the network ends in; 1 is that layer alone. Networks that give no layers are refused.
    window: frames that a network trained on clips sees at a time, window after window; 0 leaves it to --window, else
        each frame by itself. Networks that see single frames take no notice.
    window_padding: what fills the last window where frames are missing: "zeros" after normalisation (the mean colour),
        or "repeat" of the last frame.
    time_upsampling: how a window's time slices, where they are fewer than its frames, become a map for each frame:
        "linear" in time between them (align_corners False, as trilinear is where the grid stays), "cubic" (Keys' with
        a = -0.5, renormalised at the ends, as jax.image.resize has it), or "nearest".
    finer: features are first enlarged bilinearly (align_corners False) to a grid this many times finer, and labels lie
        on that grid; 1 leaves them as they are.
    l2: divide each cell's features by max(norm, 1e-12).
    group_weights: [] or one weight per equal group of channels: each group is L2-normalised, weighted, concatenated,
        and the whole is normalised again (the fusion of SFC).
    """

    colour: Literal["published", "lab", "grey"]
    std: tuple[float, ...] = field(metadata=POSITIVE)
    position: Literal["published", "dino", "size"]
    layers: int = field(metadata=AT_LEAST_ONE)
    window: int = field(metadata=NON_NEGATIVE)
    window_padding: Literal["zeros", "repeat"]
    time_upsampling: Literal["linear", "cubic", "nearest"]
    finer: int = field(metadata=AT_LEAST_ONE)
    l2: bool
    group_weights: tuple[float, ...] = field(metadata=POSITIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Which context frames a query frame t sees.

    context: n, the number of preceding frames in the queue.
    spacing: of the frames in the queue, which are t - 1, t - 1 - spacing, t - 1 - 2 spacing, ...; 1 takes every frame.
    long_term: frames that are always in the context, besides the queue; those after frame 0 once they have passed.
    distinct: whether a long-term frame that stands in the queue as well counts once instead of twice.
    first_copies: how frame 0 takes part in the queue: "none" (the queue starts at frame 1), "once" (it is an ordinary
        frame of the queue) or "fill" (n copies of it stand before the clip, so the queue always holds n frames).
    mask_first: whether the spatial window also restricts the long-term frames.
    predict_first: whether frame 0 is predicted like any other frame instead of being copied from its labels.
    """

    context: int = field(metadata=NON_NEGATIVE)
    spacing: int = field(metadata=AT_LEAST_ONE)
    long_term: tuple[int, ...] = field(metadata=NON_NEGATIVE)
    distinct: bool
    first_copies: Literal["none", "once", "fill"]
    mask_first: bool
    predict_first: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Affinity:
    """How query cells choose and weigh context cells.

    radius: reach of the window, in grid cells.
    shape: "square" compares |dy| and |dx|, "circle" the Euclidean distance, "none" has no window.
    inclusive: distance <= radius rather than < radius.
    topk: neighbours kept; 0 keeps every cell that the window admits.
    ties: "keep" keeps every cell equal to the k-th value, "exact" keeps exactly k.
    scope: "joint" selects over all context frames together, "frame" within each of them.
    temperature: divisor of the similarities.
    normalise: the softmax runs over the "kept" cells; over all cells of a "frame" before the selection, in which case
        the kept weights are averaged over the context frames and sum to less than 1; or over the "window" of every
        context frame together, whose cells outside of the picture take part with similarity 0 and carry no label.
    """

    radius: float = field(metadata=NON_NEGATIVE)
    shape: Literal["square", "circle", "none"]
    inclusive: bool
    topk: int = field(metadata=NON_NEGATIVE)
    ties: Literal["keep", "exact"]
    scope: Literal["joint", "frame"]
    temperature: float = field(metadata=POSITIVE)
    normalise: Literal["kept", "frame", "window"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskLabels:
    """How id masks become soft label maps on the grid, and what is fed back (DAVIS and VIP).

    network_resize: how id masks first go to the network's size: "none" (straight to the grid), "nearest" (Pillow's,
        which samples at pixel centres), "nearest-opencv" (which samples at pixel corners), or "bilinear-opencv", which
        blends ids and so makes false ones along borders (an argument slip of CRW's, kept by name).
    downsample: from there to the grid: "nearest" (Pillow's, of ids), "nearest-exact" (PyTorch's, of ids: it samples at
        pixel centres too, but in float32, so that single cells differ), "stride" (the pixel at the corner of each cell,
        of ids), or of the one-hot maps without anti-aliasing "bilinear" (align_corners False) or "bilinear-corners"
        (align_corners True).
    classes: which ids get a channel: "grid-max" 0..max id of the first mask on the grid, "original-max" 0..max id of
        the first mask as it is given, "present" the distinct ids of the first mask at the network's size, or
        "present-original" those of the first mask as it is given.
    feedback: what later frames read as labels: the "soft" maps, their per-class "minmax", the "hard" argmax on the
        grid, or the "prediction": the id mask of the picture's size, brought to the grid again as the first one is.
    rescale: "classes" min-max-normalises each cell over its classes after propagation, which earlier maps do not feel
        (CRW's --norm_mask); "classes-fed-back" also feeds the normalised maps back (RVM's norm_mask).
    """

    network_resize: Literal["none", "nearest", "nearest-opencv", "bilinear-opencv"]
    downsample: Literal["nearest", "nearest-exact", "stride", "bilinear", "bilinear-corners"]
    classes: Literal["grid-max", "original-max", "present", "present-original"]
    feedback: Literal["soft", "minmax", "hard", "prediction"]
    rescale: Literal["none", "classes", "classes-fed-back"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskReadout:
    """How soft label maps become id masks of the original size.

    upsample: interpolation from the grid: "bilinear" (align_corners False), "bilinear-corners" (align_corners True),
        "nearest" (PyTorch's, which samples at pixel corners) or "nearest-exact" (which samples at pixel centres).
    resolution: where ids are decided: at the "network" size, followed by nearest to the original size (Pillow's, which
        samples at pixel centres, as OpenCV's INTER_NEAREST_EXACT); the same with OpenCV's nearest, which samples at
        pixel corners ("network-opencv"); or at the "original" size.
    minmax: per-class rescaling over the picture before argmax: "none"; "positive" ((x - min) / (max - min) after
        subtracting, only where the class's max is > 0; a constant positive class becomes NaN and wins, as published);
        "positive-guarded", the same with 1e-12 added to the divisor, so that a constant class becomes 0; or
        "nan-to-zero", for every class, with 0 for a constant one.
    first_frame: the prediction of frame 0: a "copy" of its annotation; its labels "decoded" from the grid; or its
        annotation at the "network" size, resized by nearest (pixel corners) to the original.
    """

    upsample: Literal["bilinear", "bilinear-corners", "nearest", "nearest-exact"]
    resolution: Literal["network", "network-opencv", "original"]
    minmax: Literal["none", "positive", "positive-guarded", "nan-to-zero"]
    first_frame: Literal["copy", "decoded", "network"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DavisScore:
    """Which objects and frames are scored, and how (DAVIS).

    decay: "exact" bins of any length, or "uint8" which wraps beyond 256 scored frames as the official tool does.
    entries: "first" gives the objects of the first mask, and one that comes later is background; "appearance" gives
        each object where a mask holds it first: it is propagated from there, in a context of its own, and scored in the
        annotated frames after that one.
    objects: "first" scores the ids up to the largest that is given, as the official tool does: one that is missing
        counts; "present" those that are given; "all" those up to the largest of any mask, so that an object that is not
        given is one that can't be predicted.
    left_out: of a clip's annotated frames, the "first-last" are not scored, or only the "first".
    """

    decay: Literal["exact", "uint8"]
    entries: Literal["first", "appearance"]
    objects: Literal["first", "present", "all"]
    left_out: Literal["first-last", "first"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PointLabels:
    """How joints become soft label maps on the grid, and what is fed back (JHMDB).

    sigma: standard deviation of the Gaussian that is drawn at a joint (peak 1), in units of `sigma_unit`.
    sigma_unit: "cells" draws on the grid; "pixels" draws on the original frame, then goes to the network's size
        (OpenCV's bilinear) and from there to the grid (bilinear, align_corners False).
    scaling: how pixels of the frame become cells: "stride" takes the network's size over the frame's, divided by the
        stride; "grid" the grid's size over the frame's, which also spreads a cropped grid over the whole frame. Where
        the stride divides the size they differ by rounding alone.
    border: where the (6 sigma + 1) wide window begins at x - 3 sigma: "truncate" cuts towards zero as published, which
        moves the peaks of joints near the left and top border inwards; "floor" cuts downwards everywhere.
    background: whether a channel 0 stands before the joints, 1 in the cells where all joints are exactly 0.
    feedback: what later frames read as labels: the "soft" maps, or each of them stretched to [0, 1] over the frame
        ("minmax"; that is also what is read out).
    rescale: "classes" min-max-normalises each cell over its channels after propagation (CRW's --norm_mask).
    """

    sigma: float = field(metadata=POSITIVE)
    sigma_unit: Literal["cells", "pixels"]
    scaling: Literal["stride", "grid"]
    border: Literal["truncate", "floor"]
    background: bool
    feedback: Literal["soft", "minmax"]
    rescale: Literal["none", "classes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PointReadout:
    """How soft label maps become joints in pixels of the original frame (JHMDB).

    peak_cells: a joint is the value-weighted mean of the positions of this many largest cells (or pixels).
    resolution: "grid" reads out on the grid; "original" enlarges the maps to the frame first (bilinear, align_corners
        False) and reads out pixels.
    cell_origin: the pixel that a cell stands for: its "corner" (index times stride, as published) or its "centre".
    first_frame: the prediction of frame 0: a "copy" of its annotation; its labels "decoded" from the grid; or its
        labels at the "network" size, resized from there to the original.
    """

    peak_cells: int = field(metadata=AT_LEAST_ONE)
    resolution: Literal["grid", "original"]
    cell_origin: Literal["corner", "centre"]
    first_frame: Literal["copy", "decoded", "network"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VipScore:
    """What the data set's confusion matrix counts and which classes the mean takes (VIP).

    score_first: whether frame 0 is scored.
    counting: "confusion" leaves out pixels whose true id is no class; "histogram" leaves them in the predicted class's
        area. A prediction of id 20 spills into the next row of the confusion matrix, or counts as class 19.
    background: whether class 0 is in the mean.
    rounding: "none", or "percent-2": the mean is rounded to two digits of a per cent before it is reported.
    """

    score_first: bool
    counting: Literal["confusion", "histogram"]
    background: bool
    rounding: Literal["none", "percent-2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JhmdbScore:
    """Which predicted joints are scored, and what their distances are divided by (JHMDB).

    score_first: whether frame 0 is scored.
    visibility: a joint counts where its predicted x is "non-negative" (x >= 0) or "positive" (x > 0); the ground truth
        has no say.
    box_floor: distances are divided by 0.6 times the diagonal of the box around those true joints of the frame that are
        predicted as visible. Its upper corner is at least -1 in each coordinate: "always", or only where some joint of
        the frame is invisible ("invisible").
    """

    score_first: bool
    visibility: Literal["non-negative", "positive"]
    box_floor: Literal["always", "invisible"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """One protocol for one task. `sources` maps "group.field" to where the constant was read.

    `unreleased` names what the published numbers rest on and nobody has published; it stands in every result. `digest`
    is empty for protocols that come with corrkit, and the first 8 hex digits of a sha256 over the constants for one's
    own. `published` is the protocol before its overrides. The classes of labels, readout and score depend on the task:
    see `groups_of`.
    """

    task: str
    name: str
    version: int
    summary: str
    proven: str
    cite: str
    quirks: tuple[str, ...]
    unreleased: tuple[str, ...]
    frames: Frames
    features: Features
    memory: Memory
    affinity: Affinity
    labels: Any
    readout: Any
    score: Any
    sources: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    overrides: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    digest: str = ""
    published: "Protocol | None" = field(default=None, compare=False)

    @property
    def identifier(self) -> str:
        """For tables and run.json: "davis/dino@1", and "davis/mine@1+0f3a9c21" for one's own."""
        own = f"+{self.digest}" if self.digest else ""
        return f"{self.task}/{self.name}@{self.version}{own}"

    def __reduce__(self) -> tuple[object, ...]:
        """For worker processes: read-only mappings can't be pickled as they are."""
        values = {member.name: getattr(self, member.name) for member in fields(self)}
        mappings = {name: dict(value) for name, value in values.items() if isinstance(value, MappingProxyType)}
        return _protocol_of, ({**values, **mappings},)


def _protocol_of(values: Mapping[str, Any]) -> Protocol:
    """What `Protocol.__reduce__` took apart."""
    whole: dict[str, Any] = {
        name: MappingProxyType(value) if isinstance(value, dict) else value for name, value in values.items()
    }
    return Protocol(**whole)


@functools.cache
def groups_of(task: str) -> Mapping[str, type]:
    """Group to the class of its constants, for one task. Raises UsageError for an unknown task."""
    return MappingProxyType(
        {group: pkgutil.resolve_name(place) for group, place in task_facts(task).protocol_groups.items()}
    )
