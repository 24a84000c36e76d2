"""One name that attacks whatever shows it, at every place a name can come from: what is shown and written is inert."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
import yaml
from clip_video import moving_square, square_mask, write_video
from davis_folder import make_clip

import corrkit
from corrkit.cli import main
from corrkit.tasks.masks import write_mask

ESCAPES = "\x1b[2J\x1b]8;;http:evil\x07\x9b\x7f\u202e\u2066\u200f\u2028\ufeff"
NAME = f"=1+1{ESCAPES}<img src=x onerror=alert(1)>\nfine: nothing wrong\r'\"&`|\\write18{{x}}%#_^~"
"""Fewer than 200 bytes, and no slash: it is also the name of files."""
MANIFEST = "manifest.csv"
DEMO = Path(corrkit.__file__).parent / "backbones/demo/demo.pth"
SMALL = ["--device", "cpu", "--set", "size=[48]", "--set", "multiple=8"]
Said = Callable[..., int]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Runs a command: its exit code. Nothing that it prints steers or fakes a line."""

    def run(*words: object) -> int:
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert [line for line in (out + err).split("\n") if not line.isprintable()] == [], words
        assert not re.search("^fine: nothing wrong", out + err, re.MULTILINE), words
        assert len(out + err) < 200_000, words
        return code

    return run


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint, data of three clips without a list, a video and points, all of one name, also inside of them."""
    monkeypatch.chdir(tmp_path)
    tree = torch.load(DEMO, weights_only=True)
    tree["recipe"]["name"] = NAME
    torch.save(tree, f"{NAME}.pth")
    for clip in (NAME, "@b", "-c"):
        make_clip(Path(NAME), clip, frames=3, size=(48, 64))
    shutil.rmtree(f"{NAME}/ImageSets")
    Path("layout").mkdir()
    write_video(Path("clip.mp4"), moving_square(3)).rename(f"{NAME}.mp4")
    write_mask(Path(f"{NAME}.png"), square_mask())
    with Path(f"{NAME}.csv").open("w", newline="") as file:
        csv.writer(file).writerow(["=1+1", 20, 20])
    return tmp_path


DATA = ["--data", NAME, "--dataset-name", NAME]
EVALUATION = ["eval", "davis", *DATA, *SMALL, "-q", "--workers", "1"]
TRAINING = (
    "--scale tiny --batch 2 --steps 2 --save-every 1 --device cpu "
    "--set views.size=32 --set views.gap=[1,1] --set masks.1.ratio=0.75"
)


def test_of_a_run(place: Path, said: Said):
    run = f"runs/{NAME}"
    assert said(*EVALUATION, "--ckpt", "rgb", "--name", NAME, "--seed-of", NAME, "--out", run) == 0
    assert said("card", run, "--by", NAME, "--out", f"out/{NAME}") == 0
    assert said("score", "davis", "--pred", f"{run}/predictions", *DATA, "--csv-dir", f"out/csv{NAME}") == 0
    check_files(place / "runs")
    check_files(place / "out")


@pytest.mark.slow
def test_of_a_whole_pipeline(place: Path, said: Said):
    runs = [f"runs/{network}{NAME}" for network in ("rgb", "hog")]
    for network, run in zip(("rgb", "hog"), runs, strict=True):
        assert said(*EVALUATION, "--ckpt", network, "--name", NAME, "--seed-of", NAME, "--out", run) == 0
    for form in (["--json"], ["--format", "markdown"], ["--format", "latex"], ["--reference-rows"]):
        assert said(*EVALUATION, "--ckpt", "rgb", "--name", NAME, "--seed-of", NAME, "--out", runs[0], *form) == 0
        assert said("compare", *runs, *(form if form != ["--reference-rows"] else [])) == 0
    assert said(*EVALUATION, "--ckpt", f"{NAME}.pth", "--out", f"runs/own{NAME}") == 0
    for suffix in ("csv", "md", "tex", "html"):
        board = ["leaderboard", "runs", "--out", f"out/{NAME}.{suffix}", "--reference", runs[0]]
        assert said(*board, *(["--wide"] if suffix == "csv" else [])) == 0
    assert said("report", "runs", "--out", f"out/{NAME}.html", "--figures", f"out/figures{NAME}", "--no-features") == 0
    assert said("card", runs[0], "--by", NAME, "--out", f"out/card{NAME}") == 0
    assert said("card", f"runs/own{NAME}") == 0
    assert said("sweep", "davis", "--ckpt", "rgb", "--topk", "3,5", "--out", f"out/sweep{NAME}", *DATA, *SMALL) == 0
    assert said("data", "manifest", NAME, "--task", "davis", "--out", f"out/{MANIFEST}") == 0
    said("data", "check", "davis", "--data", NAME, "--manifest", f"out/{MANIFEST}")
    tracked = ["track", f"{NAME}.mp4", "--ckpt", "rgb", *SMALL[:2], "--set"]
    assert said(*tracked, "size=[48]", "--mask", f"{NAME}.png", "--out", f"out/{NAME}.mp4") == 0
    assert said(*tracked, "size=[48,48]", "--points", f"{NAME}.csv", "--out", f"out/p{NAME}.mp4") == 0
    frames = f"{NAME}/JPEGImages/480p"
    assert said("pretrain", "siammae", "--data", frames, "--out", f"out/t{NAME}", *TRAINING.split()) == 0
    check_files(place / "runs")
    check_files(place / "out")


def test_of_a_checkpoint_and_its_faults(place: Path, said: Said):
    file = f"{NAME}.pth"
    for form in ([], ["--json"], ["--layout", f"{NAME}.toml"], ["--layer", NAME], ["--ckpt-key", NAME]):
        said("inspect", file, *form)
    said("inspect", file, "--suggest", f"out/{NAME}.toml")
    torch.save({NAME: {NAME: torch.zeros(3), f"blocks.{NAME}": torch.zeros(2, 3)}}, file)
    for command in (["inspect"], ["inspect", "--suggest", "out/own.toml"], ["eval", "davis", "--ckpt"]):
        assert said(command[0], file, *command[1:]) if command[0] == "inspect" else said(*command, file)
    said("convert", file, f"out/{NAME}.safetensors")
    torch.save({"model": {NAME: torch.zeros(1)}, "corrkit_pretrain": torch.tensor(1), "recipe": {NAME: NAME}}, file)
    assert said("inspect", file) == 2
    Path(file).write_bytes(NAME.encode())
    assert said("inspect", file) == 2
    check_files(place / "out")


def check_files(folder: Path) -> None:
    """Of every text among the files of a folder: no character steers, no line is faked, nothing runs or is computed."""
    texts = [path for path in folder.rglob("*") if path.is_file() and path.suffix in FORMS]
    texts = [path for path in texts if path.name != MANIFEST]  # which `data check` finds the clips by
    for path in texts:
        text = path.read_text(encoding="utf-8")
        assert [line for line in text.split("\n") if not line.isprintable()] == [], path
        FORMS[path.suffix](text)


def inert_csv(text: str) -> None:
    for row in csv.reader(text.splitlines()):
        for cell in row:
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r")) or float(cell) <= 0, cell


def inert_html(text: str) -> None:
    assert not re.search(r"<img src=x|onerror=alert\(1\)>", text)


def inert_markdown(text: str) -> None:
    body = re.sub(r"^(---|```).*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert not re.search(r"(?<!\\)<img|^fine: nothing wrong", body, re.MULTILINE)


def inert_tex(text: str) -> None:
    assert not re.search(r"\\write18\{|(?<!\\)\^\^|^fine: nothing", text, re.MULTILINE)


def inert_lines(text: str) -> None:
    assert not re.search("^fine: nothing wrong", text, re.MULTILINE)


FORMS: dict[str, Callable[[str], object]] = {
    ".csv": inert_csv,
    ".html": inert_html,
    ".svg": ElementTree.fromstring,
    ".xml": ElementTree.fromstring,
    ".md": inert_markdown,
    ".tex": inert_tex,
    ".json": json.loads,
    ".jsonl": inert_lines,
    ".yaml": yaml.safe_load,
    ".toml": inert_lines,
    ".txt": inert_lines,
}
