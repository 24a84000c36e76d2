"""Why no backbone was found: the nearest thing to one that a file holds, and what to do."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from corrkit.checkpoints import configuration
from corrkit.checkpoints.branches import is_secondary
from corrkit.checkpoints.completeness import UnknownNetworkError, ways_on
from corrkit.checkpoints.forms import require_plain
from corrkit.checkpoints.opening import Opened
from corrkit.checkpoints.registry import LAYOUTS, SYSTEMS
from corrkit.checkpoints.system import Layout, System
from corrkit.documentation import see
from corrkit.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

_TEXT = re.compile(r"(.*\.)?(word_embeddings|token_embedding|embed_tokens|wte|tok_embeddings)\.weight")
_TRAINING = re.compile(r"(.*\.)?(exp_avg|exp_avg_sq|momentum_buffer|step)")


def explain(opened: Opened, tensors: "Mapping[str, Tensor]", key: str | None) -> CheckpointError:
    """One error that says what the file holds instead of a backbone."""
    path = opened.path
    if key is not None and not any(name.startswith(key.rstrip(".") + ".") for name in tensors):
        tops = sorted({name.split(".")[0] for name in tensors})
        return CheckpointError(f"{path} has nothing under the key {key!r}.", f"It holds: {', '.join(tops[:12])}.")
    under = f" under {key!r}" if key is not None else ""
    if "" in tensors:
        return CheckpointError(
            f"{path} holds a single tensor of shape {list(tensors[''].shape)}.", "Name a state dict."
        )
    if not tensors:
        return CheckpointError(f"{path} holds no tensors ({opened.container}).", "Name a file with weights.")
    require_plain(tensors, tensors, opened)
    if all(_TRAINING.fullmatch(name) for name in tensors):
        return CheckpointError(
            f"{path} holds only the state of an optimizer.", "Name the file with the model's weights."
        )
    if all(re.match(r"(.*\.)?(decoder|dec)_", name) for name in tensors):
        return CheckpointError(f"{path} holds only a decoder of pre-training.", "Name the file with the encoder.")
    kind = configuration.model_type(opened.config)
    if kind is not None and not any(kind in system.model_types for system in SYSTEMS.values()):
        return CheckpointError(
            f"{path} is a model of transformers, by the config beside it of model_type {kind!r}, and corrkit knows no "
            "network in its names.",
            "Build it with transformers in a function of your own: py:FILE.py:FUNCTION.",
        )
    near = _nearest(tensors)
    if near is not None:
        return UnknownNetworkError(
            f"{path} has no backbone{under} that corrkit knows; its names are nearest to {near[0]}'s, where {near[1]}.",
            f"If the file was cut short, get the complete one. {ways_on()}",
        )
    if any(map(_TEXT.fullmatch, tensors)) and all(tensor.ndim < 4 for tensor in tensors.values()):
        return CheckpointError(
            f"{path} is a text model: it has word embeddings, but no patches.", "Name a vision model."
        )
    shown = ", ".join(list(tensors)[:4])
    return UnknownNetworkError(
        f"{path} ({opened.container}) has no backbone{under} that corrkit knows; its {len(tensors)} tensors start with "
        f"{shown}.",
        f"For systems that are known {see('checkpoints')}. {ways_on()}",
    )


def explain_own(opened: Opened, tensors: "Mapping[str, Tensor]", own: System) -> CheckpointError:
    """The error for a file that lacks what a layout file describes."""
    near = _best(_places(own.layouts, tensors), tensors)
    if near is None:
        words = f"no tensor has the name of an anchor; the names start with {', '.join(list(tensors)[:4])}"
    else:
        words = near[1] or f"the anchors stand elsewhere than under its prefix {own.prefix!r} or --ckpt-key"
    return CheckpointError(
        f"{opened.path} has no network as {own.source} describes it: {words}.",
        "Correct the layout file; `corrkit inspect FILE --suggest NEW.toml` proposes one.",
    )


def nearest_under(prefix: str, layouts: Sequence[Layout], tensors: "Mapping[str, Tensor]") -> tuple[str, str] | None:
    """The layout that fits best under a prefix though anchors differ, and how they do, in words."""
    return _best([(layout, prefix) for layout in layouts], tensors)


def _nearest(tensors: "Mapping[str, Tensor]") -> tuple[str, str] | None:
    """The same for the known layouts anywhere; None where nothing fits.

    A prefix counts under which much of the file stands and some anchor is as in the layout: a convolution called conv1
    in the middle of some network is no sign of anything.
    """
    return _best([place for place in _places(LAYOUTS, tensors) if _is_likely(*place, tensors)], tensors)


def _best(places: "Iterable[tuple[Layout, str]]", tensors: "Mapping[str, Tensor]") -> tuple[str, str] | None:
    """Of layouts and prefixes that one with fewest missing.

    Then not inside a numbered part, then with most names that the layout renames, then used by most systems.
    """
    best: tuple[tuple[int, ...], str, str] | None = None
    for layout, prefix in places:
        renamed = re.compile("|".join(f"(?:{pattern})" for pattern, _ in layout.renames) or r"$.")
        relative = _relative(prefix, tensors)
        absent = [anchor for anchor in layout.anchors if not any(re.fullmatch(anchor, name) for name in relative)]
        segments = prefix.split(".")
        rank = (
            len(absent),
            sum(map(is_secondary, segments)),
            sum(map(str.isdecimal, segments)),
            -sum(renamed.match(name) is not None for name in relative),
            -sum(layout in system.layouts for system in SYSTEMS.values()),
            -len(prefix),
        )
        found = (rank, layout.name, _differs(layout, prefix, relative, tensors))
        best = min(best or found, found)
    return None if best is None else best[1:]


def _places(layouts: Sequence[Layout], tensors: "Mapping[str, Tensor]") -> Iterator[tuple[Layout, str]]:
    """Each layout with the prefixes that it may stand under."""
    for layout in layouts:
        for prefix in _prefixes(layout, tensors)[: 1 + _COMPARED // len(tensors)]:
            yield layout, prefix


def _relative(prefix: str, tensors: "Mapping[str, Tensor]") -> list[str]:
    return [name.removeprefix(prefix) for name in tensors if name.startswith(prefix)]


_SHARE = 0.1  # of the tensors of a file: with several networks and the state of an optimizer, one has more


def _is_likely(layout: Layout, prefix: str, tensors: "Mapping[str, Tensor]") -> bool:
    """Whether much of the file stands there, and some tensor has the name of an anchor and its number of dimensions."""
    relative = _relative(prefix, tensors)
    return len(relative) >= _SHARE * len(tensors) and any(
        re.fullmatch(anchor, name) and wanted in (None, tensors[prefix + name].ndim)
        for anchor, wanted in layout.anchors.items()
        for name in relative
    )


def _differs(layout: Layout, prefix: str, relative: list[str], tensors: "Mapping[str, Tensor]") -> str:
    """What a layout asks for that isn't so: names that are missing, or tensors of another number of dimensions."""
    missing, other = [], []
    for anchor, wanted in layout.anchors.items():
        found = [name for name in relative if re.fullmatch(anchor, name)]
        if not found:
            missing.append(prefix + plain(anchor))
        elif wanted not in (None, tensors[prefix + found[0]].ndim):
            other.append(f"{prefix + found[0]} has {wanted} dimensions, not {tensors[prefix + found[0]].ndim}")
    return " and ".join([f"{', '.join(missing)} is missing"] * bool(missing) + other)


_COMPARED = 50_000  # names of each layout: enough for some 50 prefixes of a usual file


def _prefixes(layout: Layout, tensors: "Mapping[str, Tensor]") -> list[str]:
    """Prefixes under which some anchor stands, shortest first."""
    pattern = re.compile("|".join(rf"(?:^|(?<=\.))(?:{anchor})$" for anchor in layout.anchors))
    found = {name[: match.start()] for name in tensors if (match := pattern.search(name))}
    return sorted(found, key=lambda prefix: (len(prefix), prefix))


def plain(pattern: str) -> str:
    """A pattern of names as one name that it fits: "blocks.0.attn.qkv.weight"."""
    text = re.sub(r"\([^()]*\)\?", "", pattern).replace(r"\d+", "0").replace("\\", "")
    return re.sub(r"\(([^()|]*)[^()]*\)", r"\1", text)
