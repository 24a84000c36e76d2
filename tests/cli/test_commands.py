"""The command line as a process: stdout, stderr, exit codes, files."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from davis_folder import make_clip, make_clips

from corrkit.cli import main

SMALL = ("--set", "size=[64]", "--set", "multiple=16")


def corrkit(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "corrkit", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        timeout=300,
        check=False,
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_clips(tmp_path / "DAVIS")


def test_help_and_version_load_nothing_heavy():
    code = (
        "import sys; from corrkit.cli import main; code = main(sys.argv[1:]); "
        "heavy = {'numpy', 'torch', 'cv2', 'pandas', 'scipy', 'timm', 'PIL'} & set(sys.modules); "
        "sys.exit(f'loaded {heavy}' if heavy else code)"
    )
    for arguments in (["--help"], ["--version"], []):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), arguments
        assert "corrkit" in done.stdout


@pytest.mark.parametrize("command", ["eval", "score", "protocols", "clips", "data", "leaderboard", "compare", "doctor"])
def test_help_of_a_command_loads_nothing_heavy(command: str):
    code = (
        "import sys\nfrom corrkit.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "heavy = {'numpy', 'torch', 'cv2', 'pandas', 'scipy', 'timm', 'PIL'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, command, "--help"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"usage: corrkit {command}" in done.stdout


def test_table_on_stdout_and_talk_on_stderr(data: Path, tmp_path: Path):
    done = corrkit("eval", "davis", "--ckpt", "rgb", "--data", str(data), *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "J&F-Mean" in done.stdout
    assert "davis/dino@1" in done.stdout
    assert "modified protocol" in done.stdout
    assert "a: 4 frames" in done.stderr  # one plain line per clip off a terminal
    assert "\r" not in done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("rgb-")
    assert "-davis-dino-" in run.name  # and a mark of the overrides
    assert {"run.json", "clips", "summary.json", "summary.csv", "global_results-val.csv"} <= {
        path.name for path in run.iterdir()
    }


def test_json_is_the_summary_file(data: Path, tmp_path: Path):
    done = corrkit("eval", "davis", "--ckpt", "identity", "--data", str(data), "--json", "--out", "run", cwd=tmp_path)
    summary = json.loads(done.stdout)
    assert summary == json.loads((tmp_path / "run/summary.json").read_text())
    assert set(summary) == {
        *("task", "protocol", "checkpoint", "data", "precision", "device", "layer", "stride", "parameters"),
        *("versions", "modified", "unreleased", "partial", "clips", "objects", "metrics", "intervals", "per_clip"),
    }


def test_reference_rows_and_formats(data: Path, tmp_path: Path):
    options = ("eval", "davis", "--ckpt", "rgb", "--data", str(data), *SMALL, "--reference-rows")
    text = corrkit(*options, cwd=tmp_path).stdout
    assert "identity" in text
    assert "oracle" in text
    assert "|" in corrkit(*options, "--format", "markdown", cwd=tmp_path).stdout
    assert "\\toprule" in corrkit(*options, "--format", "latex", cwd=tmp_path).stdout


def test_failed_clip_prints_the_table_and_exits_with_2(data: Path, tmp_path: Path):
    (data / "JPEGImages/480p/b/00002.jpg").write_bytes(b"")
    done = corrkit("eval", "davis", "--ckpt", "rgb", "--data", str(data), *SMALL, cwd=tmp_path)
    assert done.returncode == 2
    assert "J&F-Mean" in done.stdout
    assert "partial" in done.stdout
    assert "failed: b:" in done.stderr
    assert "00002.jpg" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate"], "Did you mean 'eval'"),
        (["eval", "davs", "--ckpt", "rgb"], "Did you mean 'davis'"),
        (["eval", "davis"], "--ckpt"),
        (["eval", "davis", "--ckpt", "no_such_file.pth"], "no_such_file.pth"),
        (["eval", "davis", "--ckpt", "rgb", "--set", "radis=3"], "Did you mean 'radius'"),
        (["eval", "davis", "--ckpt", "rgb", "--set", "radius"], "NAME=VALUE"),
        (["eval", "davis", "--ckpt", "rgb", "--protocol", "dimo"], "Did you mean 'dino'"),
        (["eval", "davis", "--ckpt", "rgb", "--data", "nowhere"], "nowhere does not exist"),
        (["eval", "davis", "--ckpt", "rgb", "--no-such-option"], "--no-such-option"),
        (["score", "davis", "--pred", "nowhere"], "nowhere does not exist"),
        (["protocols", "davis/none"], "no protocol 'none'"),
    ],
)
def test_what_the_user_can_mend_exits_with_2_and_two_sentences(tmp_path: Path, arguments: list[str], words: str):
    done = corrkit(*arguments, cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["data", "task", "progress", "outs", "protocol", "save_predictions", "pred", "clips"])
def test_an_override_never_meets_an_option(data: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]):
    for command in (["eval", "davis", "--ckpt", "identity"], ["score", "davis", "--pred", "."]):
        assert main([*command, "--data", str(data), "--set", f"{name}={tmp_path}"]) == 2
        assert f"has no constant named {name!r}" in capsys.readouterr().err


def test_debug_shows_the_traceback(tmp_path: Path):
    done = corrkit("score", "davis", "--pred", "nowhere", "--debug", cwd=tmp_path)
    assert "Traceback" in done.stderr


def test_unwritable_output_is_named(data: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    done = corrkit("eval", "davis", "--ckpt", "identity", "--data", str(data), "--out", "file/run", cwd=tmp_path)
    assert done.returncode == 2
    assert "file" in done.stderr


def test_interrupt_says_what_is_done_and_how_to_go_on(data: Path, tmp_path: Path):
    for index in range(40):
        make_clip(data, f"more{index}", frames=4, size=(48, 64))
    # A shell may start background jobs with SIGINT ignored, and children inherit that.
    start = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from corrkit.cli import main"
    arguments = ["eval", "davis", "--ckpt", "rgb", "--data", str(data), "--out", "run"]
    command = [sys.executable, "-c", f"{start}; sys.exit(main())", *arguments]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "run" / "clips").glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert out == ""
    assert "kept in run" in err
    assert "Repeat the command" in err
    assert "Traceback" not in err
    assert not (tmp_path / "run/summary.json").exists()


def test_score_writes_official_csvs_where_asked(data: Path, tmp_path: Path):
    corrkit(
        "eval", "davis", "--ckpt", "rgb", "--data", str(data), *SMALL, "--save-predictions", "--out", "r", cwd=tmp_path
    )
    done = corrkit(
        "score", "davis", "--data", str(data), "--pred", "r/predictions", "--csv-dir", "tables", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    for name in ("global_results-val.csv", "per-sequence_results-val.csv"):
        assert (tmp_path / "tables" / name).read_text() == (tmp_path / "r" / name).read_text()


def test_submission_holds_every_frame_from_first_masks_alone(data: Path, tmp_path: Path):
    for path in (data / "Annotations/480p").rglob("*.png"):
        if path.stem != "00000":
            path.unlink()
    (data / "ImageSets/2017/val.txt").rename(data / "ImageSets/2017/test-dev.txt")
    done = corrkit(
        "eval", "davis", "--ckpt", "rgb", "--data", str(data), *SMALL, "--split", "test-dev", "--submission", "s.zip",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(tmp_path / "s.zip") as archive:
        assert archive.namelist() == [f"{clip}/{index:05d}.png" for clip in "abc" for index in range(4)]
    assert "without a scored frame" in done.stderr
    refused = corrkit("eval", "vip", "--ckpt", "rgb", "--submission", "s.zip", cwd=tmp_path)
    assert refused.returncode == 2


def test_all_takes_what_corrkit_data_holds(data: Path, tmp_path: Path):
    options = ("eval", "all", "--ckpt", "identity", "--out", "runs")
    done = corrkit(*options, cwd=tmp_path, CORRKIT_DATA=str(data.parent))
    assert done.returncode == 0, done.stderr
    assert "davis/dino@1" in done.stdout
    assert "vip" not in done.stdout
    assert (tmp_path / "runs/davis/summary.json").is_file()
    assert corrkit(*options, "--data", str(data), cwd=tmp_path).returncode == 2
    (tmp_path / "JHMDB").mkdir()
    broken = corrkit(*options, cwd=tmp_path, CORRKIT_DATA=str(data.parent))
    assert broken.returncode == 2
    assert "failed: jhmdb:" in broken.stderr
    assert "davis/dino@1" in broken.stdout
    lacking = corrkit(*options, "--protocol", "dino", cwd=tmp_path, CORRKIT_DATA=str(tmp_path / "empty"))
    assert lacking.returncode == 2


def test_protocols_prints_every_constant_with_its_source():
    done = corrkit("protocols", "davis/dino")
    assert "affinity.topk = 5" in done.stdout
    assert "eval_video_segmentation.py:263" in done.stdout
    assert "davis/dino@1 (default)" in corrkit("protocols").stdout


def test_closed_pipe_is_no_error():
    done = subprocess.run(
        f"{sys.executable} -m corrkit protocols davis/dino | head -n 1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
