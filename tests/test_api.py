"""The exported names: what other people's code may rest on."""

import importlib
from pathlib import Path

import pytest

import corrkit

PAGE = Path(__file__).resolve().parent.parent / "docs" / "python.md"
FUNCTIONS = ("evaluate", "features", "leaderboard", "load_backbone", "propagate", "score", "sweep", "wrap")
CLASSES = ("CorrkitError", "Evaluator", "Tracker")


def test_the_exported_names_are_these():
    """A name that goes or comes is a change for everybody: it stands here, in docs/python.md and in the changelog."""
    assert sorted(corrkit.__all__) == sorted(("__version__", *FUNCTIONS, *CLASSES))
    assert dir(corrkit) == sorted(corrkit.__all__)


@pytest.mark.parametrize("name", [*FUNCTIONS, *CLASSES])
def test_an_exported_name_is_there_and_described(name: str):
    found = getattr(corrkit, name)
    assert callable(found)
    assert isinstance(found, type) == (name in CLASSES)
    assert found.__doc__
    assert f"{name}" in PAGE.read_text(encoding="utf-8")


def test_another_name_is_no_attribute():
    with pytest.raises(AttributeError, match="no attribute 'evaluat'"):
        _ = corrkit.evaluat


@pytest.mark.parametrize("room", ["callbacks", "clips", "backbones"])
def test_a_room_that_imports_late_names_what_it_has(room: str):
    module = importlib.import_module(f"corrkit.{room}")
    with pytest.raises(AttributeError, match="no attribute"):
        _ = module.nothing_of_that_name
