"""The table on screen: what it must say, in which widths and formats."""

import math
import re
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corrkit.errors import UsageError
from corrkit.runs.fitting import Cell, Room
from corrkit.runs.layout import Format, Table, render
from corrkit.runs.results import CheckpointFacts
from corrkit.runs.tables import marks, method_name, per_cent, results_table

DAVIS = ("J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")
PCK = tuple(f"PCK@0.{n}" for n in range(1, 6))
CLASSES = ("hat", "hair", "glove", "sunglasses", "upper-clothes", "dress", "coat", "socks", "pants", "torso-skin")


def result(spec="weights/dino_vits16.pth", task="davis", data="DAVIS-2017", **changes):
    origin = {"embedded-davis": "embedded", "kitchen": "own"}.get(data, "official")
    metrics = {
        "davis": dict.fromkeys(DAVIS, 0.612),
        "vip": {"mIoU": 0.362} | {f"IoU/{name}": 0.5 for name in CLASSES} | {"IoU/tie": math.nan},
        "jhmdb": dict.fromkeys(PCK, 0.45) | {"PCK@0.1/neck": 0.25, "PCK@0.1/belly": 0.5, "PCK@0.2/neck": 0.75},
    }[task]
    return {
        "task": task,
        "protocol": f"{task}/dino@1",
        "checkpoint": {"spec": spec},
        "data": {"name": data, "split": "val", "identity": data, "official": origin == "official", "origin": origin},
        "precision": "float32",
        "device": "cpu",
        "layer": "last",
        "stride": 16,
        "parameters": 1,
        "versions": {},
        "modified": {},
        "partial": [],
        "clips": 30,
        "objects": 61,
        "metrics": metrics,
        "intervals": {name: [0.55, 0.67] for name in metrics if "/" not in name},
        "per_clip": {},
        **changes,
    }


def test_the_title_names_protocol_data_clips_and_objects():
    assert results_table([result()]).splitlines()[0] == "davis/dino@1 · DAVIS-2017 val · 30 clips, 61 objects"
    assert "61 classes" in results_table([result(task="vip")])
    assert "61 joints" in results_table([result(task="jhmdb")])


def test_every_headline_metric_is_shown_in_per_cent_with_its_interval():
    text = results_table([result()], "text", 200)
    assert all(name in text for name in DAVIS)
    assert text.count("61.2 [55.0, 67.0]") == len(DAVIS)
    assert "95 %" in text


def test_without_intervals_none_is_claimed():
    text = results_table([result(intervals=dict.fromkeys(DAVIS))])
    assert "95 %" not in text
    assert "[" not in text


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("task", ["davis", "vip", "jhmdb"])
@pytest.mark.parametrize("count", [1, 3, 9])
def test_no_line_is_wider_than_the_terminal_and_each_result_is_one_line(width, task, count):
    rows = [result(f"a/checkpoint_number_{n}.pth", task, modified={"affinity.radius": n}) for n in range(count)]
    text = results_table(rows, "text", width)
    assert max(map(len, text.splitlines())) <= width
    headline = text.split("\n\nIoU per")[0].split("\n\nPCK@0.1 per")[0]
    for n in range(count):
        (line,) = (line for line in headline.splitlines() if line.startswith(f"checkpoint_number_{n}*"))
        assert "[55.0, 67.0]" in line
        assert f"affinity.radius={n}" in headline
    metrics = [name for name in rows[0]["metrics"] if "/" not in name]
    lost = [name for name in metrics if name not in headline.split("No room for")[0]]
    assert all(name in headline.split("No room for")[-1] for name in lost)
    assert (lost == []) == (width == 200 or task == "vip")


def test_what_has_no_room_goes_in_a_stated_order():
    """First metrics that the leaderboard lacks, then intervals, then metrics; then names give. The first one stays."""
    seen = {}
    for width in (200, 80, 60, 44, 24):
        text = results_table([result("a_checkpoint_with_a_long_name.pth")], "text", width)
        head, _, row = text.splitlines()[[line.startswith("---") for line in text.splitlines()].index(True) - 1 :][:3]
        seen[width] = (head.split(), row.count("["))
    assert seen[200] == (list(DAVIS), 7)
    assert seen[80] == (["J&F-Mean", "J-Mean", "F-Mean"], 2)
    assert seen[60] == (["J&F-Mean", "J-Mean"], 1)
    assert seen[44] == (["J&F-Mean"], 0)
    assert seen[24] == seen[44]
    assert "--wide shows all, --columns chooses" in " ".join(results_table([result()], "text", 44).split())


def test_columns_are_chosen_or_all_shown():
    text = results_table([result()], "text", 80, ["F-Recall", "J-Mean"])
    assert re.search(r"^ +F-Recall +J-Mean$", text, re.MULTILINE)
    assert "No room" not in text
    wide = results_table([result()], "text", sys.maxsize)
    assert wide.count("[55.0, 67.0]") == len(DAVIS)
    with pytest.raises(UsageError, match=r"Tables of davis have no column 'J-Meen'\.\sDid you mean 'J-Mean'"):
        results_table([result()], "text", 80, ["J-Meen"])


def test_settings_that_all_rows_share_stand_in_the_heading():
    rows = tuple((Cell(text=name), Cell(text="vit"), Cell(text=stride), Cell(text="")) for name, stride in ("a8", "b4"))
    table = Table(title="t", head=("", "Net", "Stride", "Note"), rows=rows, room=Room(settings=frozenset({"Net"})))
    text = render(table, "text")
    assert "Net vit\n" in text
    assert re.search(r"^ +Stride$", text, re.MULTILINE)
    one = render(replace(table, rows=rows[:1]), "text")
    assert re.search(r"^ +Net +Stride$", one, re.MULTILINE)  # of a single row nothing is shared
    assert "| a8 | vit | a8" not in render(table, "markdown")


@pytest.mark.parametrize("name", ["PCK@0.1", "me@home.example.org", "www.example.org", "https://a.example/b"])
def test_no_address_is_left_for_github_to_make_a_link_of(name):
    """Escaping doesn't help there (cmark-gfm looks for addresses after it); in code nothing is a link."""
    table = Table(title=f"{name} per joint", head=("", name), rows=((Cell(text=name), Cell(text="1")),))
    assert all(part.count("`") == 2 for part in re.findall(rf".{re.escape(name)}.", render(table, "markdown")))


def test_numbers_stand_at_the_right_and_words_at_the_left():
    rows = ((Cell(text="a"), Cell(text="vit"), Cell(text=" 9.1"), Cell(text="–")),)
    table = Table(title="t", head=("", "net", "J", "F"), rows=rows)
    assert "| --- | --- | ---: | ---: |" in render(table, "markdown")
    assert r"\begin{tabular}{@{}llrr@{}}" in render(table, "latex")


def test_a_link_in_a_name_is_text():
    table = Table(title="t", head=("", "a"), rows=((Cell(text="[x](javascript:1)"), Cell(text="61.2 [55.1, 67.3]")),))
    text = render(table, "markdown")
    assert r"\[x](javascript:1)" in text
    assert "| 61.2 [55.1, 67.3] |" in text


def test_embedded_clips_are_named_and_set_apart():
    text = results_table([result(data="embedded-davis"), result()])
    embedded, official = text.split("davis/dino@1 · DAVIS-2017")
    assert "embedded-davis" in embedded
    assert "not comparable" in embedded
    assert "not comparable" not in official


def test_own_data_is_marked():
    assert "kitchen is not the benchmark's own data" in results_table([result(data="kitchen")])


def test_whose_data_it_was_is_not_guessed_from_a_name():
    own = result(data="kitchen")
    own["data"]["name"] = "embedded-kitchen"
    text = results_table([own])
    assert "Embedded clips" not in text
    assert "embedded-kitchen is not the benchmark's own data" in text


def test_whatever_sets_a_result_apart_is_marked_and_explained():
    plain = result("identity")
    odd = result(
        modified={"affinity.radius": 6.0, "affinity.topk": 7},
        partial=["dog", "bmx"],
        precision="bfloat16",
        checkpoint={"spec": "video.pth", "sees_future": True},
    )
    text = results_table([odd, plain])
    assert "video*†‡§" in text
    assert "* video: modified protocol: affinity.radius=6.0 affinity.topk=7" in text
    assert "† video: partial: 2 of 32 clips are missing (dog, bmx)" in text
    assert "‡ video: reduced precision: bfloat16" in text
    assert "§ video: features of a frame depend on later frames" in text
    assert marks(plain) == {}


def test_classes_and_joints_stand_below_the_headline():
    vip = results_table([result(task="vip"), result("identity", "vip")])
    assert "IoU per class" in vip
    assert re.search(r"upper-clothes +50.0 +50.0\n", vip)
    assert re.search(r"tie +– +–\n", vip)
    jhmdb = results_table([result(task="jhmdb")])
    assert "PCK@0.1 per joint" in jhmdb
    assert re.search(r"belly +50.0\n", jhmdb)
    assert "75.0" not in jhmdb  # PCK@0.2 per joint: in the JSON only


def test_results_of_different_protocols_data_or_tasks_never_share_a_table():
    rows = [result(), result(protocol="davis/crw@1"), result(data="kitchen"), result(task="vip"), result("identity")]
    text = results_table(rows)
    assert text.count("davis/dino@1 · DAVIS-2017") == 1
    assert len(re.findall(r"^\w+/\w+@1 · ", text, re.MULTILINE)) == 4


def test_markdown_is_one_pipe_table_with_equal_columns():
    text = results_table([result("a|b_c.pth"), result("identity")], "markdown")
    lines = [re.sub(r"\\.", "x", line) for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {len(DAVIS) + 2}
    assert r"a\|b\_c" in text


def test_latex_is_booktabs_with_equal_columns_and_escapes():
    text = results_table([result("a_b&c%.pth", modified={"affinity.topk": 1}), result("identity")], "latex")
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {3}  # in one column of a paper
    assert r"a\_b\&c\%$^{*}$" in text
    for word in (r"\toprule", r"\midrule", r"\bottomrule", r"\caption", r"$\cdot$"):
        assert word in text
    assert not re.search(r"[^\x00-\x7f]", text)


@given(st.floats(0, 1))
def test_per_cent_is_the_fraction_to_one_decimal(value):
    assert abs(float(per_cent(value)) - 100 * value) <= 0.05 + 1e-9


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("a/b/dino_vits16.pth", "dino_vits16"),
        ("hog", "hog"),
        ("random:vit_small_patch16_224@3", "random:vit_small_patch16_224@3"),
        ("folder/hub_model/", "hub_model"),
        ("v1.5.tar", "v1.5"),
    ],
)
def test_a_checkpoint_is_called_by_its_file_or_spec(spec, name):
    facts = CheckpointFacts(spec=spec, digest=None, system="none", architecture="none")
    assert method_name(facts.plain()) == name


def test_the_best_is_bold_and_sections_have_headings():
    table = Table(
        title="t",
        head=("", "a"),
        rows=((Cell(text="x"), Cell(text=" 1.0", best=True)), (Cell(text="y"), Cell(text="[2]"))),
        sections=(("one & only", 0), ("two", 1)),
    )
    assert "**1.0**" in render(table, "markdown")
    latex = render(table, "latex")
    assert r"\textbf{1.0}" in latex
    assert latex.count(r"\midrule") == 2
    assert r"\multicolumn{2}{@{}l@{}}{\parbox{\columnwidth}{\raggedright\emph{one \& only}\strut}} \\" in latex
    assert r"{[2]} \\" in latex
    text = render(table, "text")
    assert text.index("one & only") < text.index("x  ") < text.index("two") < text.index("y  ")


def test_training_on_the_benchmarks_videos_is_marked():
    sam = result("sam2_hiera_tiny.pt", checkpoint={"spec": "sam2_hiera_tiny.pt", "system": "sam2"})
    forms: tuple[tuple[Format, str], ...] = (
        ("text", "sam2_hiera_tiny‖"),
        ("markdown", "‖"),
        ("latex", r"$^{\|}$"),
    )
    for form, mark in forms:
        text = results_table([sam], form, 200)
        assert mark in text
        assert "trained on this benchmark's videos, or may be: DAVIS-2017 objects:" in text
    assert marks(result(task="vip", checkpoint=sam["checkpoint"])) == {}
    assert marks(result(data="embedded-davis", checkpoint=sam["checkpoint"])) == {}
