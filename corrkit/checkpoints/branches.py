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
    """A network that a file may hold: all names that start with `prefix` ("" or ending in a dot), in one layout."""

    prefix: str
    layout: Layout

    @property
    def segments(self) -> list[str]:
        """Of the prefix."""
        return self.prefix.split(".")[:-1]


def choose(
    candidates: Sequence[Candidate], prefers: Iterable[tuple[str, str]], path: object
) -> tuple[list[Candidate], list[tuple[str, str]]]:
    """The candidates of the prefix to evaluate, and the prefixes left out with the reason.

    Raises:
        CheckpointError: where several prefixes are equally good; it lists them.
    """
    prefixes = sorted({candidate.prefix for candidate in candidates})
    left_out: list[tuple[str, str]] = []
    for good, other in prefers:
        if any(good in _segments(prefix) for prefix in prefixes):
            losing = [prefix for prefix in prefixes if other in _segments(prefix) and good not in _segments(prefix)]
            left_out += [(prefix, f"{good} is evaluated, not {other}") for prefix in losing]
            prefixes = [prefix for prefix in prefixes if prefix not in losing]
    primary = [prefix for prefix in prefixes if not any(map(_SECONDARY.fullmatch, _segments(prefix)))]
    if primary and len(primary) < len(prefixes):
        left_out += [(prefix, "another network than the one evaluated") for prefix in prefixes if prefix not in primary]
        prefixes = primary
    if len(prefixes) > 1:
        names = ", ".join(repr(prefix.removesuffix(".")) for prefix in prefixes)
        raise CheckpointError(
            f"{path} holds several backbones that are equally good: {names}.",
            f"Choose one: --ckpt-key {prefixes[0].removesuffix('.') or prefixes[1].removesuffix('.')}.",
        )
    return [candidate for candidate in candidates if candidate.prefix == prefixes[0]], left_out


def find(names: Iterable[tuple[str, int]], layouts: Iterable[Layout], key: str | None = None) -> list[Candidate]:
    """All networks in a file, from names and numbers of dimensions of its tensors; only those under `key`, if given."""
    named = [(name, ndim) for name, ndim in names if key is None or name.startswith(key.rstrip(".") + ".")]
    found = []
    for layout in layouts:
        prefixes: set[str] | None = None
        for anchor, wanted in layout.anchors.items():
            pattern = re.compile(rf"(?:^|\.)(?={anchor}$)")
            here = {
                name[: match.end()]
                for name, ndim in named
                if wanted in (None, ndim)
                for match in pattern.finditer(name)
            }
            prefixes = here if prefixes is None else prefixes & here
        found += [Candidate(prefix, layout) for prefix in sorted(prefixes or ())]
    return found


def _segments(prefix: str) -> list[str]:
    return prefix.split(".")
