"""Protocols as data: every file is complete and sourced, every override is checked."""

import dataclasses

import pytest

from corrkit.errors import ProtocolError, UsageError
from corrkit.protocols import field_names, load_protocol, override, parse_protocol, protocol_names
from corrkit.protocols.reader import _read_toml
from corrkit.protocols.schema import groups_of
from corrkit.task_table import task_facts, task_names

ALL = [(task, name) for task in task_names() for name in protocol_names(task)]


@pytest.mark.parametrize(("task", "name"), ALL)
def test_every_protocol_is_complete_and_each_constant_names_its_source(task: str, name: str):
    protocol = load_protocol(name, task)
    assert set(protocol.sources) == set(field_names(task).values())
    assert all(len(source) > 10 for source in protocol.sources.values())
    assert protocol.summary
    assert protocol.proven
    assert protocol.quirks


def test_defaults_exist_for_every_task():
    defaults = {task: task_facts(task).default_protocol for task in task_names()}
    assert defaults == {"davis": "dino", "vip": "cropmae", "jhmdb": "cropmae"}
    for task, name in defaults.items():
        assert load_protocol(name, task).identifier.startswith(f"{task}/{name}@")


@pytest.mark.parametrize("task", task_names())
def test_leaf_names_are_unique_over_groups(task: str):
    leaves = [field.name for cls in groups_of(task).values() for field in dataclasses.fields(cls)]
    assert len(leaves) == len(set(leaves))


def test_the_default_davis_protocol_is_dinos():
    protocol = load_protocol("davis/dino")
    assert (protocol.memory.context, protocol.affinity.topk, protocol.affinity.radius) == (7, 5, 12.0)
    assert protocol.features.std == (0.228, 0.224, 0.225)


@pytest.mark.parametrize("name", ["radius", "affinity.radius"])
def test_bare_and_dotted_names_override_the_same_constant(name: str):
    changed = override(load_protocol("davis/dino"), {name: "3"})
    assert changed.affinity.radius == 3.0
    assert dict(changed.overrides) == {"affinity.radius": 3.0}
    assert load_protocol("davis/dino").affinity.radius == 12.0


def test_a_value_equal_to_the_published_one_is_no_override():
    assert dict(override(load_protocol("davis/dino"), {"radius": 12, "std": [0.228, 0.224, 0.225]}).overrides) == {}


def test_going_back_to_the_published_value_takes_the_mark_off():
    changed = override(load_protocol("davis/dino"), {"radius": 6})
    assert dict(override(changed, {"radius": 12}).overrides) == {}


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("[480]", "size", (480,)),
        ("480", "size", (480,)),
        ("[]", "std", ()),
        ("false", "l2", False),
        ("exact", "ties", "exact"),
        ("0.07", "temperature", 0.07),
    ],
)
def test_text_of_the_command_line_becomes_the_fields_type(text: str, field: str, value: object):
    changed = override(load_protocol("davis/dino"), {field: text})
    group = field_names("davis")[field].split(".")[0]
    assert getattr(getattr(changed, group), field) == value


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"topk": 0}, "at least 1"),
        ({"topk": "five"}, "not of type int"),
        ({"topk": 2.5}, "not of type int"),
        ({"topk": True}, "not of type int"),
        ({"temperature": 0}, "greater than 0"),
        ({"temperature": float("nan")}, "finite"),
        ({"size": [480, 832]}, "frames.size"),
        ({"size": []}, "frames.size"),
        ({"radius": -1}, "at least 0"),
        ({"ties": "some"}, "Choose one of: keep, exact"),
        ({"l2": "maybe"}, "true or false"),
        ({"size": 480}, "not a list"),
        ({"affinity.temperatur": 1}, "Did you mean 'temperature'"),
    ],
)
def test_wrong_values_are_explained(changes: dict, words: str):
    with pytest.raises(ProtocolError, match=words):
        override(load_protocol("davis/dino"), changes)


def test_unknown_names_get_the_nearest_match():
    with pytest.raises(ProtocolError, match="Did you mean 'dino'"):
        load_protocol("davis/dimo")
    with pytest.raises(UsageError, match="Known: davis, jhmdb, vip"):
        protocol_names("davs")
    with pytest.raises(ProtocolError, match="for which task"):
        load_protocol("dino")


def test_files_with_missing_unknown_or_unsourced_entries_are_refused():
    document = _read_toml("davis", "dino")
    for change, words in (
        (lambda d: d["affinity"].pop("topk"), "lacks topk"),
        (lambda d: d["affinity"].update(tpok={"value": 1, "source": "x"}), "unknown tpok"),
        (lambda d: d["affinity"].update(topk=5), "source"),
        (lambda d: d["affinity"].update(topk={"value": 5, "source": ""}), "source"),
        (lambda d: d["affinity"].update(topk={"value": "5", "source": "x"}), "not of type int"),
        (lambda d: d.pop("version"), "lacks version"),
    ):
        broken = {key: dict(value) if isinstance(value, dict) else value for key, value in document.items()}
        change(broken)
        with pytest.raises(ProtocolError, match=words):
            parse_protocol(broken, "davis", "dino")
