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
_MAX_NETWORKS = 64  # in one file; comparing each with each takes time


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
    if len(places) > _MAX_NETWORKS:
        raise CheckpointError(
            f"{path} holds {len(places):,} networks, the first at {places[0]}.", "Name one with --ckpt-key."
        )

    def leave_out(losing: list[str], why: str) -> None:
        left_out.extend((_prefix(candidates, place), why) for place in losing)
        places[:] = [place for place in places if place not in losing]

    for good, other in prefers:
        losing = [place for place in places if any(_loses(place, rival, good, other) for rival in places)]
        leave_out(losing, f"{good} is evaluated, not {other}")
    primary = [place for place in places if not any(map(is_secondary, _segments(place)))]
    # Twins such as student_backbone and teacher_backbone: of self-distillation the teacher is evaluated, of a smaller
    # network's distillation the student, and nothing tells which it was.
    twins = {re.sub(r"(^|\.|_)student(?=[._])", r"\1teacher", place, count=1) for place in primary} - {*primary}
    primary += [place for place in places if place in twins]
    if primary:
        leave_out([place for place in places if place not in primary], "another network than the one evaluated")
    if len(places) > 1:
        names = [_prefix(candidates, place).removesuffix(".") for place in places]
        raise CheckpointError(
            f"{path} holds several backbones that are equally good: {', '.join(map(repr, names))}.",
            f"Choose one: --ckpt-key {names[0] or names[1]}.",
        )
    return [candidate for candidate in candidates if candidate.place == places[0]], left_out


def preferred_but_incomplete(
    chosen: Candidate, names: Iterable[str], layouts: Iterable[Layout], prefers: Iterable[tuple[str, str]]
) -> str | None:
    """The prefix of a network that the rules would take instead of the chosen one, if it were complete; else None."""
    prefers = list(prefers)
    names = list(names)
    for layout in layouts:
        blocks = [anchor for anchor in layout.anchors if r"\d" in anchor]
        if not blocks:
            continue
        pattern = re.compile("|".join(rf"(?:^|(?<=\.))(?:{anchor})$" for anchor in blocks))
        prefixes = {name[: match.start()] for name in names if (match := pattern.search(name))}
        for prefix in sorted(prefixes - {chosen.prefix}, key=lambda prefix: (len(prefix), prefix))[:_MAX_NETWORKS]:
            rival = Candidate(prefix, layout, prefix)
            try:
                winners, _ = choose([chosen, rival], prefers, "")
            except CheckpointError:  # neither is better by the rules
                continue
            if winners == [rival]:
                return prefix
    return None


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


def whole_key(key: str, names: Iterable[str], path: object) -> str:
    """The path of the branch that a key means: the key itself, or the only path in the file that ends like it.

    Raises:
        CheckpointError: several paths end like it; it lists them.
    """
    wanted = key.strip(".")
    names = list(names)
    if any(name.startswith(f"{wanted}.") for name in names):
        return wanted
    ends = re.compile(rf"(?:^|(?<=\.)){re.escape(wanted)}(?=\.)")
    found = sorted({name[: match.end()] for name in names for match in ends.finditer(name)})
    if len(found) > 1:
        raise CheckpointError(
            f"{path} has several branches that end in {wanted!r}: {', '.join(map(repr, found[:8]))}.",
            f"Name one of them whole: --ckpt-key {found[0]}.",
        )
    return found[0] if found else wanted


def is_secondary(segment: str) -> bool:
    """Whether a segment of a name denotes a network beside the one to evaluate."""
    return _SECONDARY.fullmatch(segment) is not None


def _loses(place: str, rival: str, good: str, other: str) -> bool:
    """Whether two names part at segments of which the rule takes the rival's."""
    mine, theirs = _segments(place), _segments(rival)
    while mine and theirs and mine[0] == theirs[0]:
        mine, theirs = mine[1:], theirs[1:]
    return other in mine and good not in mine and good in theirs


def _prefix(candidates: Sequence[Candidate], place: str) -> str:
    """The longest prefix among the readings of a network."""
    return max((candidate.prefix for candidate in candidates if candidate.place == place), key=len)


def _segments(name: str) -> list[str]:
    return name.split(".")
