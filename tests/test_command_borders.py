"""Each option of each command that names what is read, under an audit hook: hostile inputs do nothing but be refused.

No process, no socket, nothing written outside of where the command was told to, nothing read that it was not given. The
options are those of the command line's own parsers: one that is new has to be added here, or excused.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import davis_folder
import pytest
from clip_video import moving_square, square_mask, write_video
from command_line import every_option, reading
from hostile_inputs import HOSTILE
from local_server import serve

from corrkit.cli import main
from corrkit.tasks.masks import write_mask
from tests.test_borders import watched

SMALL = "--set size=[32] --set multiple=8 --device cpu"
EVAL = f"eval davis --ckpt rgb --data DATA --out NEW --quiet --workers 1 {SMALL}"
SWEEP = f"sweep davis --ckpt rgb --data DATA --topk 1 --out NEW --quiet --workers 1 {SMALL} --select-on val"
SCORE = "score davis --pred RUN/predictions --data DATA --allow-partial"
TRACK = "track VIDEO --mask FIRST --ckpt rgb --out NEW.mp4 --quiet --device cpu --set size=32"
PRETRAIN = (
    "pretrain siammae --scale tiny --data DATA/JPEGImages/480p --out NEW --steps 1 --batch 1 --workers 0 --device cpu"
)
CASES = {
    ("eval", "--ckpt"): f"{EVAL} --ckpt HOSTILE",
    ("eval", "--data"): f"{EVAL} --data HOSTILE",
    ("eval", "--split"): f"{EVAL} --split HOSTILE",
    ("eval", "--protocol"): f"{EVAL} --protocol HOSTILE",
    ("eval", "--layout"): f"{EVAL} --ckpt demo --layout HOSTILE",
    ("eval", "--against"): f"{EVAL} --against HOSTILE",
    ("sweep", "--ckpt"): f"{SWEEP} --ckpt HOSTILE",
    ("sweep", "--data"): f"{SWEEP} --data HOSTILE",
    ("sweep", "--select-on"): f"{SWEEP} --select-on HOSTILE",
    ("sweep", "--report-on"): f"{SWEEP} --report-on HOSTILE",
    ("sweep", "--protocol"): f"{SWEEP} --protocol HOSTILE",
    ("sweep", "--layout"): f"{SWEEP} --ckpt demo --layout HOSTILE",
    ("score", "--pred"): f"{SCORE} --pred HOSTILE",
    ("score", "--data"): f"{SCORE} --data HOSTILE",
    ("score", "--split"): f"{SCORE} --split HOSTILE",
    ("score", "--protocol"): f"{SCORE} --protocol HOSTILE",
    ("track", "VIDEO"): TRACK.replace("VIDEO", "HOSTILE"),
    ("track", "--mask"): TRACK.replace("FIRST", "HOSTILE"),
    ("track", "--points"): TRACK.replace("--mask FIRST", "--points HOSTILE"),
    ("track", "--ckpt"): f"{TRACK} --ckpt HOSTILE",
    ("track", "--protocol"): f"{TRACK} --protocol HOSTILE",
    ("track", "--layout"): f"{TRACK} --ckpt demo --layout HOSTILE",
    ("protocols", "WHAT"): "protocols show HOSTILE",
    ("verify", "--ckpt"): "verify dino-vits16 --task davis --data DATA --out NEW --quiet --ckpt HOSTILE",
    ("verify", "--data"): "verify dino-vits16 --task davis --data HOSTILE --out NEW --quiet --ckpt NONE",
    ("data check", "--data"): "data check davis --data HOSTILE --dataset-name x",
    ("data check", "--manifest"): "data check davis --data DATA --manifest HOSTILE",
    ("data manifest", "DATA"): "data manifest HOSTILE --out NEW.csv",
    ("data get", "--sources"): "data get davis --sources HOSTILE --to NEW --yes",
    ("inspect", "FILE"): "inspect HOSTILE",
    ("inspect", "--layout"): "inspect demo --layout HOSTILE",
    ("convert", "FILE"): "convert HOSTILE NEW.safetensors",
    ("convert", "--layout"): "convert demo NEW.safetensors --layout HOSTILE",
    ("pretrain", "RECIPE"): PRETRAIN.replace("siammae", "HOSTILE"),
    ("pretrain", "--data"): f"{PRETRAIN} --data HOSTILE",
    ("pretrain", "--init"): f"{PRETRAIN} --init HOSTILE",
    ("leaderboard", "RUNS"): "leaderboard HOSTILE --out NEW.html",
    ("leaderboard", "--reference"): "leaderboard RUN --reference HOSTILE",
    ("compare", "REFERENCE"): "compare HOSTILE RUN",
    ("compare", "RUNS"): "compare RUN HOSTILE",
    ("report", "RUNS"): "report HOSTILE --out NEW.html --quiet",
    ("report", "--data"): "report RUN --data HOSTILE --out NEW.html --quiet --no-features",
    ("card", "RUNS"): "card HOSTILE --out NEW",
    ("regress", "--ckpt"): "regress --baseline NEW.json --update --quiet --device cpu --ckpt HOSTILE",
    ("regress", "--baseline"): "regress --ckpt rgb --quiet --device cpu --baseline HOSTILE",
    ("regress", "--layout"): "regress --ckpt demo --baseline NEW.json --update --quiet --device cpu --layout HOSTILE",
}
"""Words of a command line whose HOSTILE is one of the border's inputs; a later option takes an earlier one's place."""
EXCUSED = {("pretrain", "--data", "playlist.mp4"): "a list of training data names videos wherever they lie"}
WARM = [PRETRAIN, TRACK, "convert demo NEW.safetensors", "report RUN --out NEW.html --quiet", "card RUN --out NEW"]
"""Sound commands that come first: importing torch's parts asks for libraries, by a process, and makes folders."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """given/ holds what the commands are given, secret/ what none may read, bin/gs a program that none may start."""
    place = tmp_path_factory.mktemp("borders")
    (place / "secret").mkdir()
    davis_folder.make_clip(place / "secret/DAVIS", frames=3)
    (place / "secret/file.png").write_bytes(b"secret")
    (place / "secret/x.toml").write_text('extends = "dino"\nversion = 1\n')
    (place / "bin").mkdir()
    (place / "bin/gs").write_text(f"#!/bin/sh\ntouch {place}/started\n")
    (place / "bin/gs").chmod(0o755)
    given = place / "given"
    davis_folder.make_clip(given / "DATA", "good", frames=3, size=(48, 64))
    write_video(given / "VIDEO.mp4", moving_square(3))
    write_mask(given / "FIRST.png", square_mask())
    run = f"eval davis --ckpt rgb --data {given}/DATA --out {given}/run --quiet --workers 1 {SMALL}"
    assert main(run.split()) == 0
    return place


def words_of(case: str, place: Path, hostile: Path | str, new: Path | str) -> list[str]:
    given = place / "given"
    names = {
        "RUN": f"{given}/run",
        "FIRST": f"{given}/FIRST.png",
        "VIDEO": f"{given}/VIDEO.mp4",
        "DATA": f"{given}/DATA",
    }
    found = []
    for word in case.split():
        for name, path in {**names, "HOSTILE": str(hostile), "NEW": str(new)}.items():
            if word.startswith(name):
                word = path + word.removeprefix(name)
                break
        found.append(word)
    return found


def test_every_option_that_reads_has_a_case():
    assert sorted(CASES) == sorted(reading())


PLANTED = """
import os, shutil, socket, subprocess
from pathlib import Path
place = Path(__file__).parents[1]
subprocess.run(["true"])
os.system("true")
with socket.socket() as other:
    other.connect_ex(("127.0.0.1", 9))
os.listdir(place / "secret")
(place / "secret/file.png").read_bytes()
Path("/etc/hostname").read_text()
(place / "given/new.txt").write_text("x")
(place / "given/new.txt").rename(place / "given/newer.txt")
(place / "given/newer.txt").unlink()
"""
SEEN = {
    "subprocess.Popen": "true",
    "os.system": "true",
    "socket.connect": "127.0.0.1",
    "os.listdir": "secret",
    "open": "file.png",
    "open ": "/etc/hostname",
    "open  ": "new.txt",
    "os.rename": "newer.txt",
    "os.remove": "newer.txt",
}


def test_the_watch_sees_what_a_command_does(place: Path):
    """Else the other tests here couldn't fail: a network that is code does each of what is forbidden."""
    (place / "given/planted.py").write_text(PLANTED)
    out = place / "planted"
    out.mkdir()
    words = words_of(f"{EVAL} --ckpt py:{place}/given/planted.py:make", place, "", "new")
    answer = watched(place, [["command", *words]], [], None, out=out, given=[f"{place}/given"])
    (outcome,) = answer["outcomes"]
    assert outcome.startswith("2: ")
    for event, told in SEEN.items():
        assert any(line.startswith(f"{event.strip()} ") and told in line for line in answer["events"]), (event, told)


Pairs = list[tuple[tuple[str, str], Path]]


@pytest.fixture(scope="module")
def run_all(place: Path) -> Iterator[Callable[[Pairs], None]]:
    """Runs the case of each option with an input: exit code 0, 1 or 2, and nothing that is forbidden happens."""
    with serve() as server:
        for kind, make in HOSTILE.items():
            (place / "hostile" / kind).mkdir(parents=True)
            make(place / "hostile" / kind, place, server.url)
        host, port = server.url.removeprefix("http://").split(":")

        def run(pairs: Pairs) -> None:
            out = place / f"out{len(pairs)}"
            out.mkdir()
            jobs = [["command", *words_of(CASES[case], place, path, f"new{n}")] for n, (case, path) in enumerate(pairs)]
            warm = [["command", *words_of(case, place, "", f"warm{n}")] for n, case in enumerate(WARM)]
            given = [f"{place}/given", *{str(path.parent) for _, path in pairs}]
            answer = watched(place, jobs, warm, [host, int(port)], out=out, given=given)
            told = [(event, pairs[int(event.rpartition(" ")[2])]) for event in answer["events"]]
            assert told == []
            asked = {name for name, *_ in server.requests}
            assert asked <= {"", "..%2f..%2fevil"}, "a list of sources names these alone"
            assert not (place / "started").exists(), "a program was started"
            counts: dict[str, Counter[str]] = {}
            for (case, path), outcome in zip(pairs, answer["outcomes"], strict=True):
                code = outcome.partition(":")[0]
                counts.setdefault(every_option()[case], Counter())[code] += 1
                assert code in {"0", "1", "2"}, (case, path.name, outcome)
            print(*(f"{kind}: {dict(codes)}" for kind, codes in counts.items()), sep="\n")
            assert all(codes["2"] for codes in counts.values()), "nothing of a kind was refused"

        yield run


def inputs_of(place: Path, case: tuple[str, str]) -> list[Path]:
    made = sorted((place / "hostile" / every_option()[case]).iterdir())
    return [path for path in made if (*case, path.name) not in EXCUSED]


def test_a_hostile_input_of_every_option_does_nothing_but_be_refused(place: Path, run_all: Callable[[Pairs], None]):
    """One each, and of a kind all in turn."""
    turns: Counter[str] = Counter()
    pairs = []
    for case in CASES:
        kind, inputs = every_option()[case], inputs_of(place, case)
        pairs.append((case, inputs[turns[kind] * 3 % len(inputs)]))
        turns[kind] += 1
    run_all(pairs)


@pytest.mark.slow
def test_all_hostile_inputs_of_every_option_do_nothing_but_be_refused(place: Path, run_all: Callable[[Pairs], None]):
    run_all([(case, path) for case in CASES for path in inputs_of(place, case)])


@pytest.mark.slow
@pytest.mark.golden
def test_shared_attacks_do_nothing_but_be_refused(shared: Path, run_all: Callable[[Pairs], None]):
    roots = sorted(path.parent for path in (shared / "attack").glob("*/JPEGImages"))
    run_all([(case, root) for case in CASES if every_option()[case] == "data" for root in roots])
