"""The study of protocols: every constant belongs to a factor, and the small copy is the same data, smaller."""

import importlib
from types import ModuleType

import numpy as np
import pytest
from davis_folder import make_clips

from corrkit.protocols import load_protocol, protocol_names
from corrkit.protocols.reader import constants
from corrkit.subject import open_subject


@pytest.fixture(scope="module")
def study() -> ModuleType:
    return importlib.import_module("protocol_sensitivity")


def test_factors_together_are_the_other_protocol(study):
    steps = [*study.steps(["factors", "protocols"])]
    assert steps[0].name == "dino"
    assert {step.name for step in steps if step.section == "protocols"} == set(protocol_names("davis"))
    for target in study.TARGETS:
        of_target = [step for step in steps if step.section == f"dino to {target}"]
        changed = [dict(step.protocol.overrides) for step in of_target]
        *single, whole = changed
        assert whole == {name: value for one in single for name, value in one.items()}
        assert constants(of_target[-1].protocol) == constants(load_protocol(target, "davis"))


def test_a_scaled_protocol_on_a_scaled_copy_keeps_the_grid(study, tmp_path):
    subject = open_subject("davis", data=make_clips(tmp_path / "data", size=(64, 96)))
    root = study.small_copy(subject, tmp_path, 0.5, 3)
    small = open_subject("davis", data=root)
    assert [clip.name for clip in small.clips] == ["a", "b", "c"]
    for whole, half in zip(subject.clips, small.clips, strict=True):
        assert len(half.frames) == 3
        assert half.frames.size == (32, 48)
        np.testing.assert_array_equal(half.annotation(1), whole.annotation(1)[1::2, 1::2])
    scaled = study.scaled(load_protocol("davis/cropmae"), 0.5)
    assert (scaled.frames.size, scaled.frames.stored_size, scaled.affinity.radius) == ((240, 440), (240, 440), 10)
    assert study.scaled(load_protocol("davis/mast"), 1).features.colour == "published"
