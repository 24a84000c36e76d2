"""Any constants of a protocol with any backbone: a result, or a sentence; never an error of corrkit's own."""

import random
import typing
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import davis_folder
import jhmdb_folder
import pytest
import vip_folder

import corrkit
from corrkit.errors import CorrkitError
from corrkit.predictors.contract import Predictor
from corrkit.predictors.loading import make_predictor
from corrkit.protocols import load_protocol
from corrkit.protocols.schema import groups_of

MAKERS = {
    "davis": lambda root: davis_folder.make_clip(root, "good", frames=4, size=(48, 64)),
    "vip": lambda root: vip_folder.make_clip(root, "good", frames=4, size=(48, 64)),
    "jhmdb": lambda root: jhmdb_folder.make_clip(root, "good_jump_0", frames=4),
}
PROTOCOLS = {
    "davis": ("dino", "crw", "vfs", "rvm", "dinov3-S", "mast"),
    "vip": ("cropmae", "crw"),
    "jhmdb": ("cropmae", "crw", "uvc"),
}
ONE_SIDE, TWO_SIDES = ([60], [52], [64], [17]), ([48, 64], [44, 60], [16, 200])
"""Of the network's input: multiples of a patch and others."""
NO_SIDES: tuple[list[int], ...] = ([], [1], [3, 3, 3], [0])
MOST, LARGE = (1 << 31) - 1, 10**30
CHOICES: Mapping[str, tuple[object, ...]] = {
    "size": (*ONE_SIDE, *TWO_SIDES, *NO_SIDES),
    "stored_size": ([], [40, 52], [48, 64], [30]),
    "multiple": (0, 1, 8, 16, 64, MOST, LARGE),
    "std": ([], [0.2, 0.2, 0.2], [1.0]),
    "group_weights": ([], [1.0], [1.0, 2.0], [1.0] * 7),
    "layers": (1, 2, MOST, LARGE),
    "window": (0, 2, MOST, LARGE),
    "finer": (1, 2, 3, MOST, LARGE),
    "context": (0, 1, 7, MOST, LARGE),
    "spacing": (1, 3, MOST, LARGE),
    "long_term": ([0], [], [0, 2], [MOST], [LARGE]),
    "radius": (0.0, 1.0, 2.5, 2e9, 1e300),
    "topk": (0, 1, 5, 300, MOST, LARGE),
    "temperature": (0.07, 1e-300, 1e300),
    "sigma": (0.5, 1e-9, 1e9),
    "peak_cells": (1, 5, MOST, LARGE),
}
BACKBONES = ("rgb", "hog", "demo", "random:vit_tiny_patch16_224")


def choices(hint: object, name: str) -> tuple[object, ...]:
    return CHOICES[name] if name in CHOICES else (True, False) if hint is bool else typing.get_args(hint)


def drawn(task: str, protocol: str, draw: random.Random) -> dict[str, object]:
    """Some constants of a protocol, each changed to any of its values, seldom to one beyond all sense."""
    every = {
        field.name: choices(typing.get_type_hints(group)[field.name], field.name)
        for group in groups_of(task).values()
        for field in fields(group)
    }
    chosen = draw.sample(sorted(every), draw.choice((1, 2, 2, 3, 5)))
    resize = load_protocol(protocol, task).frames.resize
    sides = {"exact": TWO_SIDES, "native": ([],)}.get(resize, ONE_SIDE)
    return {"size": draw.choice(sides), **{name: value(every[name], draw) for name in chosen}}


def value(values: tuple[object, ...], draw: random.Random) -> object:
    """One of them; of those beyond all sense one in five times."""
    sound = [one for one in values if not {MOST, LARGE} & set(one if isinstance(one, list) else [one])]
    return draw.choice(values if draw.random() < 0.2 else sound)


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    place = tmp_path_factory.mktemp("combinations")
    for task, make in MAKERS.items():
        make(place / task)
    return {task: place / task for task in MAKERS}


def outcome(task: str, predictor: Predictor, root: Path, protocol: str, constants: Mapping[str, Any]) -> str:
    """Whether there is a result, or which sentence stands for it; whatever else is raised is a fault."""
    try:
        result = corrkit.evaluate(task, predictor, data=root, protocol=protocol, dataset_name="x", **constants)
    except CorrkitError as error:
        return f"refused: {error}"
    return next((f"failed: {error}" for error in result.failures.values()), "scored")


def check(roots: Mapping[str, Path], count: int, seed: int, backbones: tuple[str, ...] = BACKBONES) -> Counter[str]:
    draw, counts = random.Random(seed), Counter[str]()
    made = {spec: make_predictor(spec) for spec in backbones}
    for number in range(count):
        task, spec = draw.choice(sorted(MAKERS)), draw.choice(backbones)
        protocol = draw.choice(PROTOCOLS[task])
        constants = drawn(task, protocol, draw)
        try:
            counts[outcome(task, made[spec], roots[task], protocol, constants).partition(":")[0]] += 1
        except Exception as error:
            error.add_note(f"{seed=} {number=}: {task} {spec} --protocol {protocol} {constants}")
            raise
    return counts


@pytest.mark.parametrize("spec", ["rgb", "hog"])
@pytest.mark.parametrize(("protocol", "sides"), [("rvm", [44, 60]), ("dino", [17])])
def test_what_a_crop_leaves_over_is_dropped(spec: str, protocol: str, sides: list[int], roots: Mapping[str, Path]):
    """As the patch projection of a network drops it; these sides are no multiples of the cells' eight pixels."""
    constants = {"size": sides, "multiple": 1, "indivisible": "crop"}
    assert outcome("davis", make_predictor(spec), roots["davis"], protocol, constants) == "scored"


BEYOND = [
    ("context", MOST + 1),
    ("context", LARGE),
    ("topk", LARGE),
    ("spacing", LARGE),
    ("finer", LARGE),
    ("radius", 1e300),
]


@pytest.mark.parametrize(("name", "value"), BEYOND)
def test_constants_that_would_wrap_around_are_refused(name: str, value: object, roots: Mapping[str, Path]):
    said = outcome("davis", make_predictor("rgb"), roots["davis"], "dino", {"size": [17], name: value})
    assert said.startswith("refused: ")
    assert "at most 2147483647" in said


@pytest.mark.parametrize("name", ["context", "topk", "spacing", "finer", "layers", "window", "peak_cells"])
def test_the_largest_constants_end_in_time(name: str, roots: Mapping[str, Path]):
    task = "jhmdb" if name == "peak_cells" else "davis"
    size = [48, 64] if task == "jhmdb" else [17]
    protocol = "cropmae" if task == "jhmdb" else "crw"
    outcome(task, make_predictor("rgb"), roots[task], protocol, {"size": size, "resize": "exact", name: MOST})


def test_any_constants_are_scored_or_refused(roots: Mapping[str, Path]):
    counts = check(roots, 40, seed=0, backbones=("rgb", "hog"))
    assert counts["scored"] > 10
    assert counts["refused"] > 5


@pytest.mark.slow
def test_any_constants_with_any_network_are_scored_or_refused(roots: Mapping[str, Path]):
    counts = check(roots, 1_000, seed=1)
    assert counts["scored"] > 300
