"""Protocols as data: every file is complete and sourced, every override is checked."""

import dataclasses
import runpy
import sys
from pathlib import Path

import davis_folder
import hypothesis
import jhmdb_folder
import numpy as np
import pytest
import torch
import vip_folder
from hypothesis import strategies as st
from patch_backbone import PatchBackbone

import corrkit
from corrkit.errors import ProtocolError, RunError, UsageError
from corrkit.protocols import field_names, load_protocol, override, parse_protocol, protocol_names
from corrkit.protocols.explaining import bibtex, differences, explanations
from corrkit.protocols.reader import _read_toml
from corrkit.protocols.schema import groups_of
from corrkit.task_table import task_facts, task_names
from corrkit.tasks.contract import Geometry
from corrkit.tasks.jhmdb_points import PointCodec
from corrkit.tasks.masks import MaskCodec

ALL = [(task, name) for task in task_names() for name in protocol_names(task)]


@pytest.mark.parametrize(("task", "name"), ALL)
def test_every_protocol_is_complete_and_each_constant_names_its_source(task: str, name: str):
    protocol = load_protocol(name, task)
    assert set(protocol.sources) == set(field_names(task).values())
    assert all(len(source) > 10 for source in protocol.sources.values())
    assert protocol.summary
    assert "\n" not in protocol.summary
    assert protocol.proven
    assert protocol.digest == ""
    assert protocol.quirks


def test_defaults_exist_for_every_task():
    defaults = {task: task_facts(task).default_protocol for task in task_names()}
    assert defaults == {"davis": "dino", "vip": "cropmae", "jhmdb": "cropmae"}
    for task, name in defaults.items():
        assert load_protocol(name, task).identifier.startswith(f"{task}/{name}@")


@pytest.mark.parametrize(("task", "name"), ALL)
def test_a_protocol_is_named_as_tables_print_it(task: str, name: str):
    protocol = load_protocol(name, task)
    assert load_protocol(protocol.identifier) == load_protocol(protocol.identifier.split("/")[1], task) == protocol


@pytest.mark.parametrize("name", ["davis/dino@2", "davis/dino@", "davis/dino@1+0f3a9c21", "davis/dino@1@1"])
def test_another_version_of_a_protocol_is_refused(name: str):
    with pytest.raises(ProtocolError, match=r"of davis/dino was asked for; here it is davis/dino@1"):
        load_protocol(name)


def test_a_protocol_of_ones_own_extends_a_version(tmp_path: Path):
    own = tmp_path / "mine.toml"
    own.write_text('task = "davis"\nextends = "dino@1"\n[affinity]\nradius = 5.0\n')
    mine = load_protocol(str(own))
    assert mine.affinity.radius == 5.0
    own.write_text('task = "davis"\nextends = "dino@7"\n')
    with pytest.raises(ProtocolError, match="Version '7' of davis/dino is extended; here it is version 1"):
        load_protocol(str(own))


def test_a_protocol_of_ones_own_extends_none_of_another_folder(tmp_path: Path):
    """TASK/NAME with a path for its task would read a file beside the one that was given."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other/x.toml").write_text('extends = "dino"\n')
    own = tmp_path / "own.toml"
    for parent in ("../../x", "other/x", f"{tmp_path}/other/x", "./x"):
        own.write_text(f'task = "davis"\nextends = "{parent}"\n')
        with pytest.raises(ProtocolError, match="is no task"):
            load_protocol(str(own), "davis")


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
        ({"topk": -1}, "at least 0"),
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


@pytest.mark.parametrize("task", task_names())
def test_each_constant_has_a_sentence(task: str):
    sentences = explanations(task)
    assert set(sentences) == set(field_names(task).values())
    assert all(len(sentence) > 10 for sentence in sentences.values())


@pytest.mark.parametrize(("task", "name"), ALL)
def test_what_is_not_public_or_not_proven_says_so(task: str, name: str):
    protocol = load_protocol(name, task)
    if any(source.startswith("unverified") for source in protocol.sources.values()):
        assert protocol.unreleased or "source text alone" in protocol.proven


@pytest.mark.parametrize("task", task_names())
def test_no_code_knows_the_name_of_a_protocol(task: str):
    """Constants decide; the default's name is the reader's alone."""
    import ast

    names = {name for name in protocol_names(task) if name not in ("corrkit", task)}
    root = Path(corrkit.__file__).parent
    for room in ("protocols", "propagation", "tasks", "frames", "metrics"):
        for path in (root / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                compared = isinstance(node, ast.Compare | ast.MatchValue)
                constants = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)] if compared else []
                # "dino" also names a position rule, which features.position holds.
                assert not names & set(constants) - {"dino"}, (path, ast.unparse(node))


def test_differences_are_shown_side_by_side():
    rows = differences([load_protocol("davis/dino"), load_protocol("davis/rsp"), load_protocol("jhmdb/crw")])
    assert rows["affinity.topk"] == [5, 7, 10]
    assert rows["frames.stored_size"] == [[], [480, 880], None]
    assert "memory.long_term" not in rows
    assert differences([load_protocol("davis/cropmae")] * 2) == {}


def test_bibtex_names_work_and_protocol():
    entry = bibtex(load_protocol("davis/cropmae"))
    assert entry.startswith("@inproceedings{eymael2024,")
    assert "davis/cropmae@1" in entry
    assert bibtex(load_protocol("davis/corrkit")) == ""


def test_the_page_of_protocols_is_up_to_date():
    page = Path(__file__).parents[2] / "docs/protocols.md"
    namespace = runpy.run_path(str(page.with_name("protocols_table.py")))
    assert namespace["updated"](page.read_text(encoding="utf-8")) == page.read_text(encoding="utf-8")


# --- one's own --------------------------------------------------------------------------------------------------------


OWN = """
task = "davis"
extends = "cropmae"
[affinity]
radius = 12
topk = { value = 5, source = "our paper, table 3" }
"""


def own_file(folder: Path, text: str = OWN, name: str = "mine.toml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_a_file_of_ones_own_is_marked_with_its_digest(tmp_path: Path):
    protocol = load_protocol(own_file(tmp_path))
    assert protocol.identifier == f"davis/mine@1+{protocol.digest}"
    assert len(protocol.digest) == 8
    assert (protocol.affinity.radius, protocol.affinity.topk, protocol.affinity.temperature) == (12.0, 5, 0.7)
    assert protocol.sources["affinity.radius"] == "own: mine.toml"
    assert protocol.sources["affinity.topk"] == "our paper, table 3"
    assert "nothing" in protocol.proven
    changed = load_protocol(own_file(tmp_path, OWN.replace("12", "13")))
    assert changed.digest != protocol.digest
    assert load_protocol(own_file(tmp_path, OWN.replace("our paper, table 3", "x"))).digest == protocol.digest
    assert dict(override(override(protocol, {"radius": 6}), {"radius": 12}).overrides) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "lacks|for no named task"),
        ("[affinity", "TOML"),
        (OWN.replace("davis", "jhmdb"), "is for jhmdb"),
        (OWN.replace("davis", "cars"), "is for cars"),
        (OWN.replace("cropmae", "cropme"), "Did you mean 'cropmae'"),
        (OWN.replace('"cropmae"', '""'), "no protocol '' for davis"),
        (OWN.replace('"cropmae"', "[1]"), "to extend"),
        (OWN.replace("radius = 12", 'radius = "far"'), "mine.toml affinity.radius"),
        (OWN.replace("radius = 12", "raduis = 12"), "unknown raduis"),
        (OWN + "[extra]\na = 1", "unknown extra"),
        ("affinity = 5\n" + OWN.partition("[affinity]")[0], "not a table"),
        ('version = "one"\n' + OWN, "version"),
        ("quirks = 5\n" + OWN, "quirks"),
        ('task = "davis"', "lacks"),
    ],
)
def test_faults_of_ones_own_file_name_it(tmp_path: Path, text: str, words: str):
    with pytest.raises(ProtocolError, match=words) as caught:
        load_protocol(own_file(tmp_path, text), None if text == "" else "davis")
    assert "mine.toml" in str(caught.value) or "to extend" in str(caught.value)


@pytest.mark.parametrize("name", ["a@b.toml", "my own.toml", ".toml", "_base.toml"])
def test_a_name_that_cannot_stand_in_tables_is_refused(tmp_path: Path, name: str):
    with pytest.raises(ProtocolError, match="can't stand in tables"):
        load_protocol(own_file(tmp_path, name=name), "davis")


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ProtocolError, match=r"no protocol file .*absent\.toml"):
        load_protocol(str(tmp_path / "absent.toml"), "davis")


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch):
    """An installed package that offers davis/theirs by an entry point."""
    from corrkit.protocols import files

    package = tmp_path / "their_protocols"
    (package / "davis").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    theirs = OWN.replace('task = "davis"', 'version = 3\nsummary = "s"\nproven = "p"\ncite = ""\nquirks = ["q"]')
    theirs = theirs.replace("radius = 12", 'radius = { value = 12, source = "their code" }')
    (package / "davis" / "theirs.toml").write_text(theirs)
    info = tmp_path / "their_protocols-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-protocols\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[corrkit.protocols]\ntheirs = their_protocols\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("their_protocols", None)
    files.installed.cache_clear()
    yield package
    sys.modules.pop("their_protocols", None)
    files.installed.cache_clear()


def test_installed_packages_offer_protocols(plug_in: Path):
    assert "theirs" in protocol_names("davis")
    assert "theirs" not in protocol_names("vip")
    protocol = load_protocol("davis/theirs")
    assert protocol.identifier == f"davis/theirs@3+{protocol.digest}"
    assert protocol.affinity.topk == 5


def test_a_package_may_not_take_a_name(plug_in: Path):
    (plug_in / "davis" / "theirs.toml").rename(plug_in / "davis" / "dino.toml")
    with pytest.raises(ProtocolError, match="their_protocols offers davis/dino"):
        protocol_names("davis")


def test_a_run_under_ones_own_protocol_says_so(tmp_path: Path):
    path = own_file(tmp_path, OWN.replace("cropmae", "dino"))
    result = corrkit.evaluate("davis", "identity", protocol=path, out=tmp_path / "run")
    assert result.summary["protocol"] == load_protocol(path).identifier
    assert result.summary["unreleased"] == []
    own_file(tmp_path, OWN.replace("cropmae", "dino").replace("12", "11"))
    with pytest.raises(RunError, match="protocol"):
        corrkit.evaluate("davis", "identity", protocol=path, out=tmp_path / "run")


def test_what_nobody_has_published_stands_in_every_result():
    result = corrkit.evaluate("davis", "identity", protocol="siammae")
    assert "evaluation code" in result.summary["unreleased"]


# --- every protocol runs ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    davis_folder.make_clip(root / "davis", frames=3, size=(48, 64))
    vip_folder.make_clip(root / "vip", frames=3, size=(48, 64))
    jhmdb_folder.make_clip(root / "jhmdb", frames=3, size=(48, 64))
    return root


@pytest.mark.parametrize(("task", "name"), ALL)
def test_every_protocol_runs_from_frames_to_scores(small_data: Path, task: str, name: str):
    protocol = load_protocol(name, task)
    size = {"exact": [48, 64], "native": []}.get(protocol.frames.resize, [96])
    result = corrkit.evaluate(
        task, PatchBackbone(16), data=small_data / task, protocol=name, device="cpu", colour="published", size=size
    )
    assert result.failures == {}
    assert all(np.isfinite(next(iter(metrics.values()))) for metrics in result.summary["per_clip"].values())


# --- permuted ids -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("task", "name"), [(task, name) for task, name in ALL if task != "jhmdb"])
@hypothesis.given(order=st.permutations([1, 2, 3]), seed=st.integers(0, 1000))
@hypothesis.settings(max_examples=5, deadline=None, derandomize=True)
def test_permuted_ids_permute_the_output(task: str, name: str, order: list[int], seed: int):
    """Labels are carried, not interpreted: other ids for the same objects give the same masks under those ids."""
    generator = np.random.default_rng(seed)
    first = generator.integers(0, 4, (6, 8)).repeat(16, 0).repeat(16, 1).astype(np.uint8)
    features = torch.from_numpy(generator.standard_normal((4, 6, 8, 16)).astype(np.float32))
    renamed = np.array([0, *order], np.uint8)
    plain = masks_of(load_protocol(name, task), first, features)
    permuted = masks_of(load_protocol(name, task), renamed[first], features)
    # Of two classes that tie, to the last bits of a bilinear read-out, the lower id wins: single pixels.
    assert (permuted != renamed[plain]).sum() <= 2


def masks_of(protocol, first, features) -> np.ndarray:
    geometry = Geometry(original=first.shape, network=first.shape, grid=features.shape[1:3], stride=16)
    codec = MaskCodec(first, geometry, protocol.labels, protocol.readout)
    soft = corrkit.propagate(
        features, codec.encode(first), protocol=protocol, predicted=lambda maps: codec.encode(codec.decode(maps))
    )
    return np.stack([codec.first_prediction(first), *(codec.decode(maps) for maps in soft)])


@pytest.mark.parametrize("name", [name for task, name in ALL if task == "jhmdb"])
def test_permuted_joints_permute_the_output(name: str):
    generator = np.random.default_rng(0)
    joints, order = generator.uniform(0, [128, 96], (15, 2)), generator.permutation(15)
    features = torch.from_numpy(generator.standard_normal((4, 6, 8, 16)).astype(np.float32))
    protocol = load_protocol(name, "jhmdb")
    geometry = Geometry(original=(96, 128), network=(96, 128), grid=(6, 8), stride=16)
    codec = PointCodec(geometry, protocol.labels, protocol.readout)

    def carried(first: np.ndarray) -> torch.Tensor:
        """Maps, since equal pixels of enlarged maps are read out in an order that the last bits decide."""
        soft = corrkit.propagate(features, codec.encode(first), protocol=protocol)
        return torch.stack(list(soft))[..., int(protocol.labels.background) :]

    torch.testing.assert_close(carried(joints[order]), carried(joints)[..., order], atol=1e-6, rtol=0)


def test_a_size_of_another_form_is_answered_with_the_override_that_allows_it():
    with pytest.raises(ProtocolError, match=r"or override frames\.resize as well") as caught:
        override(load_protocol("davis/dino"), {"size": [96, 120]})
    assert "'short-side'" in str(caught.value)
    assert override(load_protocol("davis/dino"), {"size": [96, 120], "resize": "exact"}).frames.size == (96, 120)


def test_a_window_that_admits_no_cell_is_refused_before_the_work():
    strict: dict[str, object] = {"radius": 0, "inclusive": False}
    with pytest.raises(ProtocolError, match="strict square window of radius 0 admits no cell"):
        override(load_protocol("davis/dino"), strict)
    for allowed in ({"mask_first": False}, {"shape": "none"}, {"radius": 0.5, "shape": "circle"}):
        override(load_protocol("davis/dino"), {**strict, **allowed})
    with pytest.raises(ProtocolError, match="admits no cell"):
        override(load_protocol("davis/crw"), strict | {"long_term": [], "first_copies": "once"})


@pytest.mark.parametrize("changes", [{"normalise": "frame"}, {"normalise": "window", "shape": "none"}])
def test_a_matching_that_contradicts_itself_is_refused_before_the_work(tmp_path: Path, changes: dict):
    with pytest.raises(ProtocolError, match=r"affinity\.normalise"):
        corrkit.evaluate("davis", "rgb", out=tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()
