"""Which of several networks in one file is the backbone: the one that its paper evaluates, or a clear question."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from corrkit.checkpoints.system import Layout
from corrkit.errors import CheckpointError

# Path segments that always denote another network than the one to evaluate, where there is a choice.
_SECONDARY = re.compile(
    r"(momentum_\w+|mm_\w+|\w+_momentum|_?teacher_?\w*|clip_model|dino_model|predictor|decoder|text\w*|\w*_ema|ema_model|ema"
    r"|target_network|cls_pt_layers|reward_model|discriminator)"
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network that a file may hold: all names that start with `prefix` ("" or ending in a dot), in one layout.

    place: full name of the layout's first anchor; candidates with the same place are readings of the same network.
    """

    prefix: str
    layout: Layout
    place: str


def choose(
    candidates: Sequence[Candidate], prefers: Iterable[tuple[str, str]], path: object
) -> tuple[list[Candidate], list[tuple[str, str]]]:
    """All readings of the network to evaluate, and the prefixes left out with the reason.

    Raises:
        CheckpointError: where several networks are equally good; it lists them.
    """
    places = list(dict.fromkeys(candidate.place for candidate in candidates))
    left_out: list[tuple[str, str]] = []

    def leave_out(losing: list[str], why: str) -> None:
        left_out.extend((_prefix(candidates, place), why) for place in losing)
        places[:] = [place for place in places if place not in losing]

    for good, other in prefers:
        if any(good in _segments(place) for place in places):
            losing = [place for place in places if other in _segments(place) and good not in _segments(place)]
            leave_out(losing, f"{good} is evaluated, not {other}")
    primary = [place for place in places if not any(map(_SECONDARY.fullmatch, _segments(place)))]
    if primary:
        leave_out([place for place in places if place not in primary], "another network than the one evaluated")
    if len(places) > 1:
        names = [_prefix(candidates, place).removesuffix(".") for place in places]
        raise CheckpointError(
            f"{path} holds several backbones that are equally good: {', '.join(map(repr, names))}.",
            f"Choose one: --ckpt-key {names[0] or names[1]}.",
        )
    return [candidate for candidate in candidates if candidate.place == places[0]], left_out


def find(names: Iterable[tuple[str, int]], layouts: Iterable[Layout], key: str | None = None) -> list[Candidate]:
    """All networks in a file, from names and numbers of dimensions of its tensors; only those under `key`, if given."""
    named = [(name, ndim) for name, ndim in names if key is None or name.startswith(key.rstrip(".") + ".")]
    found = []
    for layout in layouts:
        shared: dict[str, str] | None = None
        for anchor, wanted in layout.anchors.items():
            pattern = re.compile(rf"(?:^|\.)(?={anchor}$)")
            here = {
                name[: match.end()]: name
                for name, ndim in named
                if wanted in (None, ndim)
                for match in pattern.finditer(name)
            }
            shared = here if shared is None else {prefix: place for prefix, place in shared.items() if prefix in here}
        found += [Candidate(prefix, layout, place) for prefix, place in sorted((shared or {}).items())]
    return sorted(found, key=lambda candidate: len(candidate.prefix))


def _prefix(candidates: Sequence[Candidate], place: str) -> str:
    """The longest prefix among the readings of a network."""
    return max((candidate.prefix for candidate in candidates if candidate.place == place), key=len)


def _segments(name: str) -> list[str]:
    return name.split(".")
