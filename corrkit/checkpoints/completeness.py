"""What must be in a state dict because something else is: no network is built around a gap."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from corrkit.checkpoints.system import State
from corrkit.errors import CheckpointError

# (present, required): all of the first there, the second must be.
_COMPANIONS: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"pos_embed_spatial"}), "pos_embed_temporal"),
    (frozenset({"pos_embed_temporal"}), "pos_embed_spatial"),
    (frozenset({"pos_embed_class"}), "cls_token"),
    (frozenset({"pos_embed_spatial", "cls_token"}), "pos_embed_class"),
)
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


class Tensors(State):
    """A state dict whose missing entries are an error for the user, under the names that the file would give them."""

    def __init__(self, state: State, missing: Callable[[list[str]], CheckpointError]) -> None:
        super().__init__(state)
        self._missing = missing

    def __missing__(self, name: str) -> "object":
        raise self._missing([name])
