"""The run folder: resuming, fingerprints, damaged files, file names, unwritable and full disks."""

import fcntl
import json
import math
import os
import subprocess
import sys
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from corrkit.errors import RunError
from corrkit.files import atomic
from corrkit.files.jsontext import from_json, table_of, to_json, with_nan
from corrkit.runs.folder import Run, clip_file_name, default_folder, differences, kept_predictions

FINGERPRINT = {"protocol": "davis/dino@1", "checkpoint": {"digest": "ab" * 32}, "precision": "float32", "overrides": {}}
CLIP_NAMES = st.text(st.characters(), min_size=1, max_size=60)
NUMBERS = st.floats(allow_infinity=False) | st.integers(-(10**12), 10**12)
RECORDS = st.dictionaries(
    st.text(max_size=8), NUMBERS | st.text(max_size=8) | st.lists(NUMBERS, max_size=4), max_size=4
)


@given(CLIP_NAMES)
@example("half \ud800")
@example("a" * 30 + "\U0001f9ff" * 30)
def test_a_clip_name_survives_its_file_name(name):
    file = clip_file_name(name)
    assert "/" not in file
    assert not file.startswith(".")
    assert len(os.fsencode(file)) <= 255
    stem = file.removesuffix(".json")
    whole = unquote(stem, errors="surrogatepass")
    assert whole == name or ("%~" in stem and len(name.encode(errors="surrogatepass")) > 60)


def test_plain_names_stay_readable():
    assert clip_file_name("car-shadow") == "car-shadow.json"
    assert clip_file_name("bike@2/left 1") == "bike@2%2Fleft%201.json"
    assert clip_file_name("..") == "%2E..json"


def test_long_names_get_distinct_files():
    names = [f"{'x' * 300}{n}" for n in range(20)]
    assert len({clip_file_name(name) for name in names}) == 20


@given(RECORDS)
def test_a_record_survives_the_disk_bit_for_bit(record):
    assert same(with_nan(from_json(to_json(record))), record)


def test_nan_is_null_and_numpy_numbers_are_numbers():
    text = to_json({"a": math.nan, "b": np.float32(0.5), "c": np.array([[1, 2]]), "d": (np.float64("nan"), True)})
    assert json.loads(text) == {"a": None, "b": 0.5, "c": [[1, 2]], "d": [None, True]}


def test_infinity_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"a": math.inf})


def test_a_resumed_run_knows_its_finished_clips(tmp_path):
    run = Run.open(tmp_path / "run", FINGERPRINT, {"host": "a"})
    run.write_clip("b", {"J": [0.1, math.nan], "timing": {"seconds": 1.5}})
    run.write_clip("a/ä", {"J": [1 / 3]})
    resumed = Run.open(tmp_path / "run", FINGERPRINT, {"host": "other"})
    assert list(resumed.finished) == ["a/ä", "b"]
    assert same(resumed.finished, run.finished)
    assert resumed.finished["a/ä"]["J"] == [1 / 3]
    assert resumed.notes == ()
    assert json.loads((tmp_path / "run/run.json").read_text())["recorded"] == {"host": "a"}


def test_another_fingerprint_is_refused_with_every_difference_named(tmp_path):
    Run.open(tmp_path, FINGERPRINT, {})
    other = {
        **FINGERPRINT,
        "precision": "bfloat16",
        "overrides": {"affinity.radius": 6},
        "checkpoint": {"digest": "cd"},
    }
    with pytest.raises(RunError) as raised:
        Run.open(tmp_path, other, {})
    problem = raised.value.problem
    assert str(tmp_path) in problem
    assert "precision is float32 there and bfloat16 now" in problem
    assert f"checkpoint.digest is {'ab' * 32} there and cd now" in problem
    assert "overrides.affinity.radius is absent there and 6 now" in problem
    assert "protocol" not in problem
    assert "--out" in raised.value.remedy
    assert f"delete {tmp_path}" in raised.value.remedy


FLAT = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2) | st.floats(0, 1) | st.just(()), max_size=4)
NESTED = st.dictionaries(st.sampled_from("wxyz"), st.integers(0, 2) | FLAT, max_size=4)


@given(NESTED, NESTED)
def test_differences_are_empty_exactly_for_equal_fingerprints(old, new):
    stored, now = (table_of(from_json(to_json(tables))) for tables in (old, new))
    assert (differences(stored, new) == {}) == (stored == now)


def test_the_order_of_fields_makes_no_difference(tmp_path):
    run = Run.open(tmp_path, FINGERPRINT, {})
    run.write_clip("a", {"J": 1.0})
    assert list(Run.open(tmp_path, dict(reversed(FINGERPRINT.items())), {}).finished) == ["a"]


@pytest.mark.parametrize("damage", ["", "{", "[1]", '{"clip": "b"}', "null", "\x00\x00", '{"clip": "b", "fingerprint'])
def test_a_damaged_record_is_named_and_computed_again(tmp_path, damage):
    run = Run.open(tmp_path, FINGERPRINT, {})
    for name in "abc":
        run.write_clip(name, {"J": 1.0})
    (tmp_path / "clips/b.json").write_text(damage)
    resumed = Run.open(tmp_path, FINGERPRINT, {})
    assert list(resumed.finished) == ["a", "c"]
    (note,) = resumed.notes
    assert "clips/b.json" in note
    assert "computed again" in note
    resumed.write_clip("b", {"J": 1.0})
    assert Run.open(tmp_path, FINGERPRINT, {}).notes == ()


def test_a_record_under_another_clips_name_is_not_taken(tmp_path):
    Run.open(tmp_path, FINGERPRINT, {}).write_clip("a", {"J": 1.0})
    (tmp_path / "clips/a.json").rename(tmp_path / "clips/b.json")
    resumed = Run.open(tmp_path, FINGERPRINT, {})
    assert resumed.finished == {}
    assert "'a'" in resumed.notes[0]


def test_a_damaged_run_json_is_written_again_and_the_clips_are_kept(tmp_path):
    Run.open(tmp_path, FINGERPRINT, {}).write_clip("a", {"J": 1.0})
    whole = (tmp_path / "run.json").read_bytes()
    for damaged in (whole[:40], b'{"recorded": {}}'):
        (tmp_path / "run.json").write_bytes(damaged)
        resumed = Run.open(tmp_path, FINGERPRINT, {})
        assert "run.json" in resumed.notes[0]
        assert list(resumed.finished) == ["a"]
        assert (tmp_path / "run.json").read_bytes() == whole


def test_clips_of_other_settings_are_refused_even_without_run_json(tmp_path):
    Run.open(tmp_path, FINGERPRINT, {}).write_clip("a", {"J": 1.0})
    (tmp_path / "run.json").unlink()
    with pytest.raises(RunError, match="other settings"):
        Run.open(tmp_path, {**FINGERPRINT, "precision": "bfloat16"}, {})
    assert list(Run.open(tmp_path, FINGERPRINT, {}).finished) == ["a"]


def test_a_folder_with_other_files_is_not_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RunError, match=r"thesis\.tex"):
        Run.open(tmp_path, FINGERPRINT, {})
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(RunError, match="is a file"):
        Run.open(tmp_path / "run", FINGERPRINT, {})
    with pytest.raises(RunError, match=r"run.*can't be written") as raised:
        Run.open(tmp_path / "run" / "below", FINGERPRINT, {})
    assert "--out" in raised.value.remedy


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to read-only folders")
def test_a_read_only_folder_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match="Permission denied"):
        Run.open(tmp_path / "run", FINGERPRINT, {})


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from corrkit.errors import RunError
from corrkit.runs.folder import Run
run = Run.open(Path(sys.argv[1]), {"a": 1}, {})
run.write_clip("first", {"J": 1.0})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    run.write_clip("second", {"J": [0.123456789] * 10000})
except RunError as error:
    print(error)
"""


def test_a_full_disk_names_path_and_remedy_and_keeps_finished_clips(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL_DISK, tmp_path / "r"], capture_output=True, text=True, check=True)
    problem, remedy = done.stdout.strip().split("\n")
    assert "second.json can't be written" in problem
    assert "Free some space" in remedy
    assert [path.name for path in (tmp_path / "r/clips").iterdir()] == ["first.json"]
    assert list(Run.open(tmp_path / "r", {"a": 1}, {}).finished) == ["first"]


def written_by_a_library(path, text):
    with atomic.placing(path) as file:
        file.write_text(text)


@pytest.mark.parametrize("write", [atomic.write_atomic, written_by_a_library])
def test_what_a_killed_writer_left_is_removed_by_the_next(write, tmp_path):
    (tmp_path / f"{atomic.TEMPORARY}file").write_text("half")
    (tmp_path / f"{atomic.TEMPORARY}folder").mkdir()
    (tmp_path / f"{atomic.TEMPORARY}folder/inside").write_text("half")
    write(tmp_path / "a", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_temporary_files_of_living_writers_are_left_alone(tmp_path, monkeypatch):
    (tmp_path / f"{atomic.TEMPORARY}dead").write_text("half")
    seen = []

    def fsync_while_another_process_starts(descriptor):
        atomic.remove_abandoned(tmp_path)
        seen.append(sorted(path.name for path in tmp_path.iterdir()))

    monkeypatch.setattr(os, "fsync", fsync_while_another_process_starts)
    atomic.write_atomic(tmp_path / "a", "whole")
    assert len(seen[0]) == 1
    assert seen[0][0].startswith(atomic.TEMPORARY)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "whole"}


@pytest.mark.parametrize("write", [atomic.write_atomic, written_by_a_library])
@pytest.mark.parametrize("is_gone", [True, False])
def test_a_temporary_taken_before_it_was_locked_is_written_again(write, is_gone, tmp_path, monkeypatch):
    """Another process takes it for abandoned: it has removed it, or holds its lock and is about to."""
    original, calls = fcntl.flock, list[int]()

    def flock(descriptor, kind):
        calls.append(descriptor)
        if len(calls) == 1 and not is_gone:
            raise BlockingIOError
        for path in tmp_path.iterdir() if len(calls) == 1 else ():
            path.rmdir() if path.is_dir() else path.unlink()
        return original(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", flock)
    write(tmp_path / "a", "whole")
    assert (tmp_path / "a").read_text() == "whole"
    assert is_gone or len(list(tmp_path.iterdir())) == 2  # what the other process is about to remove


def test_the_default_folder_is_named_after_checkpoint_task_and_protocol():
    assert (
        str(default_folder("dino_vits16", "0123456789abcdef", "davis", "dino"))
        == "runs/dino_vits16-01234567-davis-dino"
    )
    assert str(default_folder("random:vit small@3", "", "vip", "crw")) == "runs/random-vit-small@3-vip-crw"
    assert str(default_folder("../..", "", "vip", "crw")) == "runs/checkpoint-vip-crw"


def same(one, two):
    """Equality in which NaN equals NaN and 1 differs from 1.0 and -0.0 from 0.0."""
    if isinstance(one, dict) and isinstance(two, dict):
        return list(one) == list(two) and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(same, one, two))
    return type(one) is type(two) and repr(one) == repr(two)


def _race(folder, name, barrier):
    """Opens the run in a forked process and writes a clip: 0 for the run's owner or a joined one, 2 where refused."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        while not barrier.exists():
            pass
        run = Run.open(folder, {"checkpoint": name}, {"command": f"corrkit eval {name}", "host": "here"})
        for clip in "abc":
            run.write_clip(clip, {"J": 1.0, "by": name})
        code = 0
    except RunError as error:
        owner = {"one": "two", "two": "one"}[name]
        code = 2 if f"made by `corrkit eval {owner}` on here" in error.problem else 3
    finally:
        os._exit(code)


@pytest.mark.parametrize("pairs", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_of_two_runs_started_at_once_into_one_folder_one_wins(pairs, tmp_path):
    """Never two winners, never one run's clips under the other's run.json."""
    for number in range(pairs):
        folder, barrier = tmp_path / f"run{number}", tmp_path / f"start{number}"
        children = {name: _race(folder, name, barrier) for name in ("one", "two")}
        barrier.touch()
        codes = {name: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for name, child in children.items()}
        assert sorted(codes.values()) == [0, 2], codes
        (winner,) = (name for name, code in codes.items() if code == 0)
        assert json.loads((folder / "run.json").read_text())["fingerprint"] == {"checkpoint": winner}
        assert {json.loads(path.read_text())["record"]["by"] for path in (folder / "clips").iterdir()} == {winner}


def test_the_same_run_may_be_joined(tmp_path):
    for number in range(20):
        folder, barrier = tmp_path / f"run{number}", tmp_path / f"start{number}"
        children = [_race(folder, "one", barrier) for _ in range(3)]
        barrier.touch()
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]


def test_kept_is_said_only_of_what_is_kept(tmp_path, monkeypatch):
    run = Run.open(tmp_path / "run", FINGERPRINT, {})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=r"repeat the command\. No clip is finished yet"):
            run.write_clip("a", {"J": 1.0})
        with pytest.raises(RunError) as raised:
            atomic.write_atomic(tmp_path / "board.csv", "x")
        assert "kept" not in raised.value.remedy
    run.write_clip("a", {"J": 1.0})
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"1 finished clip\(s\) are kept"):
        run.write_clip("b", {"J": 1.0})


@pytest.mark.parametrize("change", [("1.0", "0.5"), ('"J"', '"K"'), ("{", "[" * 100_000), ("1.0", "Infinity")])
def test_a_record_that_was_changed_is_computed_again(tmp_path, change):
    Run.open(tmp_path, FINGERPRINT, {}).write_clip("a", {"J": 1.0})
    path = tmp_path / "clips/a.json"
    path.write_text(path.read_text().replace(*change))
    resumed = Run.open(tmp_path, FINGERPRINT, {})
    assert resumed.finished == {}
    assert "a.json is damaged: this clip is computed again" in resumed.notes[0]


def test_abandoned_folders_of_predictions_are_removed_and_living_ones_left(tmp_path):
    run = Run.open(tmp_path, FINGERPRINT, {})
    dead = tmp_path / "predictions" / f"{atomic.TEMPORARY}dead"
    dead.mkdir(parents=True)
    (dead / "a.png").write_bytes(b"half")
    with run.staging() as stage:
        (stage / "a").mkdir()
        (stage / "a/0.png").write_bytes(b"whole")
        Run.open(tmp_path, FINGERPRINT, {})
        assert not dead.exists()
        saved = run.keep_predictions(stage)
    assert list(saved) == ["a/0.png"]
    assert kept_predictions(run.predictions, saved) == "whole"
    assert [path.name for path in run.predictions.iterdir()] == ["a"]
    (run.predictions / "a/0.png").write_bytes(b"other")
    assert kept_predictions(run.predictions, saved) == "damaged"
    assert kept_predictions(run.predictions, {}) == "none"
    (run.predictions / "a/0.png").unlink()
    assert kept_predictions(run.predictions, saved) == "none"
