"""What must be in a state dict because something else is: no network is built around a gap."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from corrkit.checkpoints.system import State, System
from corrkit.errors import CheckpointError

# (present, required): all of the first there, the second must be.
_COMPANIONS: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"pos_embed_spatial"}), "pos_embed_temporal"),
    (frozenset({"pos_embed_temporal"}), "pos_embed_spatial"),
    (frozenset({"pos_embed_class"}), "cls_token"),
    (frozenset({"pos_embed_spatial", "cls_token"}), "pos_embed_class"),
)
_BLOCK = re.compile(r"(?:^|(?<=\.))\d+\.")
_SHOWN = 6  # names in a message
# Tensors that all blocks of a network have, or none.
_UNIFORM = re.compile(
    r"(.*blocks\.)(\d+)\.(attn\.(?:(?:qkv|proj)\.(?:weight|bias)|rel_pos_[hwt]|scale)|mlp\.fc\d\.(?:weight|bias))"
)


def absent(state: State, requires: Iterable[str]) -> Iterator[str]:
    """Canonical names that are missing: of `requires`, of companions, of blocks that are unlike the others."""
    yield from (name for name in requires if name not in state)
    yield from (name for present, name in _COMPANIONS if present <= state.keys() and name not in state)
    seen: dict[tuple[str, str], set[int]] = defaultdict(set)
    for name in state:
        if match := _UNIFORM.fullmatch(name):
            seen[match[1], match[3]].add(int(match[2]))
    for (stem, leaf), numbers in seen.items():
        every = {int(match[1]) for name in state if (match := re.match(rf"{re.escape(stem)}(\d+)\.", name))}
        yield from (f"{stem}{number}.{leaf}" for number in sorted(every - numbers))


class UnknownNetworkError(CheckpointError):
    """A whole file, for all that is known, whose network corrkit doesn't know."""


def gap(
    path: object, system: System, names: Sequence[str], have: Iterable[str], spell: Callable[[str], str]
) -> CheckpointError:
    """The error for tensors that a system has and a file lacks.

    A file is only incomplete for certain where other blocks of it have what one lacks; else the whole network may be
    of another kind.

    Args:
        path: of the file.
        system: that the file was taken for.
        names: canonical, of what lacks.
        have: canonical names that are there.
        spell: canonical name to the one that the file would give it.
    """
    leaves = {_BLOCK.sub("#.", name) for name in have if _BLOCK.search(name)}
    partial = [name for name in names if _BLOCK.search(name) and _BLOCK.sub("#.", name) in leaves]
    shown = partial or names
    listed = ", ".join(spell(name) for name in shown[:_SHOWN])
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    if partial:
        return CheckpointError(
            f"{path} ({system.name}) is incomplete: {listed}{more} missing, and other blocks have it.",
            "Get the complete file; a network is never loaded in part.",
        )
    return UnknownNetworkError(
        f"{path} has no {listed}{more}: missing here, and there in every file of {system.name} ({system.title}) that "
        "corrkit knows.",
        f"If the file is whole, its network is another one. {ways_on()}",
    )


def contradiction(path: object, system: System, name: str, problem: str) -> CheckpointError:
    """The error for a tensor, under its name in the file, of a shape that no network of the system has."""
    return CheckpointError(
        f"{path} ({system.name}) contradicts itself: {name} {problem}.",
        "If the file is intact, its architecture is a variant that corrkit doesn't know.",
    )


def ways_on() -> str:
    """How any network can be evaluated that corrkit doesn't know by its names."""
    return (
        "A model of timm: timm:NAME=FILE. A ViT in names of its own: --layout FILE.toml, which "
        "corrkit inspect FILE --suggest NEW.toml proposes. Any other: py:FILE.py:FUNCTION, which builds it with its "
        "own code."
    )


class Tensors(State):
    """A state dict whose missing entries are an error for the user, under the names that the file would give them."""

    def __init__(self, state: State, missing: Callable[[list[str]], CheckpointError]) -> None:
        super().__init__(state)
        self._missing = missing

    def __missing__(self, name: str) -> "object":
        raise self._missing([name])
