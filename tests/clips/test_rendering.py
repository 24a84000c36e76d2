"""Rendered clips: the same every time, and exact by their geometry."""

import math
from random import Random

import numpy as np
import pytest

from corrkit.clips import EVALUATION_SEEDS, TRAINING_SEEDS, drawing, figure, render, scenes
from corrkit.clips.cutouts import Cutout, ellipse, polygon
from corrkit.clips.drawing import Affine, Layer, Light, Scene, placed
from corrkit.clips.motion import Wave
from corrkit.clips.surfaces import PATTERNS, halved, mirrored, noise, pattern
from corrkit.errors import UsageError

TASKS = ("davis", "vip", "jhmdb")


def still(value: float = 1.0) -> Light:
    return Light(gain=lambda moment: value, depth=0.0, rate=(0.0, 0.0, 0.0), phase=0.0)


def staged(*layers: Layer, size=(40, 60), num_frames=3, camera=lambda moment: Affine(1, 0, 0, 0, 1, 0)) -> Scene:
    surface = np.full((*size, 3), 90, np.uint8)
    back = Layer(surface=surface, mask=np.ones(size, bool), label=0, pose=lambda moment: Affine(1, 0, 0, 0, 1, 0))
    return Scene(size=size, num_frames=num_frames, layers=(back, *layers), camera=camera, light=still(), grain=0)


def square(side: int, label: int, pose, colour=(200, 10, 30)) -> Layer:
    surface = np.full((side, side, 3), colour, np.uint8)
    return Layer(surface=surface, mask=np.ones((side, side), bool), label=label, pose=pose)


@pytest.mark.parametrize("task", TASKS)
def test_equal_seeds_give_equal_bytes_and_others_do_not(task):
    first, again, other = render(task, 1000), render(task, 1000), render(task, 1001)
    assert first.frames.tobytes() == again.frames.tobytes()
    assert first.labels.tobytes() == again.labels.tobytes()
    assert first.frames.tobytes() != other.frames.tobytes()
    if task == "jhmdb":
        assert first.joints.tobytes() == again.joints.tobytes()


@pytest.mark.parametrize("task", TASKS)
def test_embedded_clips_have_the_promised_size_and_length(task):
    assert len(EVALUATION_SEEDS[task]) >= 6
    clip = render(task, EVALUATION_SEEDS[task][0])
    assert clip.frames.shape[1:] == (240, 320 if task == "jhmdb" else 426, 3)
    assert 8 <= len(clip.frames) <= 10
    assert clip.labels.shape == clip.frames.shape[:3]
    assert (clip.joints is None) == (task != "jhmdb")


@pytest.mark.parametrize("task", TASKS)
def test_first_frame_shows_every_id(task):
    for seed in EVALUATION_SEEDS[task]:
        found = scenes.scene(task, seed)
        labelled = {layer.label for layer in found.layers} - {0}
        assert labelled <= set(np.unique(drawing.label_map(found, 0)))
        assert labelled == (set(range(1, len(labelled) + 1)) if task == "davis" else set(range(1, 20)))
        if task == "davis":
            assert 2 <= len(labelled) <= 4


def test_embedded_davis_clips_show_occlusion_and_motion():
    """In every clip some object hides a fifth of another one, and the first labels are soon wrong."""
    for seed in EVALUATION_SEEDS["davis"]:
        found = scenes.scene("davis", seed)
        hidden = 0.0
        for t in range(found.num_frames):
            labels = drawing.label_map(found, t)
            for layer in found.layers[1:]:
                alone = Scene(
                    size=found.size,
                    num_frames=1,
                    layers=(found.layers[0], layer),
                    camera=found.camera,
                    light=found.light,
                )
                area = np.count_nonzero(drawing.label_map(alone, t))
                if layer.label and area:
                    hidden = max(hidden, 1 - np.count_nonzero(labels == layer.label) / area)
        assert hidden > 0.2
        first, last = drawing.label_map(found, 0), drawing.label_map(found, found.num_frames - 1)
        assert np.mean(first[first > 0] == last[first > 0]) < 0.6


def test_training_seeds_are_none_of_the_evaluation_seeds():
    for task, seeds in EVALUATION_SEEDS.items():
        assert all(seed not in TRAINING_SEEDS for seed in seeds)
        with pytest.raises(UsageError, match="no rendered"):
            render(task, max(seeds) + 1)  # neither


def test_unknown_tasks_and_empty_clips_are_refused():
    with pytest.raises(UsageError, match="davvis"):
        render("davvis", 0)
    with pytest.raises(UsageError, match="0 frames"):
        render("davis", 0, num_frames=0)


def test_longer_clips_continue_the_motion():
    short, long = render("vip", 1000, num_frames=2), render("vip", 1000, num_frames=3)
    assert np.array_equal(short.labels, long.labels[:2])
    assert np.array_equal(short.frames, long.frames[:2])


def test_a_static_scene_has_constant_labels_and_frames():
    scene = staged(square(10, 3, lambda moment: Affine(1, 0, 20, 0, 1, 15)))
    frames, labels = drawing.draw(scene, Random(0))
    expected = np.zeros((40, 60), np.uint8)
    expected[15:25, 20:30] = 3
    assert all(np.array_equal(frame_labels, expected) for frame_labels in labels)
    assert np.array_equal(frames[0], frames[2])
    assert (frames[0][expected == 3][:, 0] > 90).all()


def test_labels_follow_a_shift_to_the_pixel():
    scene = staged(square(8, 1, lambda moment: Affine(1, 0, 10 + 5 * moment, 0, 1, 12 - 2 * moment)))
    first, second = drawing.label_map(scene, 0), drawing.label_map(scene, 1)
    assert np.array_equal(second, np.roll(first, (-2, 5), (0, 1)))


def test_the_camera_moves_labels_as_it_moves_the_picture():
    scene = staged(
        square(8, 1, lambda moment: Affine(1, 0, 10, 0, 1, 12)), camera=lambda moment: Affine(1, 0, 4 * moment, 0, 1, 0)
    )
    assert np.array_equal(drawing.label_map(scene, 2), np.roll(drawing.label_map(scene, 0), 8, 1))


def test_front_layers_hide_those_behind_and_unlabelled_ones_hide_too():
    behind = square(10, 1, lambda moment: Affine(1, 0, 10, 0, 1, 10))
    front = square(10, 2, lambda moment: Affine(1, 0, 15, 0, 1, 10))
    stranger = square(4, 0, lambda moment: Affine(1, 0, 18, 0, 1, 12))
    labels = drawing.label_map(staged(behind, front, stranger), 0)
    assert np.count_nonzero(labels == 1) == 50
    assert np.count_nonzero(labels == 2) == 100 - 16
    assert (labels[12:16, 18:22] == 0).all()


def test_a_quarter_turn_about_the_centre_is_exact():
    mask = np.zeros((9, 9), bool)
    mask[:, 4] = True  # an upright bar
    layer = Layer(
        surface=np.zeros((9, 9, 3), np.uint8),
        mask=mask,
        label=1,
        pose=lambda moment: placed(30, 20, angle=moment * math.pi / 2, centre=(4, 4)),
    )
    scene = staged(layer)
    upright, lying = drawing.label_map(scene, 0), drawing.label_map(scene, 1)
    assert np.argwhere(upright).tolist() == [[y, 30] for y in range(16, 25)]
    assert np.argwhere(lying).tolist() == [[20, x] for x in range(26, 35)]


def test_motion_blur_mixes_where_an_edge_passes_during_the_exposure():
    scene = staged(square(10, 1, lambda moment: Affine(1, 0, 20 + 8 * moment, 0, 1, 15), colour=(250, 250, 250)))
    frames, labels = drawing.draw(scene, Random(0))
    row = frames[1, 20, :, 0].astype(int)
    assert set(row[labels[1, 20] == 1]) - {250}  # parts of the object show the background
    assert row[35 - 2] == 250
    assert row[5] == 90


def test_light_scales_colours_and_leaves_labels_alone():
    layer = square(10, 1, lambda moment: Affine(1, 0, 20, 0, 1, 15))
    bright = staged(layer)
    dim = Scene(size=bright.size, num_frames=1, layers=bright.layers, camera=bright.camera, light=still(0.5), grain=0)
    frames, labels = drawing.draw(dim, Random(0))
    assert frames[0, 0, 0, 0] == 45
    assert np.array_equal(labels[0], drawing.label_map(bright, 0))


def test_affine_maps_compose_and_invert():
    pose = placed(7.0, -3.0, angle=0.4, scale=1.7, centre=(2.0, 5.0))
    assert pose(2.0, 5.0) == pytest.approx((7.0, -3.0))
    assert pose.inverse().after(pose)(11.0, 13.0) == pytest.approx((11.0, 13.0))


@pytest.mark.parametrize("seed", [0, 3, 1000, 1007])
def test_joints_lie_on_the_figure(seed):
    """Each joint's pixel belongs to a part next to that joint, or to a part drawn in front of it."""
    found = scenes.scene("jhmdb", seed)
    positions = drawing.joint_positions(found)
    near = {
        "neck": {12, 10, 13, 4}, "belly": {4, 5, 6, 12}, "head": {13, 3, 2},
        "right_shoulder": {6}, "left_shoulder": {6}, "right_hip": {5, 6, 8, 11}, "left_hip": {5, 6, 8, 11},
        "right_elbow": {6, 14}, "left_elbow": {6, 15}, "right_knee": {8, 16}, "left_knee": {8, 17},
        "right_wrist": {14, 9}, "left_wrist": {15, 9}, "right_ankle": {7, 18}, "left_ankle": {7, 19},
    }  # fmt: skip
    in_front = {14, 15, 6, 9, 10, 11, 5, 8, 18, 19, 16, 17, 7}
    on_own_part = 0
    for t in range(found.num_frames):
        labels = drawing.label_map(found, t)
        for name, (x, y) in zip(figure.JOINTS, positions[t], strict=True):
            if not (0 <= round(x) < labels.shape[1] and 0 <= round(y) < labels.shape[0]):
                continue
            label = int(labels[round(y), round(x)])
            assert label in near[name] | in_front, (t, name, label)
            on_own_part += label in near[name]
    assert on_own_part > 0.8 * found.num_frames * len(figure.JOINTS)


def test_joints_are_in_jhmdb_order_and_sides():
    found = scenes.scene("jhmdb", 0)
    neck, belly, head, *pairs = drawing.joint_positions(found)[0]
    assert head[1] < neck[1] < belly[1]
    for right, left in zip(pairs[:4:2], pairs[1:4:2], strict=True):  # shoulders and hips: the right ones on the left
        assert right[0] < left[0]


def test_bones_keep_their_lengths_while_the_height_is_fixed():
    dice = Random(5)
    motion = figure.moving(dice, x=Wave(100, 3), y=Wave(100), height=Wave(200))
    bones = (("right_knee", "right_ankle"), ("left_shoulder", "left_elbow"), ("neck", "head"), ("belly", "neck"))
    for start, end in bones:
        lengths = {
            round(math.dist(points[start], points[end]), 9)
            for points in (figure.skeleton(motion, moment) for moment in (0, 1.5, 4))
        }
        assert len(lengths) == 1


def test_polygon_and_ellipse_cover_their_area():
    assert polygon(((2, 2), (12, 2), (12, 7), (2, 7)), 20, 20).sum() == 50
    assert ellipse(100, 100, 50, 50, 40, 20).sum() == pytest.approx(math.pi * 800, rel=0.01)


def test_cutouts_know_their_centre_and_extent():
    mask = np.zeros((10, 10), bool)
    mask[2:6, 4:8] = True
    cutout = Cutout(np.zeros((10, 10, 3), np.uint8), mask)
    assert cutout.centre == (5.5, 3.5)
    assert cutout.extent == 4


@pytest.mark.parametrize("kind", PATTERNS)
def test_patterns_are_textured_and_coloured(kind):
    image = pattern(Random(1), kind, 40, 50, (200, 40, 40), (40, 40, 200))
    assert image.shape == (40, 50, 3)
    assert image.std() > 5


def test_noise_fills_the_unit_interval():
    values = noise(Random(0), 100, 120)
    assert 0 <= values.min() < 0.4 < 0.6 < values.max() <= 1


def test_halved_rounds_block_means_and_mirrored_reflects():
    blocks = np.array([[0, 1], [1, 1]], np.uint8)[..., None]  # mean 0.75
    assert halved(blocks).item() == 1
    row = np.arange(3, dtype=np.uint8).reshape(1, 3, 1)
    assert mirrored(row, 1, 6).ravel().tolist() == [0, 1, 2, 2, 1, 0]
