"""One matching for several contexts, k, ties and temperatures: each affinity that of its own matching, to the bit."""

import itertools

import pytest
import torch

from corrkit.propagation import Context, Matcher, transport
from corrkit.propagation.matching import Wanted
from corrkit.propagation.propagator import SharedMatching, matched, matching_key
from corrkit.propagation.scoring import Plan
from corrkit.protocols import Protocol, load_protocol, override

FRAMES, GRID = 10, (4, 6)
SWEPT = [
    {"context": context, "topk": topk, "ties": ties, "temperature": temperature}
    for context, (topk, ties), temperature in itertools.product(
        (2, 7, 0), ((5, "keep"), (3, "exact"), (11, "exact")), (0.05, 0.7)
    )
]


def features_of(content: str) -> torch.Tensor:
    features = torch.randn(FRAMES, *GRID, 24, generator=torch.Generator().manual_seed(1))
    if content == "ties":  # three kinds of cells, frames that repeat: most similarities occur many times
        features = features[0, 0, :3][torch.arange(FRAMES * GRID[0] * GRID[1]).view(FRAMES, *GRID) * 7 // 5 % 3]
    elif content == "flat":
        features = torch.ones_like(features)
    return features


def settings_of(name: str) -> list[Protocol]:
    base = override(load_protocol(name, "davis"), {"radius": 2.0})
    return [override(base, changes) for changes in SWEPT]


def own_steps(features: torch.Tensor, protocol: Protocol):
    return list(matched(iter(features), GRID, protocol))


@pytest.mark.parametrize("content", ["noise", "ties", "flat"])
@pytest.mark.parametrize("name", ["dino", "crw", "vfs", "rvm", "diff-zvos"])
def test_each_setting_has_the_matches_of_its_own_matching(name: str, content: str):
    """Windows on frame 0 and none, copies of it that fill the queue, a frame 0 that is predicted; ties at every cut."""
    features, settings = features_of(content), settings_of(name)
    shared = SharedMatching(iter(features))
    readers = [shared.join(protocol) for protocol in settings]
    together = list(zip(*readers, strict=True))
    for setting, steps in zip(settings, zip(*together, strict=True), strict=True):
        for step, own in zip(steps, own_steps(features, setting), strict=True):
            assert (step.frame, step.context) == (own.frame, own.context)
            labels = torch.rand(
                len(own.context), GRID[0] * GRID[1], 3, generator=torch.Generator().manual_seed(step.frame)
            )
            expected = transport(labels, own.affinity)
            assert torch.equal(transport(labels, step.affinity), expected), (setting.overrides, step.frame)
            assert expected.isfinite().all()


def test_similarities_are_worked_out_once_for_all(monkeypatch: pytest.MonkeyPatch):
    pairs: list[int] = []
    scores = Plan.scores

    def counted(self, group, queries, windowed, free):
        pairs.append(len(group.cells) * len(windowed))
        return scores(self, group, queries, windowed, free)

    monkeypatch.setattr(Plan, "scores", counted)
    features, settings = features_of("noise"), settings_of("dino")
    own_steps(features, override(settings[0], {"context": 7}))
    alone = sum(pairs)
    pairs.clear()
    shared = SharedMatching(iter(features))
    for _ in zip(*[shared.join(protocol) for protocol in settings], strict=True):
        pass
    assert sum(pairs) == alone


def test_what_decides_similarities_or_their_sums_is_not_shared():
    base = load_protocol("davis/dino")
    Changes = list[dict[str, object]]
    same: Changes = [{"context": 3}, {"topk": 9}, {"ties": "exact"}, {"temperature": 0.7}, {"minmax": "none"}]
    other: Changes = [
        {"radius": 9.0},
        {"shape": "circle"},
        {"mask_first": False},
        {"l2": False},
        {"predict_first": True},
    ]
    alone: Changes = [{"scope": "frame"}, {"normalise": "window"}, {"topk": 0}]
    key = matching_key(base)
    assert key is not None
    assert [matching_key(override(base, changes)) for changes in same] == [key] * len(same)
    assert key not in [matching_key(override(base, changes)) for changes in other]
    assert [matching_key(override(base, changes)) for changes in alone] == [None] * len(alone)


def test_a_context_with_a_frame_that_the_widest_lacks_is_refused():
    frames = features_of("noise")
    rules = load_protocol("davis/dino").affinity
    wide, other = ([[Context(features=frame)]] for frame in frames[:2])
    with pytest.raises(ValueError, match="that the widest does not"):
        Matcher(rules).match_each([frames[2]], [Wanted(contexts=own, affinities=[rules]) for own in (wide, other)])
