"""A stream of frames: the numbers of an evaluation, labels that come later, memory, what is refused."""

import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_video import moving_square, square_mask
from colour_backbone import ColourBackbone
from davis_folder import make_clip

import corrkit
from corrkit.backbones.contract import Mode
from corrkit.clips import embedded_root
from corrkit.errors import CorrkitError, ProtocolError, UsageError
from corrkit.propagation import transport
from corrkit.propagation.features import prepare
from corrkit.tasks.davis import DavisTask
from corrkit.tasks.jhmdb import JhmdbTask
from corrkit.tasks.masks import read_mask

SMALL = {"size": [64], "multiple": 16}
FRAME = moving_square(1)[0]


def followed(clip, model, protocol: str, **overrides):
    """Every prediction of a Tracker that is shown a clip of a data set."""
    tracker = corrkit.Tracker(model, protocol=protocol, **overrides)
    yield tracker.start(clip.frames[0], clip.annotation(0))
    for index in range(1, len(clip.frames)):
        yield tracker.step(clip.frames[index])


@pytest.mark.parametrize("protocol", ["dino", "crw", "rvm", "dinov3-M", "mast"])
def test_masks_are_those_of_eval_to_the_last_bit(protocol: str, tmp_path: Path):
    overrides = {"resize": "short-side", "size": [64], "multiple": 16, "colour": "published"}
    corrkit.evaluate("davis", "rgb", clips=["embedded-0"], protocol=protocol, out=tmp_path / "run", **overrides)
    data = DavisTask().open(embedded_root("davis"), split="val", dataset_name="mine")
    clip = data.clips[0]
    for stem, mask in zip(clip.stems, followed(clip, "rgb", f"davis/{protocol}", **overrides), strict=True):
        np.testing.assert_array_equal(mask, read_mask(tmp_path / f"run/predictions/embedded-0/{stem}.png"))


@pytest.mark.parametrize("protocol", ["cropmae", "crw", "rvm"])
def test_points_are_those_of_eval_to_the_last_bit(protocol: str, tmp_path: Path):
    data = JhmdbTask().open(embedded_root("jhmdb"), split="split1", dataset_name="mine")
    clip = data.clips[0]
    overrides = {"resize": "short-side", "size": [64], "multiple": 16}
    corrkit.evaluate("jhmdb", "rgb", clips=[clip.name], protocol=protocol, out=tmp_path / "run", **overrides)
    expected = np.load(tmp_path / f"run/predictions/{clip.name}.npy")
    found = np.stack(list(followed(clip, "rgb", f"jhmdb/{protocol}", **overrides)))
    np.testing.assert_array_equal(found, expected)
    assert np.isfinite(found).mean() > 0.9


def test_features_are_what_propagate_takes(tmp_path: Path):
    clip = DavisTask().open(make_clip(tmp_path, frames=5, size=(64, 80)), split="val", dataset_name="x").clips[0]
    frames = (clip.frames[index] for index in range(5))
    features = corrkit.features(ColourBackbone(), frames, protocol="davis/dino", **SMALL)
    first = next(features)
    assert first.shape == (4, 5, 3)
    labels = torch.nn.functional.one_hot(torch.arange(20).reshape(4, 5) % 3, 3).float()
    rest = list(features)
    assert [one.shape for one in rest] == [(4, 5, 3)] * 4
    assert len(list(corrkit.propagate(torch.stack([first, *rest]), labels))) == 4


def still(count: int) -> list[np.ndarray]:
    """A ground whose every cell is of a colour of its own."""
    rows, columns = np.mgrid[0:64, 0:96] // 16
    picture = np.stack([40 * rows + 20, 30 * columns + 20, 255 - 25 * (rows + columns)], axis=-1).astype(np.uint8)
    return [picture] * count


def box(identity: int, top: int, left: int) -> np.ndarray:
    ids = np.zeros((64, 96), np.uint8)
    ids[top : top + 16, left : left + 16] = identity
    return ids


def tracker(**overrides) -> corrkit.Tracker:
    chosen = {"size": [64], "multiple": 16, "radius": 1, "topk": 1, "temperature": 0.01, **overrides}
    return corrkit.Tracker(ColourBackbone(), protocol="davis/dino", **chosen)


def holds(mask: np.ndarray, identity: int, top: int, left: int) -> bool:
    return bool((mask[top + 6 : top + 10, left + 6 : left + 10] == identity).all())


@pytest.mark.parametrize("classes", ["grid-max", "present"])
@pytest.mark.parametrize("feedback", ["soft", "prediction", "minmax"])
def test_an_object_that_comes_later_is_followed_from_there_on(classes: str, feedback: str):
    stream = tracker(classes=classes, feedback=feedback)
    frames = still(6)
    stream.start(frames[0], box(2, 16, 16))
    assert set(np.unique(stream.step(frames[1]))) == {0, 2}
    found = stream.add(frames[2], box(5, 32, 64))
    for _ in range(3):
        assert holds(found, 2, 16, 16)
        assert holds(found, 5, 32, 64)
        assert set(np.unique(found)) == {0, 2, 5}
        found = stream.step(frames[3])
    with_lower = stream.add(frames[4], box(1, 0, 80))
    assert holds(with_lower, 1, 0, 80)
    assert holds(with_lower, 5, 32, 64)


def test_a_better_mask_of_an_object_takes_the_place_of_the_old_one():
    stream = tracker()
    frames = still(8)
    stream.start(frames[0], box(1, 16, 16) + box(2, 32, 64))
    stream.step(frames[1])
    for found in (stream.add(frames[2], box(1, 0, 48)), stream.step(frames[3]), stream.step(frames[4])):
        assert holds(found, 1, 0, 48)
        assert holds(found, 0, 16, 16)
        assert holds(found, 2, 32, 64)


def test_labels_that_come_later_are_those_that_were_known_before():
    """As `later_labels` that are there from the beginning: of a clip whose channels grow, in the channels there are."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(7, 4, 5, 8, generator=generator)
    first = torch.nn.functional.one_hot(torch.arange(20).reshape(4, 5) % 2, 2).float()
    entering = torch.zeros(4, 5, 3)
    entering[1, 2, 2] = 1
    known = list(corrkit.propagate(features, torch.nn.functional.pad(first, (0, 1)), later_labels={3: entering}))
    grown: dict[int, torch.Tensor] = {}
    found = []
    for soft in corrkit.propagate(features, first, later_labels=grown, ahead=0):
        found.append(soft)
        if len(found) == 2:
            grown[3] = entering
    assert [soft.shape[2] for soft in found] == [2, 2, 3, 3, 3, 3]
    for one, other in zip(found, known, strict=True):
        torch.testing.assert_close(one, other[..., : one.shape[2]], rtol=0, atol=1e-6)


def test_points_that_come_later_and_points_that_are_moved():
    frames = still(6)
    stream = corrkit.Tracker(
        ColourBackbone(), protocol="jhmdb/cropmae", size=[64, 96], radius=2, topk=1, temperature=0.01, peak_cells=1
    )
    stream.start(frames[0], np.array([[24.0, 24.0]]))
    before = stream.step(frames[1])
    found = stream.add(frames[2], np.array([[np.nan, np.nan], [72.0, 40.0]]))
    assert found.shape == (2, 2)
    np.testing.assert_allclose(found[0], before[0])
    moved = stream.add(frames[3], np.array([[56.0, 8.0], [np.nan, np.nan]]))
    np.testing.assert_allclose(moved[1], found[1])
    assert abs(moved[0] - before[0]).max() > 16
    np.testing.assert_allclose(stream.step(frames[4]), moved)
    with pytest.raises(UsageError, match="1 points are given, 2 are followed"):
        stream.add(frames[5], np.array([[24, 24]]))  # whole numbers are points, too


def test_start_begins_anew():
    frames = moving_square(6)
    stream = tracker(size=[48], multiple=16)
    stream.start(frames[0], square_mask())
    stream.step(frames[1])
    stream.start(frames[3], square_mask(3))
    again = stream.step(frames[4])
    alone = tracker(size=[48], multiple=16)
    alone.start(frames[3], square_mask(3))
    np.testing.assert_array_equal(again, alone.step(frames[4]))


def test_memory_does_not_grow_with_the_stream(monkeypatch: pytest.MonkeyPatch):
    """Counted, not timed: frames, features and label maps, also where labels are given again and again."""
    features: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    maps: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()

    def watched(made: weakref.WeakSet[torch.Tensor], function):
        def call(*arguments):
            result = function(*arguments)
            made.add(result)
            return result

        return call

    monkeypatch.setattr("corrkit.propagation.propagator.prepare", watched(features, prepare))
    monkeypatch.setattr("corrkit.propagation.starts.transport", watched(maps, transport))
    stream = tracker(size=[48], context=3)
    frames: list[weakref.ref[np.ndarray]] = []
    counts = []
    stream.start(FRAME, square_mask())
    for index in range(36):
        frame = moving_square(index % 12 + 1)[-1]
        frames.append(weakref.ref(frame))
        if index % 10 == 5:
            stream.add(frame, square_mask(index % 12))
        else:
            stream.step(frame)
        del frame
        if index in (14, 24, 34):
            counts.append((sum(ref() is not None for ref in frames), len(features), len(maps)))
    assert counts[0] == counts[1] == counts[2]
    assert counts[0] <= (0, 3 + 3, 2 * 3 + 2)  # the queue, the two first frames, and the last


class Recurrent(ColourBackbone):
    """Each frame's features are a running mean."""

    mode = Mode(kind="recurrent")

    def encode(self, frames):
        state = None
        for features in super().encode(frames):
            state = features if state is None else 0.5 * (state + features)
            yield state


class ReadsAhead(Recurrent):
    def encode(self, frames):
        yield from super().encode(list(frames))


class Windowed(ColourBackbone):
    mode = Mode(kind="windowed", sees_future=True, length=4, step=4)


def test_a_network_with_a_state_goes_through_the_stream_and_one_that_sees_the_future_can_not(tmp_path: Path):
    root = make_clip(tmp_path / "data", frames=5, size=(64, 80))
    clip = DavisTask().open(root, split="val", dataset_name="x").clips[0]
    corrkit.evaluate("davis", Recurrent(), data=root, dataset_name="x", out=tmp_path / "run", **SMALL)
    for stem, mask in zip(clip.stems, followed(clip, Recurrent(), "davis/dino", **SMALL), strict=True):
        np.testing.assert_array_equal(mask, read_mask(tmp_path / f"run/predictions/walk/{stem}.png"))
    with pytest.raises(UsageError, match="windows of 4 frames, later ones too"):
        next(followed(clip, Windowed(), "davis/dino", **SMALL))
    with pytest.raises(UsageError, match="asks for frames ahead"):
        next(followed(clip, ReadsAhead(), "davis/dino", **SMALL))


@pytest.mark.parametrize(
    ("frame", "labels", "said"),
    [
        (FRAME.astype(float), square_mask(), "uint8 RGB"),
        (FRAME[..., 0], square_mask(), "uint8 RGB"),
        (FRAME, square_mask().T, "64x48.*turned"),
        (FRAME, square_mask()[:40], "The mask is 64x40, the frame 64x48"),
        (FRAME, square_mask() * 0, "is empty"),
        (FRAME, square_mask() * 0 + 255, "is empty"),
        (FRAME, square_mask() * 0 + 3, "No pixel of the mask has id 0"),
        (FRAME, square_mask().astype(int) * 300, "ids from 0 to 300"),
        (FRAME, square_mask().astype(float), "float64 of shape"),
        (FRAME, np.array([[1.0, np.nan]]), "0 of 1 points"),
        (FRAME, np.empty((0, 2)), "0 of 0 points"),
    ],
)
def test_frames_and_labels_of_another_form_are_refused(frame, labels, said: str):
    with pytest.raises(UsageError, match=said):
        corrkit.Tracker(ColourBackbone(), **SMALL).start(frame, labels)


def test_what_does_not_fit_a_stream_is_refused_and_the_stream_goes_on():
    stream = tracker(size=[48], multiple=16)
    with pytest.raises(UsageError, match="start"):
        stream.step(FRAME)
    stream.start(FRAME, square_mask())
    with pytest.raises(UsageError, match="Frame 1 is 64x40, the first was 64x48"):
        stream.step(FRAME[:40])
    with pytest.raises(UsageError, match="can't be mixed"):
        stream.add(FRAME, np.array([[1.0, 2.0]]))
    assert stream.step(FRAME).shape == (48, 64)


def test_protocols_that_do_not_fit_are_refused():
    with pytest.raises(ProtocolError, match="carries points, not masks"):
        corrkit.Tracker(ColourBackbone(), protocol="jhmdb/cropmae").start(FRAME, square_mask())
    with pytest.raises(ProtocolError, match="carries masks, not points"):
        corrkit.Tracker(ColourBackbone(), protocol="davis/dino").start(FRAME, np.array([[1.0, 2.0]]))
    with pytest.raises(ProtocolError, match="stored_size"):
        corrkit.Tracker(ColourBackbone(), protocol="davis/cropmae")
    with pytest.raises(ProtocolError, match="no protocol 'dyno'"):
        corrkit.Tracker(ColourBackbone(), protocol="davis/dyno")
    with pytest.raises(UsageError, match="no features"):
        corrkit.Tracker("identity")


def test_what_no_cell_holds_is_noted():
    stream = tracker(size=[48], multiple=16)
    mask = square_mask()
    mask[0, 60] = 2
    stream.start(FRAME, mask)
    assert [detail for _, detail in stream.notes] == ["id 2"]


class NaNInTheLight(ColourBackbone):
    def encode(self, frames):
        for features in super().encode(frames):
            yield features * (float("nan") if features.mean() > 0 else 1)


def test_an_error_within_ends_the_stream_and_says_so():
    stream = corrkit.Tracker(NaNInTheLight(), protocol="davis/dino", size=[48], multiple=16)
    stream.start(FRAME * 0, square_mask())
    with pytest.raises(CorrkitError, match="features of frame 1 are NaN"):
        stream.step(FRAME * 0 + 255)
    with pytest.raises(UsageError, match="Call start"):
        stream.step(FRAME * 0)


def test_void_is_background_and_labels_may_be_of_any_whole_numbers():
    void = square_mask().astype(np.int64)
    void[0] = 255
    stream = tracker(size=[48], multiple=16)
    first = stream.start(FRAME, void)
    np.testing.assert_array_equal(first, square_mask())
    assert first.dtype == np.uint8
    assert set(np.unique(stream.start(FRAME, square_mask() > 0))) == {0, 1}
