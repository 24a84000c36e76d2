"""The propagation loop: which context frames, feedback, streaming, bad input."""

import gc
import itertools

import numpy as np
import pytest
import torch

import corrkit
from corrkit.errors import CorrkitError, ProtocolError
from corrkit.propagation.memory import context_frames
from corrkit.protocols import load_protocol, override
from corrkit.protocols.schema import Memory


def memory(**changes):
    rules = {"context": 3, "spacing": 1, "long_term": (0,), "distinct": False, "first_copies": "none"}
    rules |= {"mask_first": True, "predict_first": False}
    return Memory(**{**rules, **changes})


def moving_clip(frames=6, h=6, w=8, channels=12, seed=0):
    features = torch.randn(frames, h, w, channels, generator=torch.Generator().manual_seed(seed))
    first = torch.nn.functional.one_hot((torch.arange(h * w) % 3).reshape(h, w), 3).float()
    return features, first


def test_a_spaced_queue_and_frames_that_count_once():
    """MAST's references: {0, 5} and every second of the last five frames, as a set."""

    def frames(query, **changes):
        return {c.frame: c.windowed for c in context_frames(query, memory(spacing=2, long_term=(0, 5), **changes))}

    assert frames(1, distinct=True) == {0: 1}
    assert frames(4, distinct=True) == {0: 1, 1: 1, 3: 1}
    assert frames(6, distinct=True) == {0: 1, 1: 1, 3: 1, 5: 1}
    assert frames(9, distinct=True) == {0: 1, 4: 1, 5: 1, 6: 1, 8: 1}
    assert frames(10, distinct=True) == {0: 1, 5: 1, 7: 1, 9: 1}
    assert frames(10, distinct=False) == {0: 1, 5: 2, 7: 1, 9: 1}


@pytest.mark.parametrize(
    ("rule", "query", "copies"),
    [
        # dino: [0] + [max(1, t - n) .. t - 1]
        ("none", 1, {0: 1}),
        ("none", 2, {0: 1, 1: 1}),
        ("none", 5, {0: 1, 2: 1, 3: 1, 4: 1}),
        # vfs: [0] + [max(0, t - n) .. t - 1]
        ("once", 1, {0: 2}),
        ("once", 3, {0: 2, 1: 1, 2: 1}),
        ("once", 4, {0: 1, 1: 1, 2: 1, 3: 1}),
        # crw: frame 0 occurs max(0, n - t + 1) + 1 times
        ("fill", 1, {0: 4}),
        ("fill", 3, {0: 2, 1: 1, 2: 1}),
        ("fill", 4, {0: 1, 1: 1, 2: 1, 3: 1}),
        ("fill", 0, {0: 4}),
    ],
)
def test_context_frames_of_the_published_loops(rule, query, copies):
    assert {c.frame: c.windowed for c in context_frames(query, memory(first_copies=rule))} == copies
    free = context_frames(query, memory(first_copies=rule, mask_first=False))
    assert {c.frame: (c.windowed, c.free) for c in free} == {f: (n - (f == 0), int(f == 0)) for f, n in copies.items()}


def test_copies_of_frame_0_stay_apart_where_their_labels_differ():
    context = context_frames(2, memory(first_copies="fill", mask_first=False), first_differs=True)
    assert [(c.frame, c.role, c.windowed, c.free) for c in context] == [
        (0, "long-term", 0, 1),
        (0, "padding", 1, 0),
        (0, "queue", 1, 0),
        (1, "queue", 1, 0),
    ]


def test_a_later_long_term_frame_joins_once_it_has_passed():
    def copies(query):
        return {c.frame: c.windowed for c in context_frames(query, memory(long_term=(0, 5)))}

    assert copies(5) == {0: 1, 2: 1, 3: 1, 4: 1}
    assert copies(6) == {0: 1, 3: 1, 4: 1, 5: 2}
    assert copies(9) == {0: 1, 5: 1, 6: 1, 7: 1, 8: 1}


def test_iterator_and_tensor_give_the_same():
    features, first = moving_clip()
    whole = list(corrkit.propagate(features, first, radius=2))
    streamed = list(
        corrkit.propagate((frame for frame in features), first, protocol=load_protocol("davis/dino"), radius=2)
    )
    assert len(whole) == 5
    assert all(torch.equal(a, b) for a, b in zip(whole, streamed, strict=True))
    assert whole[0].shape == (6, 8, 3)


def test_dotted_names_and_overridden_protocols_are_the_same():
    features, first = moving_clip()
    bare = list(corrkit.propagate(features, first, radius=1, topk=2))
    dotted = list(corrkit.propagate(features, first, **{"affinity.radius": 1, "affinity.topk": 2}))
    ready = list(
        corrkit.propagate(features, first, protocol=override(load_protocol("davis/dino"), {"radius": 1, "topk": 2}))
    )
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(bare, dotted, ready, strict=True))
    assert not torch.equal(bare[0], next(corrkit.propagate(features, first)))


def test_at_most_three_frames_are_read_ahead():
    features, first = moving_clip(frames=30)
    read = []

    def frames():
        for index, frame in enumerate(features):
            read.append(index)
            yield frame

    for index, _ in enumerate(corrkit.propagate(frames(), first), start=1):
        assert index <= len(read) - 1 <= index + 3


@pytest.mark.parametrize("rule", ["none", "fill"])
def test_memory_does_not_grow_with_the_clip(rule):
    shape = (5, 7, 11)

    def alive():
        gc.collect()
        return sum(type(o) is torch.Tensor and o.shape == shape for o in gc.get_objects())

    generator = torch.Generator().manual_seed(0)
    frames = (torch.randn(shape, generator=generator) for _ in itertools.count())
    predictions = corrkit.propagate(frames, torch.rand(5, 7, 2), context=4, first_copies=rule)
    early, late = (alive() for _ in (next(itertools.islice(predictions, n, None)) for n in (10, 30)))
    assert early <= 4 + 4 + 2
    assert late == early


def later_object(h=6, w=8, at=(2, 3)):
    """A label map of one cell of channel 2."""
    labels = torch.zeros(h, w, 3)
    labels[(*at, 2)] = 1
    return labels


@pytest.mark.parametrize("protocol", ["davis/dino", "davis/vfs", "davis/dense-ulearn-vos", "davis/rvm"])
def test_what_enters_later_is_what_a_clip_that_begins_there_has(protocol: str):
    """In its channel: an own context knows nothing of the frames before."""
    features, first = moving_clip(frames=9)
    first[..., 2] = 0
    rules = {"radius": 2, "context": 3, "topk": 4, "long_term": [0]}
    whole = list(corrkit.propagate(features, first, protocol=protocol, later_labels={3: later_object()}, **rules))
    alone = list(corrkit.propagate(features[3:], later_object(), protocol=protocol, **rules))
    before = list(corrkit.propagate(features[:4], first, protocol=protocol, **rules))
    assert len(whole) == len(before) + len(alone) - (protocol == "davis/rvm")
    shift = len(features) - len(whole)  # 1 where frame 0 is not predicted
    for frame in range(1, 3):
        assert torch.equal(whole[frame - shift], before[frame - shift])
    assert torch.equal(whole[3 - shift][2, 3], torch.tensor([0.0, 0.0, 1.0]))
    for frame in range(4, 9):
        torch.testing.assert_close(whole[frame - shift][..., 2], alone[frame - 3 - shift][..., 2], rtol=0, atol=1e-6)
        assert torch.count_nonzero(whole[frame - shift][..., 2]) > 0


def test_what_enters_later_covers_what_was_there_and_leaves_the_rest():
    features, first = moving_clip(frames=1)
    first[..., 2] = 0
    later = {2: later_object(at=(1, 1)), 99: later_object()}
    still = features.expand(7, -1, -1, -1)
    for frame, soft in enumerate(corrkit.propagate(still, first, radius=0, later_labels=later), start=1):
        is_there = torch.zeros(6, 8, dtype=torch.bool)
        is_there[1, 1] = frame >= 2
        np.testing.assert_allclose(soft[..., 2], is_there, atol=1e-6)
        np.testing.assert_allclose(soft[~is_there], first[~is_there], atol=1e-6)
        assert bool((soft[is_there].argmax(-1) == 2).all())


@pytest.mark.parametrize("rules", [{}, {"predict_first": True}, {"feedback": "minmax"}, {"rescale": "classes"}])
def test_whoever_reads_a_label_map_may_keep_it_and_write_to_it(rules):
    features, first = moving_clip(frames=9)
    kept = list(corrkit.propagate(features, first, context=2, **rules))
    for number, soft in enumerate(corrkit.propagate(features, first, context=2, **rules)):
        assert torch.equal(soft, kept[number])
        soft.fill_(torch.nan)


def test_memory_does_not_grow_with_the_clip_where_labels_enter_later():
    shape = (5, 7, 11)

    def alive():
        gc.collect()
        return sum(type(o) is torch.Tensor and o.shape == shape for o in gc.get_objects())

    generator = torch.Generator().manual_seed(0)
    frames = (torch.randn(shape, generator=generator) for _ in itertools.count())
    later = {3: later_object(5, 7), 50: later_object(5, 7)}
    predictions = corrkit.propagate(frames, torch.rand(5, 7, 3), context=4, later_labels=later)
    found = [alive() for _ in (next(itertools.islice(predictions, n, None)) for n in (10, 30, 60))]
    assert found[1] == found[0] <= 2 * 4 + 4 + 2 + 4  # of three starts: their contexts overlap, each has its first
    assert found[2] <= found[1] + 4


@pytest.mark.parametrize("labels", [{0: later_object()}, {-1: later_object()}, {2: later_object(5, 8)}])
def test_later_labels_of_other_frames_and_shapes_are_refused(labels):
    features, first = moving_clip()
    with pytest.raises(ValueError, match="later_labels"):
        corrkit.propagate(features, first, later_labels=labels)


def test_inference_mode_may_come_and_go():
    features, first = moving_clip(frames=8)
    predictions, softs = corrkit.propagate(features, first), []
    for index in range(7):
        with torch.inference_mode(mode=index % 2 == 0):
            softs.append(next(predictions).clone())
    assert all(torch.equal(a, b) for a, b in zip(softs, corrkit.propagate(features, first), strict=True))


def test_constant_features_keep_one_label_everywhere():
    first = torch.zeros(4, 5, 2)
    first[..., 1] = 1
    for soft in corrkit.propagate(torch.ones(4, 4, 5, 3), first):
        np.testing.assert_allclose(soft, first, atol=1e-6)


def test_identical_frames_at_radius_zero_repeat_the_first_labels():
    features, first = moving_clip(frames=1)
    for soft in corrkit.propagate(features.expand(5, -1, -1, -1), first, radius=0):
        np.testing.assert_allclose(soft, first, atol=1e-6)


def test_predict_first_yields_frame_0_too():
    features, first = moving_clip()
    without = list(corrkit.propagate(features, first))
    predicted = list(corrkit.propagate(features, first, predict_first=True))
    assert len(predicted) == len(without) + 1
    # Frame 0 matched with itself: each cell is its own nearest neighbour.
    nearest = next(corrkit.propagate(features, first, predict_first=True, topk=1))
    assert torch.equal(nearest, first)


def test_clip_of_one_frame_has_nothing_to_predict():
    features, first = moving_clip(frames=1)
    assert list(corrkit.propagate(features, first)) == []
    assert len(list(corrkit.propagate(features, first, predict_first=True))) == 1


def test_hard_feedback_differs_only_after_the_first_step():
    features, first = moving_clip()
    soft = list(corrkit.propagate(features, first))
    hard = list(corrkit.propagate(features, first, feedback="hard"))
    assert torch.equal(soft[0], hard[0])
    assert not torch.equal(soft[1], hard[1])


def test_minmax_feedback_spans_zero_to_one_and_leaves_an_absent_class_alone():
    features, first = moving_clip()
    first = torch.cat([first, torch.zeros(6, 8, 1)], -1)
    for soft in corrkit.propagate(features, first, feedback="minmax"):
        np.testing.assert_array_equal(soft.amin((0, 1)), [0, 0, 0, 0])
        np.testing.assert_array_equal(soft.amax((0, 1)), [1, 1, 1, 0])


def test_rescaling_over_classes_is_shown_and_not_stored():
    features, first = moving_clip()
    plain = list(corrkit.propagate(features, first))
    for soft, shown in zip(plain, corrkit.propagate(features, first, rescale="classes"), strict=True):
        shifted = soft - soft.amin(-1, keepdim=True)
        np.testing.assert_allclose(shown, shifted / shifted.amax(-1, keepdim=True), atol=1e-6)


def test_half_precision_features_are_matched_in_float32():
    features, first = moving_clip()
    half = features.to(torch.bfloat16)
    for a, b in zip(corrkit.propagate(half, first), corrkit.propagate(half.float(), first), strict=True):
        assert torch.equal(a, b)
        assert a.dtype == torch.float32


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_features_name_the_frame(value):
    features, first = moving_clip()
    features[3, 1, 2, 4] = value
    with pytest.raises(CorrkitError, match="features of frame 3 are NaN, infinite or beyond 1e19 in 1 of 48 cells"):
        list(corrkit.propagate(features, first))


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (torch.ones(6, 8, 12), torch.ones(6, 8, 3), r"not \[T, h, w, C\]"),
        (torch.ones(2, 6, 8, 12), torch.ones(6, 8), r"not \[h, w, L\]"),
        (torch.ones(2, 6, 8, 12), torch.ones(6, 8, 0), r"not \[h, w, L\]"),
        (torch.ones(2, 6, 8, 12), torch.full((6, 8, 1), torch.nan), "NaN"),
        (torch.ones(2, 6, 8, 12), torch.ones(6, 9, 3), "frame 0 have shape"),
        ([torch.ones(6, 8, 12), torch.ones(6, 9, 12)], torch.ones(6, 8, 3), "frame 1 have shape"),
        ([torch.ones(6, 8, 12), torch.ones(6, 8, 13)], torch.ones(6, 8, 3), "13 channels, earlier frames 12"),
    ],
)
def test_wrong_shapes_are_named(features, labels, message):
    with pytest.raises(ValueError, match=message):
        list(corrkit.propagate(features, labels))


def test_wrong_rules_are_refused():
    features, first = moving_clip()
    with pytest.raises(ProtocolError, match="no constant named 'raduis'"):
        corrkit.propagate(features, first, raduis=3)
    with pytest.raises(ProtocolError, match="Frame 1 has no context"):
        next(corrkit.propagate(features, first, long_term=[]))
    with pytest.raises(CorrkitError, match="12 channels, which do not divide into 5 equal groups"):
        next(corrkit.propagate(features, first, group_weights=[1.0] * 5))


def test_a_finer_grid_enlarges_the_features_bilinearly():
    features, _ = moving_clip(frames=3, h=4, w=5)
    first = torch.nn.functional.one_hot((torch.arange(8 * 10) % 3).reshape(8, 10), 3).float()
    enlarged = torch.nn.functional.interpolate(features.permute(0, 3, 1, 2), size=(8, 10), mode="bilinear")
    by_hand = list(corrkit.propagate(enlarged.permute(0, 2, 3, 1), first))
    for ours, theirs in zip(corrkit.propagate(features, first, finer=2), by_hand, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match=r"features.finer = 1"):
        list(corrkit.propagate(features, first))
