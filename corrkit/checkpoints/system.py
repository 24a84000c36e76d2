"""What the registry says about a system: one frozen entry each, and the naming schemes they share."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from corrkit.files.jsontext import Json

if TYPE_CHECKING:
    from torch import Tensor

    from corrkit.checkpoints.opening import Opened

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
UNIT = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
KINETICS = ((0.45, 0.45, 0.45), (0.225, 0.225, 0.225))

State = dict[str, "Tensor"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A naming scheme: how the tensors of a network are called in a file, and how they become canonical names.

    anchors: patterns of names, relative to the network's prefix, that must all be there; each with the number of
        dimensions its tensor must have (None: any). They find the prefix, whatever surrounds it.
    renames: (pattern, replacement) in order; each is applied once to every relative name, anchored at its start.
    convert: further changes of tensors (transposing, fusing, reshaping), a pure function of the canonical state.
    """

    name: str
    anchors: Mapping[str, int | None]
    renames: tuple[tuple[str, str], ...] = ()
    convert: Callable[[State], State] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A published system, or a family of systems whose files can't be told apart.

    name: as in reports and tables. title: for documentation. layouts: its naming schemes.
    signs: patterns that must each match some name of the network (relative to its prefix); beside: the same for names
        of the whole file; without: patterns that must match none of the network's names. config: entries that the
        config.json beside the file must have (one of the given values; none given: any).
    shapes: pattern of a relative name to the shape that some such tensor must have (None: any size).
    told: what else in an opened file tells the system from others of the same names, in words; None where nothing does.
    certain: where other systems have the same names but other features, the mark that tells this one from them, in
        words; without one the loader asks. distinction: what its features rest on that those of the others don't.
    model_types: of the (vision part of the) config.json of transformers, or of our reading of open_clip's; where such a
        config is beside the file, no entry that doesn't list its model_type is taken, and one that does is certain.
    requires: canonical names without which the network would silently be another one.
    prefers: pairs of path segments (evaluated, not evaluated), as its paper evaluates it: ("teacher", "student").
    drop: pattern of relative names to the reason why they are no part of the backbone, beside `drops.GENERAL`.
    build: "module:function" of `corrkit.backbones` that makes the network, given `rules`.
    rules: what tensors can't tell, as the builder's own frozen dataclass (`ViTRules`, ...).
    mean, std: of the input; statistics: patterns of names of the whole file that hold them instead.
    refuse: why such files can't be evaluated; the loader stops with it.
    source: repository and commit that the entry was read in. proven: "golden" (equal to the published code on a small
        file), "source" (only follows its source), "unknown". notes: shown to whoever loads such a file;
        assumptions: those that a config beside the file makes needless.
    trained_on: task to why videos of its benchmark may have been in training, with source: shown wherever results are.
    heads, prefix: attention heads and (the end of) the prefix of its names, where they are the same in all its files.
    document: of the layout file that it was read from, in place of an entry of the registry.
    """

    name: str
    title: str
    layouts: tuple[Layout, ...]
    signs: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    config: Mapping[str, tuple[Json, ...]] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)
    requires: tuple[str, ...] = ()
    told: "Callable[[Opened], str | None] | None" = None
    certain: "Callable[[Opened], str | None] | None" = None
    distinction: str = ""
    model_types: tuple[str, ...] = ()
    prefers: tuple[tuple[str, str], ...] = ()
    drop: Mapping[str, str] = field(default_factory=dict)
    build: str = "corrkit.backbones.networks.vit_building:build"
    rules: Any = None
    mean: tuple[float, ...] = IMAGENET[0]
    std: tuple[float, ...] = IMAGENET[1]
    statistics: tuple[str, str] | None = None
    refuse: tuple[str, str] | None = None
    source: str = ""
    proven: Literal["golden", "source", "unknown"] = "source"
    notes: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    trained_on: Mapping[str, str] = field(default_factory=dict)
    heads: int | None = None
    prefix: str = ""
    document: Mapping[str, Json] | None = None

    @property
    def digest(self) -> str:
        """Sha256 (hex) of its layout file's content, "" for an entry of the registry."""
        if self.document is None:
            return ""
        return hashlib.sha256(json.dumps(self.document, sort_keys=True).encode()).hexdigest()
