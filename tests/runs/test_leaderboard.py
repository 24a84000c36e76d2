"""The leaderboard: what shares a row, what is kept apart, what is named, and the paired comparison."""

import csv
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys

import pandas as pd
import pytest
from browser import browser  # noqa: F401 - a fixture
from stored_runs import CLIPS, STATISTICS, davis

import corrkit
from corrkit.errors import RunError, UsageError
from corrkit.metrics.intervals import compare_paired, holm
from corrkit.protocols import load_protocol
from corrkit.runs.columns import Chosen
from corrkit.runs.leaderboard_files import leaderboard_text, write_leaderboard
from corrkit.tasks import load_task


def test_the_three_benchmarks_of_a_checkpoint_stand_side_by_side(finished):
    folders = [finished(task, spec, skill) for spec, skill in (("a.pth", 0.4), ("b.pth", 0.6)) for task in STATISTICS]
    table = corrkit.leaderboard(folders)
    assert list(table["method"]) == ["b", "a"]
    assert list(table["protocol"]) == ["davis/dino@1 vip/cropmae@1 jhmdb/cropmae@1"] * 2
    assert set(table["group"]) == {1}
    row = table.iloc[0]
    assert row["J&F-Mean"] == pytest.approx(0.6, abs=0.02)
    assert row["mIoU low"] < row["mIoU"] < row["mIoU high"]
    assert row["PCK@0.1"] < row["PCK@0.2"]
    assert row["frames_per_second"] == pytest.approx(5.0)
    assert row["runs"] == " ".join(str(folder) for folder in folders[3:])
    assert table.attrs["notes"] == []


def test_columns_and_their_order_never_change(finished):
    one = corrkit.leaderboard([finished("vip", "a.pth", 0.3)])
    folders = [finished("davis", f"b{n}.pth", 0.3, seed=n, checkpoint={"seed_of": "b"}) for n in range(2)]
    assert list(one) == list(corrkit.leaderboard(folders, reference=folders[0]))
    assert list(one)[:14] == [
        *("method", "architecture", "parameters", "pretraining", "stride", "input_size", "layer", "protocol"),
        *("J&F-Mean", "J-Mean", "F-Mean", "mIoU", "PCK@0.1", "PCK@0.2"),
    ]


APART = [
    {"origin": "embedded"},
    {"origin": "own"},
    {"changes": {"radius": 6}},
    {"missing": CLIPS[:1], "identity": "official-davis"},
    {"precision": "bfloat16"},
    {"identity": "another"},
]


@pytest.mark.parametrize("change", APART)
def test_runs_of_unlike_standing_or_data_never_share_a_row_or_a_group(finished, change):
    standard = [finished(task, "a.pth", 0.5) for task in STATISTICS]
    odd = finished("davis", "a.pth", 0.9, **change)
    table = corrkit.leaderboard([odd, *standard])
    assert len(table) == 2
    assert table["group"].nunique() == 2
    assert sorted(table["J&F-Mean"].round(1)) == [0.5, 0.9]
    (row,) = (runs for runs in table["runs"] if str(odd) in runs)
    assert str(standard[0]) not in row
    assert ("identity" in change and "missing" not in change) or row == str(odd)
    text = leaderboard_text(table, "latex")
    assert r"\textbf" not in text


def test_an_embedded_run_does_not_complete_the_row_of_official_ones(finished):
    folders = [finished("davis", "a.pth", 0.5), finished("vip", "a.pth", 0.5, origin="embedded")]
    table = corrkit.leaderboard(folders)
    assert list(table["origin"]) == ["official", "embedded"]
    assert math.isnan(table.iloc[0]["mIoU"])
    assert math.isnan(table.iloc[1]["J&F-Mean"])


def test_protocols_of_one_name_share_a_row_and_the_rest_fill_up(finished):
    folders = [finished(task, "a.pth", 0.5) for task in STATISTICS]
    folders += [finished(task, "a.pth", 0.3, protocol=f"{task}/crw") for task in ("vip", "jhmdb")]
    table = corrkit.leaderboard(folders)
    assert set(table["protocol"]) == {"davis/dino@1 vip/cropmae@1 jhmdb/cropmae@1", "vip/crw@1 jhmdb/crw@1"}
    assert table["group"].nunique() == 2


def test_the_order_of_the_folders_makes_no_difference(finished):
    folders = [finished(task, spec, 0.4) for spec in ("a.pth", "b.pth") for task in STATISTICS]
    folders += [finished(task, "a.pth", 0.3, protocol=f"{task}/crw") for task in ("vip", "jhmdb")]
    folders += [finished("davis", "a.pth", 0.3, origin=origin) for origin in ("own", "embedded")]
    expected = corrkit.leaderboard(folders)
    for seed in range(5):
        random.Random(seed).shuffle(folders)
        pd.testing.assert_frame_equal(corrkit.leaderboard(folders), expected)


def test_a_checkpoint_without_all_tasks_joins_the_group_it_can_be_compared_with(finished):
    folders = [*(finished(task, "a.pth", 0.5) for task in STATISTICS), finished("vip", "b.pth", 0.6)]
    table = corrkit.leaderboard(folders)
    assert set(table["group"]) == {1}
    assert leaderboard_text(table, "markdown").count("**") == 4  # the title and the better mIoU


def test_duplicates_and_conflicts_are_named(finished):
    first = finished("davis", "a.pth", 0.5)
    duplicate = finished("davis", "elsewhere/copy.pth", 0.5, checkpoint={"digest": "sha-of-a.pth"})
    conflict = finished("davis", "a.pth", 0.6, device="cuda")
    table = corrkit.leaderboard([first, duplicate, conflict, first])
    assert len(table) == 1
    assert table.iloc[0]["J&F-Mean"] == pytest.approx(0.5, abs=0.02)
    assert bool(table.iloc[0]["conflict"])
    repeats, conflicts = table.attrs["notes"]
    assert f"duplicate: {duplicate} repeats {first}" in repeats
    assert f"conflict: {first} and {conflict}" in conflicts
    assert re.search(r"J&F-Mean 0\.\d+ and 0\.\d+ \(device cpu and cuda\)", conflicts)
    assert "a¶" in leaderboard_text(table, "text")


def test_training_seeds_are_grouped_as_mean_and_sd(finished):
    seeds, untrained = {"seed_of": "mae"}, {"seed_of": "random-vit"}
    folders = [finished("davis", f"mae{n}.pth", 0.3 + n / 100, seed=n, checkpoint=seeds) for n in range(3)]
    folders += [finished("davis", f"random-vit@{n}", 0.2, seed=n, checkpoint=untrained) for n in range(2)]
    folders += [finished("davis", "single_seed7.pth", 0.9), finished("davis", "oracle", 0.95)]
    table = corrkit.leaderboard(folders)
    mae = table[table["method"].str.startswith("mae")]
    assert list(mae.index) == [2, 3, 4]  # they stand together
    assert set(mae["seeds"]) == {3}
    assert set(mae["J&F-Mean seeds mean"]) == {mae["J&F-Mean"].mean()}
    assert mae["J&F-Mean seeds sd"].to_numpy() == pytest.approx(mae["J&F-Mean"].std(ddof=1), rel=1e-12)
    assert set(table[table["method"].str.startswith("random")]["seeds"]) == {2}
    alone = table[table["seeds"] == 1]
    assert list(alone["method"]) == ["oracle", "single_seed7"]
    assert alone["J&F-Mean seeds sd"].isna().all()
    assert re.search(r"J&F 31\.\d ± \d\.\d \(n=3\)", leaderboard_text(table, "text", 500))


def test_seeds_of_unlike_standing_are_not_grouped(finished):
    seeds = {"checkpoint": {"seed_of": "a"}}
    folders = [
        finished("davis", "a1.pth", 0.5, **seeds),
        finished("davis", "a2.pth", 0.5, changes={"radius": 6}, **seeds),
    ]
    assert set(corrkit.leaderboard(folders)["seeds"]) == {1}


def test_seeds_are_never_guessed_from_a_name(finished):
    names = (
        "mae_seed1.pth",
        "mae_seed2.pth",
        "dino/checkpoint.pth",
        "mae/checkpoint.pth",
        "random@1.pth",
        "random@2.pth",
    )
    folders = [finished("davis", name, 0.3 + n / 100) for n, name in enumerate(names)]
    assert set(corrkit.leaderboard(folders)["seeds"]) == {1}


def test_the_comparison_is_that_of_the_paired_statistics(finished):
    reference = finished("davis", "base.pth", 0.5)
    folders = [reference, finished("davis", "b.pth", 0.6, seed=1), finished("davis", "c.pth", 0.5, seed=2)]
    table = corrkit.leaderboard(folders, reference=reference).set_index("method")
    protocol = load_protocol("davis/dino")
    evidence = {
        name: load_task("davis").evidence({clip: davis(skill, clip, seed) for clip in CLIPS}, protocol)
        for name, skill, seed in (("base", 0.5, 0), ("b", 0.6, 1), ("c", 0.5, 2))
    }
    for name in ("b", "c"):
        pair = evidence[name].statistics, evidence["base"].statistics
        expected = compare_paired(*pair, evidence["base"].estimate)[0]
        row = table.loc[name]
        assert row["J&F-Mean difference"] == pytest.approx(row["J&F-Mean"] - table.loc["base"]["J&F-Mean"], abs=1e-12)
        assert row["J&F-Mean difference"] == expected.difference
        assert (row["J&F-Mean difference low"], row["J&F-Mean difference high"]) == expected.interval
        assert row["J&F-Mean p"] == expected.p
        assert row["J&F-Mean detectable"] == expected.detectable
    assert table.loc["b"]["J&F-Mean p"] == 2 / 2**6  # better in each of six clips: 2 of the 64 swaps are as extreme
    assert list(table.loc[["b", "c"], "J&F-Mean p Holm"]) == holm(list(table.loc[["b", "c"], "J&F-Mean p"]))
    assert table.loc[["b", "c"], "J&F-Mean p Holm"].max() > table.loc["b", "J&F-Mean p"]
    assert bool(table.loc["base"]["reference"])
    assert math.isnan(table.loc["base"]["J&F-Mean difference"])
    text = leaderboard_text(table.reset_index(), "text", 400)
    assert re.search(r"\d+\.\d \[\d+\.\d, \d+\.\d\], p 0\.\d+, detects \d+\.\d", text)
    assert "Δ: difference from base" in text


def test_only_runs_on_the_same_protocol_data_and_clips_are_compared(finished):
    reference = finished("vip", "base.pth", 0.5)
    others = {
        "other protocol": finished("vip", "a.pth", 0.5, protocol="vip/crw"),
        "other data": finished("vip", "b.pth", 0.5, origin="own"),
        "other clips": finished("vip", "c.pth", 0.5, missing=CLIPS[:2]),
    }
    table = corrkit.leaderboard([reference, *others.values()], reference=[reference])
    assert table["mIoU difference"].isna().all()
    notes = table.attrs["notes"]
    for reason, folder in others.items():
        assert f"{folder} is not compared with {reference}: {reason}" in notes


@pytest.mark.parametrize("change", [{"precision": "bfloat16"}, {"changes": {"radius": 6}}, {"origin": "own"}])
def test_a_reference_is_never_compared_across_sections(finished, change):
    reference = finished("davis", "base.pth", 0.5)
    other = finished("davis", "a.pth", 0.6, identity="official-davis", **change)
    table = corrkit.leaderboard([reference, other], reference=reference)
    assert table["J&F-Mean difference"].isna().all()
    assert any("another section of the table" in note for note in table.attrs["notes"])


def test_the_legend_names_a_reference_that_is_no_row(finished):
    table = corrkit.leaderboard(finished("davis", "a.pth", 0.6), reference=finished("davis", "base.pth", 0.5))
    assert "Δ: difference from base" in leaderboard_text(table, "text", 300)


def test_floor_and_ceiling_are_named_as_left_out_of_bold(finished):
    names = ("a.pth", "b.pth", "identity", "oracle")
    table = corrkit.leaderboard([finished("davis", name, 0.3 + n / 10) for n, name in enumerate(names)])
    assert "left out of what is bold: oracle, identity" in leaderboard_text(table, "text", 300)


def test_scored_predictions_have_full_precision_everywhere(finished):
    runs = [finished("davis", "a.pth", 0.5), finished("davis", "predictions", 0.6, precision="")]
    table = corrkit.leaderboard(runs)
    assert table["group"].nunique() == 1
    assert "precision" not in leaderboard_text(table, "text", 300)


def test_how_a_checkpoint_was_trained_stands_in_its_column(finished):
    pretraining = corrkit.load_backbone("demo").report.pretraining
    assert pretraining == "siammae, step 400"
    table = corrkit.leaderboard(finished("davis", "demo", 0.5, checkpoint={"pretraining": pretraining}))
    assert list(table["pretraining"]) == [pretraining]
    assert pretraining in leaderboard_text(table, "text", 300)


def test_data_under_two_names_are_the_same_data(finished):
    one, two = finished("davis", "a.pth", 0.5, origin="own"), finished("davis", "b.pth", 0.6, origin="own")
    summary = json.loads((two / "summary.json").read_text())
    summary["data"]["name"] = "elsewhere"
    (two / "summary.json").write_text(json.dumps(summary))
    table = corrkit.leaderboard([one, two], reference=one)
    assert table["group"].nunique() == 1
    assert table["J&F-Mean difference"].notna().sum() == 1


def test_formulas_and_control_characters_in_names_do_nothing(finished, tmp_path):
    table = corrkit.leaderboard([finished("davis", name, 0.5) for name in ("=1+1.pth", "@b", "-c\x1b[2J", "d\n,x")])
    write_leaderboard(table, tmp_path / "board.csv")
    again = pd.read_csv(tmp_path / "board.csv", keep_default_na=False, dtype={"method": str})
    assert list(again["method"]) == list(table["method"])
    assert sorted(again["method"]) == sorted(["'=1+1", "'@b", r"'-c\x1b[2J", r"d\n,x"])
    assert "\x1b" not in (tmp_path / "board.csv").read_text()
    assert [float(value) for value in again["J&F-Mean"]] == [round(value, 6) for value in table["J&F-Mean"]]


def test_runs_below_a_folder_are_found(finished, tmp_path):
    runs = [finished("davis", "a.pth", 0.5), finished("vip", "b.pth", 0.5)]
    (tmp_path / "group").mkdir()
    moved = [run.rename(tmp_path / "group" / run.name) for run in runs]
    assert list(corrkit.leaderboard(tmp_path)["method"]) == list(corrkit.leaderboard(moved)["method"]) == ["a", "b"]


def _damages(text: str):
    """Every field of a JSON file taken out, or others in place of it; test_mutated_runs.py has more."""
    document = json.loads(text)
    value: object
    for key in document:
        yield {name: value for name, value in document.items() if name != key}
        for value in (None, "x", [1], {"a": "b"}):
            yield {**document, key: value}
        if isinstance(document[key], dict):
            for inner in document[key]:
                for value in (None, "x"):
                    yield {**document, key: {**document[key], inner: value}}


@pytest.mark.parametrize("file", ["summary.json", "clips/clip0.json"])
def test_a_damaged_run_never_takes_a_leaderboard_down(finished, file):
    good, bad = finished("davis", "good.pth", 0.5), finished("davis", "bad.pth", 0.6)
    whole = (bad / file).read_text()
    texts = [whole[:length] for length in range(0, len(whole) - 1, max(1, len(whole) // 10))]
    texts += [json.dumps(damaged) for damaged in _damages(whole)]
    for text in ["[" * 100_000, "\x00", whole.replace("0.", "9"), *texts]:
        (bad / file).write_text(text)
        table = corrkit.leaderboard([good, bad], reference=good)
        leaderboard_text(table, "text")
        assert "good" in set(table["method"])
        assert len(table) == 2 or str(bad) in " ".join(table.attrs["notes"]), text


def test_references_of_all_tasks_may_be_given_once_each(finished):
    references = [finished(task, "base.pth", 0.4) for task in STATISTICS]
    table = corrkit.leaderboard([finished(task, "a.pth", 0.5) for task in STATISTICS], reference=references)
    assert table[["J&F-Mean difference", "mIoU difference", "PCK@0.1 difference"]].gt(0.05).all(axis=None)
    with pytest.raises(UsageError, match="both references for vip"):
        corrkit.leaderboard(references, reference=[references[1], finished("vip", "a.pth", 0.5)])


def test_folders_that_hold_no_finished_run_are_named(finished, tmp_path):
    run = finished("davis", "a.pth", 0.5)
    (tmp_path / "empty").mkdir()
    table = corrkit.leaderboard([tmp_path / "empty", run])
    assert len(table) == 1
    assert "left out" in table.attrs["notes"][0]
    assert str(tmp_path / "empty") in table.attrs["notes"][0]
    with pytest.raises(RunError, match="holds a finished run"):
        corrkit.leaderboard([tmp_path / "empty"])
    with pytest.raises(RunError, match="does not exist"):
        corrkit.leaderboard([run, tmp_path / "mistyped"])


SHORT = (
    "method architecture parameters pretraining stride protocol J&F-Mean J-Mean F-Mean mIoU PCK@0.1 PCK@0.2 "
    "J&F-Mean~low J&F-Mean~high mIoU~low mIoU~high PCK@0.1~low PCK@0.1~high precision origin data modified tuned_on "
    "partial"
)


def test_the_csv_is_short_with_six_digits_and_without_timing(finished, tmp_path):
    table = corrkit.leaderboard([finished(task, "a,b.pth", 0.4) for task in STATISTICS])

    def written(**chosen):
        write_leaderboard(table, tmp_path / "board.csv", chosen=Chosen(**chosen))
        (row,) = csv.DictReader((tmp_path / "board.csv").read_text().splitlines())
        return row

    assert list(written()) == [name.replace("~", " ") for name in SHORT.split()]
    assert list(written(is_wide=True)) == [name for name in table if name != "frames_per_second"]
    assert list(written(is_wide=True, has_timing=True)) == list(table)
    assert list(written(has_timing=True))[-1] != "frames_per_second"
    assert written(has_timing=True)["frames_per_second"] == "5.000000"
    assert list(written(names=("mIoU", "Stride", "runs"))) == ["method", "mIoU", "stride", "runs"]
    again = written(is_wide=True)
    for metric in ("J&F-Mean", "mIoU low", "PCK@0.2"):
        assert again[metric] == f"{table[metric][0]:.6f}"
    assert again["method"] == "a,b"
    assert again["parameters"] == "21665664"
    with pytest.raises(UsageError, match="no column 'mIuo'"):
        written(names=("mIuo",))


def test_a_second_run_changes_no_byte_of_the_table(finished, tmp_path):
    for name, seconds in (("one", 2.0), ("two", 3.0)):
        table = corrkit.leaderboard([finished("davis", spec, 0.4, seconds=seconds) for spec in ("a.pth", "b.pth")])
        for suffix in (".csv", ".md", ".tex", ".html"):
            write_leaderboard(table, tmp_path / f"{name}{suffix}")
    for suffix in (".csv", ".md", ".tex", ".html"):
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()


def test_seeds_are_a_column(finished):
    folders = [finished("davis", f"b{n}.pth", 0.3, seed=n, checkpoint={"seed_of": "b"}) for n in range(2)]
    text = leaderboard_text(corrkit.leaderboard(folders), "text", 120)
    assert re.search(r"^Method +J&F +J +F +Over seeds$", text, re.MULTILINE)
    assert len(re.findall(r"J&F \d\d\.\d ± \d\.\d \(n=2\)", text)) == 2


def test_a_suffix_without_a_form_is_refused(finished, tmp_path):
    table = corrkit.leaderboard([finished("davis", "a.pth", 0.4)])
    with pytest.raises(UsageError, match=r"board\.xlsx has no known suffix"):
        write_leaderboard(table, tmp_path / "board.xlsx")


def test_latex_is_grouped_with_the_best_in_bold_and_marks_as_footnotes(finished, tmp_path):
    folders = [finished("davis", "good_one.pth", 0.6), finished("davis", "worse.pth", 0.5)]
    folders += [finished("davis", name, skill) for name, skill in (("oracle", 0.9), ("identity", 0.2))]
    folders += [finished("davis", "good_one.pth", 0.7, changes={"radius": 6})]
    write_leaderboard(corrkit.leaderboard(folders), tmp_path / "board.tex")
    text = (tmp_path / "board.tex").read_text()
    bold = [line for line in text.splitlines() if r"\textbf" in line]
    assert len(bold) == 1
    assert bold[0].startswith(r"good\_one & ")
    assert bold[0].count(r"\textbf") == 3
    assert r"good\_one$^{*}$" in text
    assert r"$^{*}$ good\_one: modified protocol: affinity.radius=6.0" in text
    assert text.count(r"\emph{davis/dino@1 on DAVIS-2017 val}") == 2  # standard, modified
    assert text.index(r"\toprule") < text.index(r"\midrule") < text.index(r"\bottomrule")
    assert {len(re.findall(r"(?<!\\)&", line)) for line in text.splitlines() if line.endswith(r"\\")} == {0, 3}


def test_latex_fits_one_column_of_a_paper(finished, tmp_path):
    """Compiled at the size that it asks for: TeX complains of every line that sticks out."""
    program = shutil.which("pdflatex")
    if program is None:
        pytest.skip("needs a TeX: no pdflatex is installed")
    names = ("random:vit_small_patch16_224@3", "a_checkpoint_with_a_rather_long_name.pth", "oracle", "b&c%.pth")
    folders = [finished(task, name, 0.4 + n / 10) for n, name in enumerate(names) for task in STATISTICS]
    folders += [finished("davis", "a.pth", 0.7, changes={"radius": 6}, origin="embedded")]
    write_leaderboard(corrkit.leaderboard(folders), tmp_path / "board.tex")
    paper = (
        r"\documentclass[10pt,twocolumn]{article}\usepackage[margin=1in]{geometry}\setlength{\columnsep}{13pt}"
        r"\usepackage{booktabs}\hfuzz=1pt\begin{document}\input{board}\end{document}"
    )
    (tmp_path / "paper.tex").write_text(paper)
    command = [program, "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "Overfull" not in done.stdout
    for metric in ("J\\&F", "mIoU", "PCK@0.1"):
        assert metric in (tmp_path / "board.tex").read_text()


def test_text_fits_the_terminal(finished):
    table = corrkit.leaderboard([finished(task, f"method_{n}.pth", 0.4) for n in range(6) for task in STATISTICS])
    for width in (80, 200):
        assert max(map(len, leaderboard_text(table, "text", width).splitlines())) <= width


def test_the_command_prints_the_table_and_names_what_it_left_out(finished, tmp_path):
    runs = [finished("davis", "a.pth", 0.5), finished("davis", "b.pth", 0.6)]
    (tmp_path / "unfinished").mkdir()
    command = [sys.executable, "-m", "corrkit", "leaderboard", *runs, tmp_path / "unfinished", "--out", "board.md"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "80"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert "davis/dino@1 on DAVIS-2017 val" in done.stdout
    assert "unfinished" in done.stderr
    assert "unfinished" not in done.stdout
    assert re.search(r"^\| b \| \*\*[\d.]+ \[", (tmp_path / "board.md").read_text(), re.MULTILINE)
