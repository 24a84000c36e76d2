"""Runs compared: what differs, the verdict, what moved; cases worked out by hand."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from davis_folder import make_clip
from stored_runs import CLIPS, STATISTICS

from corrkit.cli import main

GAINS = (1, 1, 3, 3, 6, -2)  # points of J and F, clip by clip; their mean is 2


@pytest.fixture
def davis(finished, monkeypatch):
    """davis("a.pth", {clip: [J = F of each object]}) writes a finished run."""
    monkeypatch.setitem(
        STATISTICS, "davis", lambda objects, clip, seed: {part: [[j] * 8 for j in objects[clip]] for part in "JF"}
    )
    return lambda spec, objects, **changes: finished("davis", spec, objects, **changes)


@pytest.fixture
def pair(davis) -> list[str]:
    """A run of 0.5 everywhere, and one that is better by GAINS."""
    base = davis("base.pth", {clip: [0.5] for clip in CLIPS})
    return [str(base), str(davis("new.pth", {c: [0.5 + g / 100] for c, g in zip(CLIPS, GAINS, strict=True)}))]


def compared(capsys, *arguments: str) -> dict:
    assert main(["compare", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_verdict_of_a_case_worked_out_by_hand(pair, capsys):
    """Of 64 swaps those count whose flipped gains {1, 1, 2, 3, 3, 6} sum to at most 2 (5 of them) or at least 14."""
    found = compared(capsys, *pair)
    leading = found["metrics"]["J&F-Mean"]
    assert leading["reference"] == pytest.approx(0.5)
    assert leading["difference"] == pytest.approx(0.02)
    assert leading["p"] == leading["p_holm"] == 10 / 64
    means = [sum(drawn) / 600 for drawn in itertools.product(GAINS, repeat=6)]  # every resample there is
    assert leading["interval"] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.002)
    # 2.8 standard errors: the squares of (-1, -1, 1, 1, 4, -4) sum to 36, and sqrt(36 / 6 / 6) = 1 point
    assert leading["detectable"] == pytest.approx(2.8016 * 0.01, rel=0.02)
    low, high = (f"{100 * end:+.1f}" for end in leading["interval"])
    assert found["verdict"] == f"J&F +2.0 [{low}, {high}], p 0.16: not significant; 6 clips show 2.8 or more"
    assert found["significant"] is False
    assert found["resampled"] == {"kind": "clips", "number": 6}
    assert [found["per_clip"][clip]["difference"] for clip in CLIPS] == pytest.approx([g / 100 for g in GAINS])


def test_a_gain_in_every_clip_is_significant(davis, capsys):
    runs = [davis(spec, {clip: [j] for clip in CLIPS}) for spec, j in (("a.pth", 0.5), ("b.pth", 0.6))]
    found = compared(capsys, *map(str, runs))
    assert found["metrics"]["J&F-Mean"]["p"] == 2 / 64  # none swapped, or all
    assert found["verdict"].startswith("J&F +10.0 [+10.0, +10.0], p 0.031: significant")
    assert found["significant"] is True


def test_the_text_names_settings_first_then_the_verdict_then_what_moved_most(pair, capsys):
    assert main(["compare", *pair]) == 0
    text = capsys.readouterr().out
    places = [text.index(part) for part in ("settings that differ", "checkpoint.spec", "J&F +2.0 [", "5 of 6 clips")]
    assert places == sorted(places)
    last = [line.split() for line in text.rstrip().splitlines()[-5:]]
    assert last[0] == ["clip4", "50.0", "56.0", "+6.0"]
    assert [row[-1] for row in last] == ["+6.0", "+3.0", "+3.0", "-2.0", "+1.0"]


def test_settings_that_agree_are_left_out_and_overrides_shown_by_value(davis, capsys):
    objects = {clip: [0.5] for clip in CLIPS}
    runs = [davis("a.pth", objects), davis("a.pth", objects, changes={"radius": 6})]
    found = compared(capsys, *map(str, runs))
    assert found["settings"] == {"affinity.radius": {"reference": 12.0, "run": 6.0}}
    assert found["verdict"] == "J&F is the same in each of 6 clips"


def test_objects_are_named_as_in_the_official_files(davis, capsys):
    base = {clip: [0.5, 0.5] for clip in CLIPS}
    runs = [davis("a.pth", base), davis("b.pth", {**base, "clip3": [0.6, 0.4]})]
    found = compared(capsys, *map(str, runs))
    assert len(found["per_object"]) == 12
    assert found["per_object"]["clip3_1"] == pytest.approx({"reference": 0.5, "run": 0.6, "difference": 0.1})
    assert found["per_object"]["clip3_2"]["difference"] == pytest.approx(-0.1)
    assert found["per_clip"]["clip3"]["difference"] == pytest.approx(0, abs=1e-12)


def test_joints_and_classes_carry_their_own_interval_and_p(finished, capsys):
    for task, part, number in (("jhmdb", "joint", 15), ("vip", "class", 20)):
        runs = [str(finished(task, spec, skill)) for spec, skill in (("a.pth", 0.4), ("b.pth", 0.6))]
        found = compared(capsys, *runs)
        parts = found[f"per_{part}"]
        assert len(parts) == number
        smallest = min(one["p"] for one in parts.values() if one["p"] is not None)
        assert all(one["p_holm"] >= one["p"] for one in parts.values() if one["p"] is not None)
        assert smallest >= (2 / 2**3 if task == "jhmdb" else 2 / 2**6)


def test_source_videos_are_what_is_resampled_and_too_few_can_show_nothing(finished, capsys):
    runs = [str(finished("jhmdb", spec, skill)) for spec, skill in (("a.pth", 0.4), ("b.pth", 0.6))]
    found = compared(capsys, *runs)  # clips 0 and 1, 2 and 3, 4 and 5 are cut from one video each
    assert found["resampled"] == {"kind": "source videos", "number": 3}
    assert len(found["per_clip"]) == 6
    assert found["verdict"].endswith("not significant, as nothing can be with 3 source videos (p is 0.25 or more)")


def test_p_is_corrected_for_the_number_of_runs(davis, pair, capsys):
    third = davis("third.pth", {clip: [0.6] for clip in CLIPS})
    assert main(["compare", *pair, str(third), "--json"]) == 0
    weak, strong = (one["metrics"]["J&F-Mean"] for one in json.loads(capsys.readouterr().out))
    assert (weak["p"], strong["p"]) == (10 / 64, 2 / 64)
    assert (weak["p_holm"], strong["p_holm"]) == (10 / 64, 4 / 64)  # Holm: the smaller times 2, the larger times 1
    assert main(["compare", *pair, str(third)]) == 0
    text = capsys.readouterr().out
    assert "C (third) against A (base)" in text
    assert "p 0.062 (Holm, 2 runs): not significant" in text


REFUSED: dict[str, dict[str, Any]] = {
    "protocol is davis/dino@1 there and davis/crw@1 here": {"protocol": "davis/crw"},
    "data is official-davis there and own-davis here": {"origin": "own"},
    "clips is 6 there and 4 without clip0, clip1 here": {"missing": CLIPS[:2]},
    "other score.left_out": {"changes": {"left_out": "first"}},
}


@pytest.mark.parametrize("words", REFUSED)
def test_runs_that_cannot_be_compared_are_refused_with_what_differs(davis, capsys, words):
    objects = {clip: [0.5] for clip in CLIPS}
    runs = [str(davis("a.pth", objects)), str(davis("b.pth", objects, **REFUSED[words]))]
    assert main(["compare", *runs]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{runs[1]} can't be compared with {runs[0]}: " in err
    assert words in err


def test_a_run_without_scored_frames_is_refused(finished, monkeypatch, capsys):
    monkeypatch.setitem(STATISTICS, "davis", lambda *_: {"J": [[]], "F": [[]]})
    runs = [str(finished("davis", spec, 0)) for spec in ("a.pth", "b.pth")]
    assert main(["compare", *runs]) == 2
    assert "no clip has a scored frame" in capsys.readouterr().err


def test_folders_may_hold_one_run_of_each_task(finished, tmp_path, capsys):
    for side, skill in (("before", 0.4), ("after", 0.5)):
        for task in STATISTICS:
            (tmp_path / side).mkdir(exist_ok=True)
            finished(task, f"{side}.pth", skill).rename(tmp_path / side / task)
    before, after = tmp_path / "before", tmp_path / "after"
    assert main(["compare", str(before), str(after), "--json"]) == 0
    assert {one["task"] for one in json.loads(capsys.readouterr().out)} == set(STATISTICS)
    assert main(["compare", str(before / "davis"), str(after)]) == 2
    assert "Compare runs of the same tasks." in capsys.readouterr().err
    finished("vip", "again.pth", 0.5).rename(after / "again")
    assert main(["compare", str(before), str(after)]) == 2
    assert "several runs of vip" in capsys.readouterr().err
    (after / "again/clips/clip0.json").write_text("{}")
    assert main(["compare", str(before), str(after)]) == 2
    assert "clip0.json" in capsys.readouterr().err


@pytest.mark.parametrize(("limit", "code"), [("2.0", 0), ("2.1", 1), ("-2", 0), ("nan", 2), ("much", 2)])
def test_fail_below_is_in_points(pair, capsys, limit, code):
    """The difference is 2 points; a limit of NaN would never fail."""
    outcome: object
    try:
        outcome = main(["compare", *pair, "--fail-below", limit])
    except SystemExit as error:  # argparse's
        outcome = error.code
    assert outcome == code
    assert ("is below the limit of +2.1 points" in capsys.readouterr().err) == (code == 1)


@pytest.mark.parametrize("width", [80, 200])
def test_no_line_is_wider_than_the_terminal(davis, monkeypatch, capsys, width):
    monkeypatch.setenv("COLUMNS", str(width))
    clips = dict(zip(CLIPS, ([0.5 + gain / 100] * 2 for gain in GAINS), strict=True))
    long = f"{'checkpoint-of-a-long-name' * 4}.pth"
    runs = [davis("a.pth", {clip: [0.5] * 2 for clip in CLIPS}), davis(long, clips, changes={"radius": 6})]
    assert main(["compare", *map(str, runs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    assert any(line.split() == ["affinity.radius", "12.0", "6.0"] for line in lines)  # never exchanged with columns


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    for name in ("walk", "run", "rest"):
        make_clip(tmp_path / "squares", name)
    return tmp_path / "squares"


def test_an_evaluation_is_compared_with_a_run(squares, tmp_path, capsys):
    options = ("--data", str(squares), "--set", "size=48", "--set", "multiple=8", "-q")

    def evaluated(*more: str) -> int:
        return main(["eval", "davis", *options, *more])

    base, new = tmp_path / "base", tmp_path / "new"
    assert evaluated("--ckpt", "identity", "--out", str(base)) == 0
    before = json.loads((base / "summary.json").read_text())["metrics"]["J&F-Mean"]
    capsys.readouterr()
    against = ("--ckpt", "rgb", "--out", str(new), "--against", str(base))
    assert evaluated(*against, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    (comparison,), (summary,) = printed["comparisons"], printed["results"]
    after = summary["metrics"]["J&F-Mean"]
    assert comparison["metrics"]["J&F-Mean"]["difference"] == pytest.approx(after - before)
    assert evaluated(*against, "--fail-below", "99") == 1
    out, err = capsys.readouterr()
    assert "nothing can be with 3 clips" in " ".join(out.split())
    assert "below the limit" in err

    make_clip(squares, "more")
    elsewhere = ("--ckpt", "rgb", "--out", str(tmp_path / "more"), "--against", str(base))
    assert evaluated(*elsewhere) == 2
    assert "This evaluation can't be compared with" in capsys.readouterr().err
    assert not (tmp_path / "more").exists()  # refused before the work
    assert evaluated("--ckpt", "rgb", "--fail-below", "1") == 2
    assert "--against" in capsys.readouterr().err
