"""From the tensors of a file to one system's complete state dict under canonical names, with every decision."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from corrkit.checkpoints import drops
from corrkit.checkpoints.branches import Candidate, choose, find
from corrkit.checkpoints.naming import flatten
from corrkit.checkpoints.opening import Opened, require_usable
from corrkit.checkpoints.registry import LAYOUTS, PREFERS, SYSTEMS
from corrkit.checkpoints.system import Layout, System
from corrkit.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """One network of a file.

    state: canonical name to tensor, as in the file (not yet float32); origins: canonical name to name in the file.
    total: tensors in the file; used: of these, how many went into `state`. dropped: group to reason.
    evidence: decision to what it rests on. config, preprocessor: of the files beside it, else empty.
    settings: what the container says about training (args, config, croco_kwargs), as plain values.
    """

    path: Any
    system: System
    layout: Layout
    prefix: str
    state: "dict[str, Tensor]"
    origins: dict[str, str]
    used: int
    total: int
    dropped: tuple[tuple[str, str], ...]
    evidence: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    preprocessor: Mapping[str, Any] = field(default_factory=dict)
    tree: Any = None

    @property
    def mean(self) -> tuple[float, ...]:
        """Of the input, per channel: the preprocessor's beside the file where there is one, else the system's."""
        return tuple(
            self.preprocessor.get("image_mean") or self.config.get("pretrained_cfg", {}).get("mean") or self.system.mean
        )

    @property
    def std(self) -> tuple[float, ...]:
        """Likewise."""
        return tuple(
            self.preprocessor.get("image_std") or self.config.get("pretrained_cfg", {}).get("std") or self.system.std
        )

    @property
    def stored_heads(self) -> tuple[int, str] | None:
        """Attention heads as far as the file or the config beside it says so, and where."""
        for name in ("num_attention_heads", "vision_config.num_attention_heads"):
            number = _entry(self.config, name)
            if isinstance(number, int):
                return number, f"config.json, {name}"
        return None

    @property
    def stored_grid(self) -> tuple[int, int] | None:
        """The grid of pre-training where no table of positions tells it."""
        return None

    def file_name(self, canonical: str) -> str:
        """How a tensor is called in the file, or would be called if it is missing (by analogy with other blocks)."""
        if canonical in self.origins:
            return self.origins[canonical]
        index = re.search(r"\.(\d+)\.", canonical)
        if index:
            for known, name in self.origins.items():
                if re.sub(r"\.\d+\.", ".#.", known, count=1) == re.sub(r"\.\d+\.", ".#.", canonical, count=1):
                    number = re.search(r"\.(\d+)\.", known)
                    assert number is not None
                    return re.sub(rf"([._]){number[1]}\.", rf"\g<1>{index[1]}.", name, count=1)
        return self.prefix + canonical


def recognise(opened: Opened, key: str | None = None) -> Recognised:
    """Decides which network of an opened file is the backbone and which system it is of.

    Args:
        opened: the file.
        key: dotted path of the branch to take, where the file holds several networks.

    Raises:
        CheckpointError: no backbone inside, several equally good ones, a system that can't be evaluated, weights that
            aren't finite, or tensors of which nobody knows whether they matter.
    """
    tensors = flatten(opened.tree)
    shapes = [(name, tensor.ndim) for name, tensor in tensors.items()]
    candidates = find(shapes, LAYOUTS, key)
    if not candidates:
        raise _no_backbone(opened, tensors, key)
    chosen, left_out = choose(candidates, PREFERS, opened.path)
    prefix = chosen[0].prefix
    relative = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    system, layout, evidence = _system(chosen, relative, tensors, opened)
    if system.refuse:
        raise CheckpointError(f"{opened.path} is a checkpoint of {system.title}: {system.refuse[0]}", system.refuse[1])
    kept, dropped = _sift(relative, {**system.drop, **drops.GENERAL})
    state, origins = _rename(kept, layout, prefix, opened)
    require_usable({prefix + name: tensor for name, tensor in kept.items()}, opened.path)
    outside = [name for name in tensors if not name.startswith(prefix)]
    return Recognised(
        path=opened.path,
        system=system,
        layout=layout,
        prefix=prefix,
        state=state,
        origins=origins,
        used=len(kept),
        total=len(tensors),
        dropped=_groups(dropped, prefix) + _outside(outside, prefix, left_out, key),
        evidence=(*evidence, ("branch", _branch(prefix, left_out, key))),
        notes=(*opened.notes, *system.notes),
        config=opened.config or {},
        preprocessor=opened.preprocessor or {},
        tree=opened.tree,
    )


def _system(
    chosen: list[Candidate], relative: "Mapping[str, Tensor]", tensors: "Mapping[str, Tensor]", opened: Opened
) -> tuple[System, Layout, list[tuple[str, str]]]:
    """The first system of the registry whose signs are all there."""
    layouts = [candidate.layout for candidate in chosen]
    for system in SYSTEMS.values():
        shared = [layout for layout in system.layouts if layout in layouts]
        if not shared or not _config_fits(system, opened.config):
            continue
        found = [_first(sign, relative) for sign in system.signs] + [_first(sign, tensors) for sign in system.beside]
        if None in found or any(_first(sign, relative) for sign in system.without):
            continue
        anchor = ", ".join(shared[0].anchors)
        evidence = [("layout", f"{shared[0].name}: {anchor}")]
        signs = ", ".join(dict.fromkeys(str(name) for name in found)) or "nothing contradicts it"
        return system, shared[0], [*evidence, ("system", f"{system.name}: {signs}")]
    raise AssertionError(f"no system of the registry takes the layouts {[layout.name for layout in layouts]}")


def _config_fits(system: System, config: Mapping[str, Any] | None) -> bool:
    if not system.config:
        return True
    return config is not None and all(_entry(config, name) in values for name, values in system.config.items())


def _entry(config: Mapping[str, Any], name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _first(pattern: str, names: Iterable[str]) -> str | None:
    compiled = re.compile(pattern)
    return next((name for name in names if compiled.fullmatch(name)), None)


def _sift(
    relative: "Mapping[str, Tensor]", groups: Mapping[str, str]
) -> "tuple[dict[str, Tensor], list[tuple[str, str]]]":
    kept, dropped = {}, []
    for name, tensor in relative.items():
        why = drops.reason(name, groups)
        if why is None:
            kept[name] = tensor
        else:
            dropped.append((name, why))
    return kept, dropped


def _rename(
    kept: "Mapping[str, Tensor]", layout: Layout, prefix: str, opened: Opened
) -> "tuple[dict[str, Tensor], dict[str, str]]":
    """Canonical state, and where its tensors come from."""
    from corrkit.checkpoints.conversions import IncompleteError, unify

    state: dict[str, Tensor] = {}
    origins: dict[str, str] = {}
    for name, tensor in kept.items():
        canonical = name
        for pattern, replacement in layout.renames:
            canonical = re.sub(rf"^{pattern}", replacement, canonical)
        if canonical in state:
            raise CheckpointError(
                f"{opened.path} has two tensors for the same place: {origins[canonical]} and {prefix + name}.",
                "Choose a branch with --ckpt-key, or remove one of them from the file.",
            )
        state[canonical], origins[canonical] = tensor, prefix + name
    try:
        return unify(state, layout), origins
    except IncompleteError as error:
        raise CheckpointError(
            f"{opened.path} is incomplete: {error} missing.",
            "Get the complete file; a network is never loaded in part.",
        ) from error


def _groups(dropped: Iterable[tuple[str, str]], prefix: str) -> tuple[tuple[str, str], ...]:
    """Names by their first segments, each group once: ("model.decoder_blocks", "decoder of ... (24 tensors)")."""
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for name, why in dropped:
        segments = name.split(".")
        depth = 3 if segments[0] in ("blocks", "encoder", "layers") and len(segments) > 3 else 1
        counts[prefix + ".".join(segments[:depth]), why] += 1
    return tuple((group, f"{why} ({_tensors(number)})") for (group, why), number in counts.items())


def _outside(
    names: list[str], prefix: str, left_out: list[tuple[str, str]], key: str | None
) -> tuple[tuple[str, str], ...]:
    """Reasons for what lies beside the network's prefix."""
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for name in names:
        twin = next(((other, why) for other, why in left_out if other and name.startswith(other)), None)
        shared = _shared(name, prefix)
        inside = name.removeprefix(shared)
        group = shared + inside.split(".")[0]
        if twin is not None:
            counts[twin[0].removesuffix("."), twin[1]] += 1
        elif key is not None:
            counts[group, "outside --ckpt-key"] += 1
        else:
            why = drops.reason(name, drops.BESIDE) or drops.reason(inside, {**drops.BESIDE, **drops.GENERAL})
            counts[group, why or "module beside the backbone"] += 1
    return tuple((group, f"{why} ({_tensors(number)})") for (group, why), number in counts.items())


def _shared(name: str, prefix: str) -> str:
    """The segments that a name shares with the prefix."""
    shared = ""
    for segment in prefix.split(".")[:-1]:
        if not name.startswith(f"{shared}{segment}."):
            break
        shared += f"{segment}."
    return shared


def _tensors(number: int) -> str:
    return f"{number} tensor{'s' if number > 1 else ''}"


def _branch(prefix: str, left_out: list[tuple[str, str]], key: str | None) -> str:
    name = repr(prefix.removesuffix(".")) if prefix else "the names of the file itself"
    if key is not None:
        return f"{name}: chosen with --ckpt-key"
    others = "; ".join(f"not {other.removesuffix('.')!r}: {why}" for other, why in left_out)
    return f"{name}: {others or 'the only network in the file'}"


def _no_backbone(opened: Opened, tensors: "Mapping[str, Tensor]", key: str | None) -> CheckpointError:
    from corrkit.checkpoints.unrecognised import explain

    return explain(opened, tensors, key)
