"""No name of a file, clip, protocol or network steers the terminal or fakes a line, whichever command prints it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from davis_folder import make_clip

import corrkit
from corrkit.cli import main
from corrkit.manifests.clips import read_manifest

NAME = "a\x1b[2J\u202e\x9b\x7f\u2028b\nfine: nothing wrong\r"
PROTOCOL = """
task = "davis"
extends = "dino"
summary = {name}
cite = {name}

[affinity]
topk = {{ value = 7, source = {name} }}
"""
DEMO = Path(corrkit.__file__).parent / "backbones/demo/demo.pth"
Shown = Callable[..., tuple[int, str]]


def in_toml(text: str) -> str:
    return '"' + "".join(c if c.isascii() and c.isprintable() else f"\\u{ord(c):04x}" for c in text) + '"'


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Shown:
    """Runs a command: its exit code and what it printed, in which nothing steers."""

    def run(*words: object) -> tuple[int, str]:
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        for line in (out + err).split("\n"):
            assert line.isprintable(), (words, line)
            assert not line.startswith("fine: nothing wrong"), words
        return code, out

    return run


def evaluation(folder: Path) -> list[str]:
    options = ["--dataset-name", NAME, "--name", NAME, "--set", "size=[48]", "--set", "multiple=8"]
    return ["eval", "davis", "--ckpt", "rgb", "--data", f"{folder}/{NAME}", *options]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, a data set of two clips (the second of which has lost a frame) and predictions, so named."""
    folder = tmp_path_factory.mktemp("place")
    shutil.copy(DEMO, folder / f"{NAME}.pth")
    make_clip(folder / NAME, NAME, frames=4, size=(48, 64))
    make_clip(folder / NAME, "b", frames=4, size=(48, 64))
    (folder / NAME / "ImageSets/2017/val.txt").unlink()
    (folder / "own.toml").write_text(PROTOCOL.format(name=in_toml(NAME)))
    for run in ("one", "two"):
        main([*evaluation(folder), "--out", f"{folder}/{run}{NAME}"])
    return folder


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_of_a_checkpoint(place: Path, shown: Shown, form: list[str]):
    assert shown("inspect", place / f"{NAME}.pth", *form)[0] == 0
    assert shown("inspect", place / f"{NAME}none.pth", *form)[0] == 2
    assert shown("inspect", "demo", "--layout", place / f"{NAME}.toml", *form)[0] == 2


def test_of_a_converted_one(place: Path, shown: Shown):
    assert shown("convert", place / f"{NAME}.pth", place / "new.safetensors")[0] == 0


@pytest.mark.parametrize("form", [[], ["--json"], ["--bibtex"], ["--explain"]])
def test_of_a_protocol(place: Path, shown: Shown, form: list[str]):
    shown("protocols", "show", place / "own.toml", *form)
    if form != ["--explain"]:
        shown("protocols", "diff", place / "own.toml", "davis/dino", *form)


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_of_a_clip_that_is_checked(place: Path, shown: Shown, form: list[str]):
    assert shown("data", "check", "davis", "--data", place / NAME, *form)[0] == 1
    shown("data", "check", "davis", "--data", place / NAME, "--dataset-name", NAME, *form)


def test_of_a_clip_in_a_manifest(place: Path, shown: Shown):
    code, out = shown("data", "manifest", place / NAME, "--task", "davis")
    assert (code, out) == (2, "")
    assert shown("data", "manifest", place / NAME, "--task", "davis", "--out", place / "own.csv")[0] == 0
    assert [clip.clip for clip in read_manifest(place / "own.csv")] == [NAME, "b"]


@pytest.mark.parametrize("form", [[], ["--json"], ["--format", "markdown"], ["--format", "latex"]])
def test_of_a_run(place: Path, shown: Shown, form: list[str]):
    runs = [place / f"{name}{NAME}" for name in ("one", "two")]
    assert shown("compare", *runs, *form)[0] == 0
    assert shown(*evaluation(place), "--out", runs[0], *form)[0] == 0
    if form != ["--json"]:
        assert shown("leaderboard", *runs, *form)[0] == 0


@pytest.mark.parametrize("suffix", ["csv", "md", "tex", "html"])
def test_of_a_run_in_a_file(place: Path, shown: Shown, suffix: str):
    runs = [place / f"{name}{NAME}" for name in ("one", "two")]
    assert shown("leaderboard", *runs, "--out", place / f"board.{suffix}")[0] == 0
    lines = (place / f"board.{suffix}").read_text().split("\n")
    assert [line for line in lines if not line.isprintable() or line.startswith("fine: nothing wrong")] == []


def test_of_a_run_in_a_report(place: Path, shown: Shown):
    assert shown("report", place / f"one{NAME}", "--out", place / "report.html", "--no-features")[0] == 0
    lines = (place / "report.html").read_text().split("\n")
    assert [line for line in lines if not line.isprintable() or line.startswith("fine: nothing wrong")] == []
