"""The benchmarks: what they compare with does the same work, what they write, and the counts behind their figures.

Times decide nothing in the default suite: what is guarded there are counts of work and memory. `-m slow` guards ratios,
with half of what DESIGN.md asks for.
"""

import csv
import importlib
import math
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from corrkit.propagation import propagate, tiling
from corrkit.propagation.scoring import Extent, Plan, Workspace
from corrkit.propagation.window import Window
from corrkit.protocols import load_protocol, override

REPOSITORY = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def modules() -> dict[str, Any]:
    """By name: modules of the folder benchmarks, which is no package."""
    names = ("measuring", "registry", "matching", "reference_passes", "history", "drawing", "jf")
    return {name: importlib.import_module(name) for name in names}


@pytest.mark.parametrize(
    ("style", "overrides", "free"),
    [
        ("dino", {}, 0),
        ("crw", {"ties": "exact", "topk": 10, "shape": "circle", "inclusive": False}, 0),
        ("crw", {"ties": "exact", "topk": 10, "mask_first": False}, 1),
        ("vfs", {"ties": "exact", "shape": "circle"}, 0),
    ],
)
def test_dense_passes_give_the_labels_that_corrkit_gives(style: str, overrides: dict, free: int, modules):
    passes, contexts = modules["reference_passes"], 3
    protocol = override(load_protocol("davis/dino"), {"radius": 3, "context": contexts - 1, **overrides})
    generator = torch.Generator().manual_seed(0)
    features = functional.normalize(torch.randn(contexts + 1, 9, 13, 16, generator=generator), dim=-1)
    first = functional.one_hot(torch.randint(0, 3, (9, 13), generator=generator), 3).float()
    *before, expected = propagate(features, first, protocol=protocol)
    frame = passes.Frame(
        features=features,
        labels=torch.stack([first, *before]).flatten(1, 2),
        cells=(cells := torch.arange(9 * 13)),
        inside=passes.window_mask(9, 13, protocol.affinity, cells),
        affinity=protocol.affinity,
        free=free,
    )
    torch.testing.assert_close(passes.STYLES[style](frame)().view(9, 13, 3), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("shape", ["square", "circle"])
def test_pairs_are_counted_as_the_mask_has_them(shape: str, modules):
    passes = modules["reference_passes"]
    affinity = override(load_protocol("davis/dino"), {"radius": 4, "shape": shape}).affinity
    mask = passes.window_mask(7, 11, affinity, torch.arange(77))
    assert passes.pairs_in_window(7, 11, affinity) == int(mask.sum())


def test_the_plain_rewrite_of_j_and_f_gives_corrkits_numbers(modules):
    jf = modules["jf"]
    masks = [jf.four_copies(mask) for mask in jf.blobs(3)]
    times = jf.compared("blobs", masks, 4, {"plain rewrite": jf.plain_rewrite}, 1)  # ends the process where they differ
    assert set(times) == {"corrkit", "cached", "plain rewrite"}
    with pytest.raises(SystemExit):
        jf.compared("blobs", masks, 4, {"wrong": lambda *a: (np.zeros(4), np.zeros(4))}, 1)


def test_every_benchmark_has_its_function(modules):
    for one in modules["registry"].REGISTRY.values():  # not imported: some load timm
        source = (REPOSITORY / "benchmarks" / f"{one.module}.py").read_text(encoding="utf-8")
        assert "\ndef rows(settings: Settings, part: str) -> Iterator[Row]:\n" in source, one.module
    assert callable(modules["registry"].REGISTRY["workers"].rows)


def test_a_part_is_chosen_by_name(modules):
    chosen = modules["registry"].chosen
    assert chosen(["matching/s8", "jf"]) == [("matching", "s8"), ("jf", "")]
    assert ("workers", "balance") in chosen([])
    for wrong in ("absent", "matching/absent"):
        with pytest.raises(KeyError):
            chosen([wrong])


@pytest.mark.parametrize(
    ("value", "verdict"), [(1.0, "aim"), (1.07, "aim"), (1.1, "holds"), (1.15, "holds"), (1.16, "MISSED")]
)
def test_a_figure_is_held_against_its_bar(value: float, verdict: str, modules):
    measuring = modules["measuring"]
    assert (
        measuring.Row(what="a", value=value, bar=measuring.Bar(relation="<=", must=1.15, aim=1.07)).verdict == verdict
    )


def test_recorded_figures_are_found_again_on_the_same_machine(tmp_path: Path, modules):
    History, Row = modules["history"].History, modules["measuring"].Row
    row = Row(what="a, b", value=2.0)
    for value in (2.0, 3.0):
        History.read(tmp_path / "history.csv").append([("x/y", Row(what="a, b", value=value))])
    found = History.read(tmp_path / "history.csv")
    assert len(found.rows) == 2
    assert found.last("x/y", row) == 3.0
    assert found.last("x/z", row) is None
    elsewhere = History(found.rows, "another machine", found.file)
    assert elsewhere.last("x/y", row) is None


def test_rows_are_written_and_drawn(tmp_path: Path, modules):
    Row, Bar = modules["measuring"].Row, modules["measuring"].Bar
    bar = Bar(relation=">=", must=2.0, aim=4.0)
    done = [(f"x{value}", Row(what="a", value=value, bar=bar)) for value in (0.01, 1.0, 2.0, 8.0)]
    done.append(("y", Row(what="b", value=1.0, unit="ms")))
    modules["drawing"].write_csv(tmp_path / "a.csv", done)
    modules["drawing"].draw(tmp_path / "a.png", done)
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["verdict"] for row in rows] == ["MISSED", "MISSED", "holds", "aim", ""]
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_runs_what_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "path", [*sys.path])  # the command adds its folder
    command = runpy.run_path(str(REPOSITORY / "benchmarks" / "__main__.py"))["main"]
    monkeypatch.setattr(sys, "argv", ["benchmarks", "workers/balance", "--out", str(tmp_path / "rows.csv")])
    assert command() == 0
    assert "the longest of 8 ranks over their mean" in capsys.readouterr().out
    assert (tmp_path / "rows.png").exists()
    monkeypatch.setattr(sys, "argv", ["benchmarks", "absent"])
    assert command() == 2


@pytest.mark.parametrize(("part", "most"), [("s16", 1.5), ("s8", 1.55), ("s4", 1.6), ("crw-rule", 1.8)])
def test_few_pairs_outside_of_the_window_are_multiplied(part: str, most: float, modules):
    """What the time over the floor comes from, as a count: pairs in the boxes of tiles over pairs in windows."""
    setting, count = modules["matching"].SETTINGS[part], modules["matching"].BLOCK
    affinity = override(load_protocol("davis/dino"), setting.overrides).affinity
    extent = Extent(
        height=setting.height,
        width=setting.width,
        channels=setting.channels,
        num_queries=count,
        num_windowed=setting.contexts - setting.free + count - 1,
        num_free=setting.free,
        num_pairs=(setting.contexts - setting.free) * count,
    )
    plan = Plan(extent, Window.of(affinity), Workspace(CPU), CPU)
    multiplied = sum(tile.queries.size * tile.keys.size for group in plan.groups for tile in group.tiles)
    in_window = modules["reference_passes"].pairs_in_window(setting.height, setting.width, affinity)
    assert 1 <= multiplied / in_window <= most


@pytest.mark.parametrize("part", ["s16", "s8", "crw-rule", "large"])
def test_what_is_worked_on_at_a_time_takes_as_much_memory_as_it_may(part: str, modules):
    """Similarities, and the queries and keys that they are products of, which weigh as much where C is large."""
    setting = modules["matching"].SETTINGS[part]
    affinity = override(load_protocol("davis/dino"), setting.overrides).affinity
    for num_frames in (1, setting.contexts - setting.free):
        extent = Extent(
            height=setting.height,
            width=setting.width,
            channels=setting.channels,
            num_queries=1,
            num_windowed=num_frames,
            num_free=0,
            num_pairs=num_frames,
        )
        plan = Plan(extent, Window.of(affinity), Workspace(CPU), CPU)
        assert max(4 * sum(plan.room(group)) for group in plan.groups) <= tiling.CPU.memory


@pytest.mark.slow
@pytest.mark.parametrize("part", ["s16", "s8"])
def test_matching_is_far_faster_than_a_dense_pass(part: str, modules):
    measuring = modules["measuring"]
    for row in modules["matching"]._times(modules["matching"].SETTINGS[part], measuring.Settings(quick=True)):
        if row.bar is not None:
            slack = 2.0 if row.bar.relation == "<=" else 0.5
            assert row.bar.meets(row.value, slack * row.bar.must), f"{row.what}: {row.value}"


@pytest.mark.slow
def test_matching_takes_little_memory(modules):
    (row,) = modules["matching"]._memory("s8")
    assert row.value <= 1.3 * row.bar.must
    assert math.isfinite(row.value)
