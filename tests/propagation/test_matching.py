"""The kernel against the dense reference and against what its definition implies."""

import itertools
import time

import hypothesis
import numpy as np
import pytest
import torch
from dense_reference import dense_affinity
from hypothesis import strategies as st

from corrkit.errors import CorrkitError, ProtocolError
from corrkit.propagation import Context, Matcher, match, scoring, transport
from corrkit.propagation.selection import best_positions
from corrkit.protocols.schema import Affinity

FLOAT32_WEIGHTS = 1e-6  # weights are rounded to float32


def affinity_of(**changes):
    rules = {
        "radius": 12.0,
        "shape": "square",
        "inclusive": True,
        "topk": 5,
        "ties": "keep",
        "scope": "joint",
        "temperature": 0.1,
        "normalise": "kept",
    }
    return Affinity(**{**rules, **changes})


def dense(affinity):
    """[N, F * N] of a sparse affinity: what it makes of labels that tell all context cells apart."""
    identity = torch.eye(affinity.num_context * affinity.num_cells)
    return transport(identity.view(affinity.num_context, affinity.num_cells, -1), affinity).numpy()


def unit_features(generator, frames, h, w, channels):
    features = torch.randn(frames, h, w, channels, generator=generator)
    return torch.nn.functional.normalize(features, dim=-1)


affinities = st.builds(
    affinity_of,
    radius=st.sampled_from([0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 50.0]),
    shape=st.sampled_from(["square", "circle", "none"]),
    inclusive=st.booleans(),
    topk=st.sampled_from([0, 1, 2, 3, 5, 40, 1000]),
    ties=st.sampled_from(["keep", "exact"]),
    scope=st.sampled_from(["joint", "frame"]),
    temperature=st.sampled_from([1e-3, 0.07, 1.0, 30.0]),
    normalise=st.sampled_from(["kept", "frame", "window"]),
)
grids = st.tuples(st.integers(1, 6), st.integers(1, 7))
copies = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)).filter(any), min_size=1, max_size=3)


@hypothesis.settings(max_examples=250, deadline=None)
@hypothesis.given(affinity=affinities, grid=grids, copies=copies, levels=st.integers(1, 3), seed=st.integers(0, 999))
def test_kernel_equals_the_dense_reference_with_ties_everywhere(affinity, grid, copies, levels, seed):
    hypothesis.assume(affinity.scope == "frame" or affinity.normalise != "frame")
    if affinity.normalise == "window":
        hypothesis.assume(
            affinity.scope == "joint" and affinity.shape != "none" and not any(free for _, free in copies)
        )
    is_empty = affinity.shape != "none" and affinity.radius == 0 and not affinity.inclusive
    hypothesis.assume(not is_empty or (affinity.scope == "joint" and any(free for _, free in copies)))
    # Small whole numbers: products are exact in float32, so ties are exact and frequent.
    rng = np.random.default_rng(seed)
    query, *frames = rng.integers(-levels, levels + 1, (len(copies) + 1, *grid, 2)).astype(np.float32)
    contexts = [
        Context(features=torch.from_numpy(f), windowed=c[0], free=c[1]) for f, c in zip(frames, copies, strict=True)
    ]
    got = dense(match(torch.from_numpy(query), contexts, affinity))
    want = dense_affinity(query, [(f, *c) for f, c in zip(frames, copies, strict=True)], affinity)
    np.testing.assert_allclose(got, want, atol=FLOAT32_WEIGHTS)


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(affinity=affinities, grid=grids, copies=copies, seed=st.integers(0, 999), known=st.integers(1, 3))
def test_cells_of_other_classes_are_as_if_they_were_not_there(affinity, grid, copies, seed, known):
    hypothesis.assume(affinity.scope == "frame" or affinity.normalise != "frame")
    hypothesis.assume(affinity.shape == "none" or affinity.radius > 0 or affinity.inclusive)
    if affinity.normalise == "window":
        hypothesis.assume(affinity.scope == "joint" and affinity.shape != "none")
        copies = [(max(windowed, 1), 0) for windowed, _ in copies]
    rng = np.random.default_rng(seed)
    query, *frames = rng.integers(-1, 2, (len(copies) + 1, *grid, 2)).astype(np.float32)
    classes = rng.integers(-1, known, (len(copies) + 1, *grid))
    contexts = [
        Context(features=torch.from_numpy(f), windowed=c[0], free=c[1], classes=torch.from_numpy(own))
        for f, c, own in zip(frames, copies, classes[1:], strict=True)
    ]
    (got,) = Matcher(affinity).match([torch.from_numpy(query)], [contexts], [torch.from_numpy(classes[0])])
    want = dense_affinity(query, [(f, *c) for f, c in zip(frames, copies, strict=True)], affinity, classes)
    np.testing.assert_allclose(dense(got), want, atol=FLOAT32_WEIGHTS)


@pytest.mark.parametrize(
    ("shape", "inclusive", "radius"), [("square", True, 3), ("circle", False, 4.5), ("none", True, 0)]
)
@pytest.mark.parametrize(("ties", "free"), [("keep", 0), ("exact", 1)])
def test_kernel_equals_the_dense_reference_over_several_tiles(shape, inclusive, radius, ties, free):
    affinity = affinity_of(shape=shape, inclusive=inclusive, radius=radius, ties=ties, topk=4)
    features = unit_features(torch.Generator().manual_seed(1), 3, 17, 23, 8)
    contexts = [Context(features=features[1], windowed=2, free=free), Context(features=features[2])]
    got = dense(match(features[0], contexts, affinity))
    reference = [(features[1].numpy(), 2, free), (features[2].numpy(), 1, 0)]
    np.testing.assert_allclose(got, dense_affinity(features[0].numpy(), reference, affinity), atol=1e-5)


def flat_features(kind, frames, h, w):
    """Whole numbers, so that ties are exact: all cells alike, half of them, or of six kinds."""
    rng = np.random.default_rng(4)
    features = rng.integers(-9, 10, (frames, h, w, 8)).astype(np.float32)
    if kind == "six kinds":
        return torch.from_numpy(features[0, 0, :6][rng.integers(0, 6, (frames, h, w))])
    features[:, :, : w if kind == "constant" else w // 2] = 1
    return torch.from_numpy(features)


@pytest.mark.parametrize("kind", ["constant", "half", "six kinds"])
@pytest.mark.parametrize(("ties", "free"), [("keep", 0), ("keep", 1), ("exact", 1)])
@pytest.mark.parametrize("scope", ["joint", "frame"])
def test_flat_regions_equal_the_dense_reference(kind, ties, free, scope):
    affinity = affinity_of(radius=3, ties=ties, topk=4, scope=scope, temperature=30.0)
    features = flat_features(kind, 3, 13, 17)
    contexts = [Context(features=features[1], windowed=2, free=free), Context(features=features[2])]
    got = dense(match(features[0], contexts, affinity))
    reference = [(features[1].numpy(), 2, free), (features[2].numpy(), 1, 0)]
    np.testing.assert_allclose(
        got, dense_affinity(features[0].numpy(), reference, affinity), rtol=1e-5, atol=FLOAT32_WEIGHTS
    )


@pytest.mark.parametrize("kind", ["constant", "half", "six kinds"])
def test_flat_regions_are_not_listed_cell_by_cell(kind):
    """All of a window's cells tie there; a list of them would take gigabytes on a large grid."""
    features = flat_features(kind, 9, 30, 54)
    affinity = match(features[0], [Context(features=f) for f in features[1:]], affinity_of())
    pairs = features[0, ..., 0].numel() * 25 * 25 * 8
    listed = affinity.indices.nbytes + affinity.weights.nbytes + sum(tied.copies.nbytes for tied in affinity.tied)
    assert listed < 2.5 * pairs  # bytes; the boxes of the tiles are somewhat larger than the windows


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["constant", "half", "six kinds"])
def test_flat_features_take_at_most_three_times_as_long(kind):
    noise = unit_features(torch.Generator().manual_seed(5), 9, 30, 54, 384)
    flat = torch.nn.functional.normalize(flat_features(kind, 9, 30, 54).repeat(1, 1, 1, 48), dim=-1)
    labels = torch.rand(8, 30 * 54, 3)
    matchers = {"noise": Matcher(affinity_of()), "flat": Matcher(affinity_of())}
    least = dict.fromkeys(matchers, float("inf"))
    for _ in range(4):
        for name, features in (("noise", noise), ("flat", flat)):
            contexts = [Context(features=f) for f in features[1:]]
            start = time.process_time()
            transport(labels, matchers[name].match([features[0]], [contexts])[0])
            least[name] = min(least[name], time.process_time() - start)
    assert least["flat"] < 3 * least["noise"]


@pytest.mark.parametrize("tile", [(1, 1), (2, 3), (5, 4), (19, 29)])
@pytest.mark.parametrize("free", [0, 1])
def test_tile_size_changes_nothing(monkeypatch, tile, free):
    features = unit_features(torch.Generator().manual_seed(2), 4, 19, 29, 24)
    contexts = [Context(features=features[1], windowed=3, free=free), *(Context(features=f) for f in features[2:])]
    affinity = affinity_of(radius=4, shape="circle", ties="exact")
    usual = dense(match(features[0], contexts, affinity))
    monkeypatch.setattr(scoring, "tile_shape", lambda *args: tile)
    np.testing.assert_allclose(dense(match(features[0], contexts, affinity)), usual, atol=FLOAT32_WEIGHTS)


@pytest.mark.parametrize("tile", [(1, 1), (2, 3), (7, 3)])
@pytest.mark.parametrize("ties", ["keep", "exact"])
def test_tile_size_decides_no_tie(monkeypatch, tile, ties):
    features = torch.from_numpy(np.random.default_rng(3).integers(-1, 2, (3, 9, 10, 3)).astype(np.float32))
    contexts = [Context(features=features[1], windowed=2, free=1), Context(features=features[2])]
    affinity = affinity_of(radius=2, ties=ties)
    usual = dense(match(features[0], contexts, affinity))
    monkeypatch.setattr(scoring, "tile_shape", lambda *args: tile)
    other = dense(match(features[0], contexts, affinity))
    np.testing.assert_array_equal(usual > 0, other > 0)
    np.testing.assert_allclose(usual, other, atol=FLOAT32_WEIGHTS)


@pytest.mark.parametrize("free", [0, 1])
@pytest.mark.parametrize("levels", [0, 1])
def test_query_frames_matched_together_equal_those_matched_alone(free, levels):
    features = unit_features(torch.Generator().manual_seed(14), 6, 9, 13, 8)
    if levels:  # exact ties, too
        features = (features * 2).round()
    affinity = affinity_of(radius=2.5, shape="circle", ties="exact")
    frames = list(features)  # one tensor object per frame, so that shared context frames are recognised
    queries, contexts = frames[2:], []
    for t in (2, 3, 4, 5):
        first = Context(features=frames[0], windowed=6 - t, free=free)
        contexts.append([first, *(Context(features=f) for f in frames[max(1, t - 2) : t])])
    together = Matcher(affinity).match(queries, contexts)
    for query, own, joint in zip(queries, contexts, together, strict=True):
        alone = dense(match(query, own, affinity))
        np.testing.assert_array_equal(alone > 0, dense(joint) > 0)
        np.testing.assert_allclose(alone, dense(joint), atol=FLOAT32_WEIGHTS)


def test_context_frames_must_be_seen_by_consecutive_query_frames():
    frames = list(unit_features(torch.Generator().manual_seed(15), 5, 3, 4, 4))
    contexts = [[Context(features=frames[i])] for i in (0, 1, 0)]
    with pytest.raises(ValueError, match="match them one by one"):
        Matcher(affinity_of()).match(frames[2:], contexts)


def test_number_of_threads_changes_nothing():
    features = unit_features(torch.Generator().manual_seed(4), 4, 20, 31, 48)
    contexts = [Context(features=f) for f in features[1:]]
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(dense(match(features[0], contexts, affinity_of(radius=5))))
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_allclose(results[0], results[1], atol=FLOAT32_WEIGHTS)


def test_order_of_context_frames_changes_nothing():
    features = unit_features(torch.Generator().manual_seed(5), 4, 6, 7, 16)
    affinity = affinity_of(radius=2, topk=6)
    labels = torch.rand(3, 42, 2, generator=torch.Generator().manual_seed(6))
    results = []
    for order in itertools.permutations(range(3)):
        matched = match(features[0], [Context(features=features[1 + i]) for i in order], affinity)
        results.append(transport(labels[list(order)], matched).numpy())
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], atol=FLOAT32_WEIGHTS)


@pytest.mark.parametrize("ties", ["keep", "exact"])
@pytest.mark.parametrize("scope", ["joint", "frame"])
def test_rows_sum_to_one_when_normalised_over_the_kept_cells(ties, scope):
    features = unit_features(torch.Generator().manual_seed(7), 3, 8, 9, 12)
    matched = match(features[0], [Context(features=f) for f in features[1:]], affinity_of(ties=ties, scope=scope))
    np.testing.assert_allclose(dense(matched).sum(1), 1, atol=FLOAT32_WEIGHTS)


def test_rows_sum_to_less_than_one_when_normalised_over_the_frame():
    features = unit_features(torch.Generator().manual_seed(8), 3, 8, 9, 12)
    affinity = affinity_of(scope="frame", normalise="frame", shape="none", temperature=1.0)
    sums = dense(match(features[0], [Context(features=f) for f in features[1:]], affinity)).sum(1)
    assert (sums > 0).all()
    assert (sums < 0.5).all()


@pytest.mark.parametrize("shape", ["square", "circle"])
def test_radius_zero_copies_the_same_cell(shape):
    features = unit_features(torch.Generator().manual_seed(9), 1, 5, 6, 4)[0]
    matched = match(features, [Context(features=features)], affinity_of(radius=0, shape=shape))
    np.testing.assert_array_equal(dense(matched), np.eye(30))


@pytest.mark.parametrize("temperature", [1e-6, 1e-30])
def test_low_temperature_is_the_nearest_neighbour(temperature):
    features = unit_features(torch.Generator().manual_seed(10), 2, 6, 5, 8)
    matched = match(features[0], [Context(features=features[1])], affinity_of(temperature=temperature, shape="none"))
    nearest = (features[0].reshape(30, 8) @ features[1].reshape(30, 8).T).argmax(1)
    np.testing.assert_array_equal(dense(matched), np.eye(30)[nearest.numpy()])


def test_two_by_two_by_hand():
    # One channel: query cells 1, 2 / 3, 4; context cells 1, 0 / 2, -1; k = 2, T = ln 2 / 1, so exp(s / T) = 2 ** s.
    query = torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]])
    context = torch.tensor([[[1.0], [0.0]], [[2.0], [-1.0]]])
    affinity = affinity_of(shape="none", topk=2, temperature=1 / np.log(2))
    # Query 1: similarities 1, 0, 2, -1; kept 1 and 2 with 2^1 : 2^2 = 1/3 : 2/3. Query 2: 2, 4: 1/5 : 4/5.
    want = [[1 / 3, 0, 2 / 3, 0], [1 / 5, 0, 4 / 5, 0], [1 / 9, 0, 8 / 9, 0], [1 / 17, 0, 16 / 17, 0]]
    np.testing.assert_allclose(dense(match(query, [Context(features=context)], affinity)), want, atol=FLOAT32_WEIGHTS)


def test_copies_fill_the_nearest_by_hand():
    # Similarities 1, 0 / 2, -1 as above for query 1. Three copies of the only context frame and k = 4:
    # cell 2 three times, cell 0 once: weights 3 * 2^2 : 2^1 = 6/7 : 1/7.
    query = torch.tensor([[[1.0], [1.0]], [[1.0], [1.0]]])
    context = torch.tensor([[[1.0], [0.0]], [[2.0], [-1.0]]])
    affinity = affinity_of(shape="none", topk=4, ties="exact", temperature=1 / np.log(2))
    matched = match(query, [Context(features=context, windowed=3)], affinity)
    np.testing.assert_allclose(dense(matched), [[1 / 7, 0, 6 / 7, 0]] * 4, atol=FLOAT32_WEIGHTS)


def test_ties_by_hand():
    # All four context cells are equal: "keep" takes all of them, "exact" the two lowest.
    query = context = torch.ones(2, 2, 1)
    kept = match(query, [Context(features=context)], affinity_of(shape="none", topk=2))
    exact = match(query, [Context(features=context)], affinity_of(shape="none", topk=2, ties="exact"))
    np.testing.assert_allclose(dense(kept), np.full((4, 4), 1 / 4), atol=FLOAT32_WEIGHTS)
    np.testing.assert_allclose(dense(exact), [[1 / 2, 1 / 2, 0, 0]] * 4, atol=FLOAT32_WEIGHTS)


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(
    rows=st.integers(1, 4),
    width=st.integers(1, 900),
    count=st.integers(1, 6),
    levels=st.integers(1, 2000),
    seed=st.integers(0, 99),
)
def test_two_stage_top_k_finds_the_largest_values(rows, width, count, levels, seed):
    values = torch.from_numpy(np.random.default_rng(seed).integers(0, levels, (rows, width)).astype(np.float32))
    count = min(count, width)
    positions = best_positions(values, count)
    assert all(len(set(row)) == count for row in positions.tolist())
    assert torch.equal(values.gather(1, positions), values.topk(count, dim=1).values)


def test_transport_is_linear_and_knows_its_shapes():
    features = unit_features(torch.Generator().manual_seed(11), 2, 4, 5, 6)
    matched = match(features[0], [Context(features=features[1])], affinity_of(radius=2))
    a, b = torch.rand(2, 1, 20, 3, generator=torch.Generator().manual_seed(12))
    together = transport(2 * a - 3 * b, matched)
    np.testing.assert_allclose(together, 2 * transport(a, matched) - 3 * transport(b, matched), atol=1e-5)
    np.testing.assert_allclose(transport(a, matched), dense(matched) @ a[0].numpy(), atol=FLOAT32_WEIGHTS)
    with pytest.raises(ValueError, match=r"labels have shape \(1, 19, 3\)"):
        transport(a[:, 1:], matched)


def test_window_without_any_cell_is_refused():
    features = torch.ones(2, 2, 1)
    empty = affinity_of(radius=0, shape="circle", inclusive=False, ties="exact")
    with pytest.raises(ProtocolError, match="admits no cell"):
        match(features, [Context(features=features)], empty)
    free = match(features, [Context(features=features, windowed=3, free=1)], empty)
    np.testing.assert_allclose(dense(free), np.full((4, 4), 1 / 4), atol=FLOAT32_WEIGHTS)


def test_normalising_over_the_frame_needs_selection_per_frame():
    features = torch.ones(2, 2, 1)
    with pytest.raises(ProtocolError, match="contradicts"):
        match(features, [Context(features=features)], affinity_of(normalise="frame"))


def test_overflowing_similarities_are_an_error():
    features = torch.full((2, 2, 1), 1e30)
    with pytest.raises(CorrkitError, match="overflow"):
        match(features, [Context(features=features)], affinity_of())


@pytest.mark.parametrize(
    ("query", "contexts", "message"),
    [
        (torch.ones(2, 2), [Context(features=torch.ones(2, 2))], "not \\[h, w, C\\]"),
        (torch.ones(2, 2, 1), [], "no context frame"),
        (torch.ones(2, 2, 1), [Context(features=torch.ones(2, 3, 1))], "differ in shape"),
        (torch.ones(2, 2, 1), [Context(features=torch.ones(2, 2, 1), windowed=0)], "0 windowed and 0 free"),
    ],
)
def test_wrong_shapes_are_named(query, contexts, message):
    with pytest.raises(ValueError, match=message):
        match(query, contexts, affinity_of())


def test_autocast_and_gradients_do_not_reach_the_kernel():
    features = unit_features(torch.Generator().manual_seed(13), 2, 5, 6, 8)
    plain = match(features[0], [Context(features=features[1])], affinity_of())
    query = features[0].clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        other = match(query, [Context(features=features[1])], affinity_of())
    assert torch.equal(plain.weights, other.weights)
    assert not other.weights.requires_grad
