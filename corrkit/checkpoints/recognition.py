"""From the tensors of a file to one system's complete state dict under canonical names, with every decision."""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from corrkit.checkpoints import configuration, converted, drops, heads
from corrkit.checkpoints.branches import Candidate, choose, find, preferred_but_incomplete, whole_key
from corrkit.checkpoints.completeness import absent, contradiction, gap
from corrkit.checkpoints.conversions import (
    ContradictionError,
    IncompleteError,
    unify,
    with_known_ranks,
    without_some_biases,
)
from corrkit.checkpoints.forms import require_plain, taken_as_they_are
from corrkit.checkpoints.layout_files import installed
from corrkit.checkpoints.naming import file_name, flatten
from corrkit.checkpoints.opening import Opened, require_usable
from corrkit.checkpoints.recognised import CONVERTED, Recognised
from corrkit.checkpoints.registry import LAYOUTS, PREFERS, SYSTEMS
from corrkit.checkpoints.selection import Selection, first, relative, select
from corrkit.checkpoints.statistics import mean_and_std, preprocessed
from corrkit.checkpoints.system import Layout, System
from corrkit.checkpoints.unrecognised import explain, explain_own, nearest_under
from corrkit.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor


def recognise(
    opened: Opened, key: str | None = None, system: str | None = None, own: System | None = None
) -> Recognised:
    """Decides which network of an opened file is the backbone and which system it is of.

    Args:
        opened: the file.
        key: dotted path of the branch to take, where the file holds several networks; the end of the path is enough
            where only one branch ends like it.
        system: name of the system to take, where the file can't tell.
        own: what a layout file describes; no other is looked for.

    Raises:
        CheckpointError: no backbone inside, several equally good ones, several systems that fit equally, one that can't
            be evaluated, weights that aren't finite, or tensors that should be there and aren't.
    """
    if CONVERTED in opened.metadata:
        if own is not None:
            raise CheckpointError(f"{opened.path} was converted by corrkit and needs no layout.", "Leave --layout out.")
        return converted.read(opened)
    tensors = flatten(opened.tree)
    key = None if key is None else whole_key(key, tensors, opened.path)
    selected, own, left_out = _selected(opened, tensors, key, system, own)
    reading, entry = selected.reading, selected.system
    if entry.refuse:
        raise CheckpointError(f"{opened.path} is a checkpoint of {entry.title}: {entry.refuse[0]}", entry.refuse[1])
    prefix, layout = reading.prefix, reading.layout
    names = relative(tensors, prefix)
    kept, dropped = _sift(names, {**entry.drop, **drops.GENERAL} if own is None else entry.drop)
    require_plain({prefix + name: tensor for name, tensor in kept.items()}, tensors, opened)
    require_usable({prefix + name: tensor for name, tensor in kept.items()}, opened.path)
    state, origins = _rename(kept, layout, prefix, opened)
    state = _unified(state, origins, reading, entry, opened)
    mean, std = _statistics(entry, tensors, opened)
    marks = ", ".join(dict.fromkeys(selected.marks)) or "nothing in the file contradicts it"
    return Recognised(
        path=opened.path,
        system=entry,
        layout=layout,
        prefix=prefix,
        state=state,
        origins=origins,
        shapes={name: tuple(tensor.shape) for name, tensor in names.items()},
        used=len(kept),
        total=len(tensors),
        dropped=drops.inside(dropped, prefix)
        + drops.outside([name for name in tensors if not name.startswith(prefix)], prefix, left_out, key),
        mean=mean,
        std=std,
        evidence=(
            ("container", opened.container),
            ("names", f"{layout.name}: {reading.place}"),
            ("system", f"{entry.name}: {marks}"),
            ("branch", _branch(prefix, left_out, key)),
        ),
        notes=(
            *opened.notes,
            *taken_as_they_are(kept),
            *entry.notes,
            *(() if opened.config else (*entry.assumptions, *_assumed(layout))),
        ),
        config=configuration.vision_part(opened.config),
        tree=opened.tree,
    )


def _selected(
    opened: Opened, tensors: "Mapping[str, Tensor]", key: str | None, system: str | None, own: System | None
) -> tuple[Selection, System | None, list[tuple[str, str]]]:
    """The network and its system; the layout file or installed system that describes it; what was not taken, and why.

    Raises:
        CheckpointError: see `recognise`.
    """
    if own is None and system is not None and system not in SYSTEMS:
        own = installed().get(system)
    candidates = _candidates(tensors, LAYOUTS if own is None else own.layouts, key, own)
    if own is None and not candidates and (fitting := _installed(tensors, key)):
        own, candidates = fitting
    if not candidates:
        raise explain(opened, tensors, key) if own is None else explain_own(opened, tensors, own)
    layouts, prefers = (LAYOUTS, PREFERS) if own is None else (own.layouts, own.prefers)
    chosen, left_out = choose(candidates, prefers, opened.path)
    if key is None and not (own is not None and own.prefix):
        _require_no_better(chosen[0], tensors, opened, layouts, prefers)
    if own is None:
        selected = select(chosen, tensors, opened, system)
    else:
        selected = Selection(chosen[0], own, (f"the layout file {own.source}, sha256 {own.digest[:8]}...",))
    return selected, own, left_out


def _assumed(layout: Layout) -> tuple[str, ...]:
    """What a file of transformers leaves to its config."""
    if not layout.name.startswith("Hugging Face"):
        return ()
    return (
        "Without the config.json that transformers writes beside its files, activation, epsilon and rotary base are "
        "assumed to be the published ones.",
    )


def _candidates(
    tensors: "Mapping[str, Tensor]", layouts: Sequence[Layout], key: str | None, own: System | None
) -> list[Candidate]:
    """The networks of these layouts; of a layout file with a prefix, those that stand there."""
    found = find([(name, tensor.ndim) for name, tensor in tensors.items()], layouts, key)
    if own is None or not own.prefix:
        return found
    return [candidate for candidate in found if f".{candidate.prefix}".endswith(f".{own.prefix}.")]


def _installed(tensors: "Mapping[str, Tensor]", key: str | None) -> tuple[System, list[Candidate]] | None:
    """The only system of an installed package that a file fits which fits none of the registry's."""
    found = [(own, here) for own in installed().values() if (here := _candidates(tensors, own.layouts, key, own))]
    if len(found) > 1:
        options = " or ".join(f"--system {own.name}" for own, _ in found)
        raise CheckpointError(
            f"The names fit several systems of installed packages: {', '.join(own.source for own, _ in found)}.",
            f"Say which it is: {options}.",
        )
    return found[0] if found else None


def _require_no_better(
    reading: Candidate,
    tensors: "Mapping[str, Tensor]",
    opened: Opened,
    layouts: Sequence[Layout],
    prefers: Sequence[tuple[str, str]],
) -> None:
    """Refuses to take another branch than the one its paper evaluates, only because that one lacks tensors."""
    better = preferred_but_incomplete(reading, tensors, layouts, prefers)
    if better is not None:
        layout, absent = nearest_under(better, layouts, tensors) or (reading.layout.name, "a part of it is missing")
        raise CheckpointError(
            f"{opened.path} is incomplete: {better.removesuffix('.')!r} ({layout} names) is the branch to evaluate, "
            f"and {absent}.",
            f"Get the complete file, or take the other branch with --ckpt-key {reading.prefix.removesuffix('.')}.",
        )


def _sift(
    relative: "Mapping[str, Tensor]", groups: Mapping[str, str]
) -> "tuple[dict[str, Tensor], list[tuple[str, str]]]":
    """What belongs to the network, and the names of the rest with the reason."""
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
    """Tensors under canonical names, and their names in the file."""
    state: dict[str, Tensor] = {}
    origins: dict[str, str] = {}
    for name, tensor in kept.items():
        canonical = name
        for pattern, replacement in layout.renames:
            canonical = re.sub(rf"^{pattern}", replacement, canonical)
        if canonical in state:
            raise CheckpointError(
                f"{opened.path} has two tensors for the same place: {origins[canonical]} and {prefix + name}.",
                "Choose a branch with --ckpt-key, or save the file without one of them.",
            )
        state[canonical], origins[canonical] = tensor, prefix + name
    return state, origins


def _unified(
    state: "dict[str, Tensor]", origins: Mapping[str, str], reading: Candidate, system: System, opened: Opened
) -> "dict[str, Tensor]":
    """The state after the layout's conversion and fusing, with all that the system requires."""
    try:
        if reading.layout.convert is not None:
            state = reading.layout.convert(state)
        state = with_known_ranks(unify(without_some_biases(state, configuration.vision_part(opened.config))))
        if gaps := list(absent(state, system.requires)):
            raise IncompleteError(gaps)
    except IncompleteError as error:
        spell = functools.partial(file_name, origins=origins, layout=reading.layout, prefix=reading.prefix)
        raise gap(opened.path, system, error.names, origins, spell) from error
    except ContradictionError as error:
        name = file_name(error.name, origins, reading.layout, reading.prefix)
        raise contradiction(opened.path, system, name, error.problem) from error
    return state


def _statistics(
    system: System, tensors: "Mapping[str, Tensor]", opened: Opened
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of the input: stored in the file, else in the config beside it, else the system's."""
    if system.statistics:
        stored = [first(pattern, tensors) for pattern in system.statistics]
        if None not in stored:
            values = [(str(name), tensors[str(name)].flatten()[:4].tolist()) for name in stored]
            return mean_and_std(opened.path, values[0], values[1])
    if (told := preprocessed(opened.path, opened.preprocessor or {})) is not None:
        return told
    for source, names in (
        (opened.config, ("pretrained_cfg.mean", "pretrained_cfg.std")),
        (opened.config, ("preprocess_cfg.mean", "preprocess_cfg.std")),  # open_clip's
    ):
        mean, std = ((f"{name} in the config beside it", heads.entry(source, name)) for name in names)
        if mean[1] and std[1]:
            return mean_and_std(opened.path, mean, std)
    return system.mean, system.std


def _branch(prefix: str, left_out: list[tuple[str, str]], key: str | None) -> str:
    name = repr(prefix.removesuffix(".")) if prefix else "the names of the file itself"
    if key is not None:
        return f"{name}: chosen with --ckpt-key"
    others = "; ".join(f"not {other.removesuffix('.')!r}: {why}" for other, why in left_out)
    return f"{name}: {others or 'the only network in the file'}"
