"""Nothing is written inside a data set, whichever option names the place, and however the place is named.

The options are those of the command line's own parsers: one that is new has to be added here, or excused.
"""

import ctypes
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import davis_folder
import pytest
from clip_video import square_mask
from command_line import writing

from corrkit.cli import main
from corrkit.errors import UsageError
from corrkit.tasks.masks import write_mask
from corrkit.tasks.roots import require_outside_data

SMALL = "--set size=[64] --set multiple=16 --device cpu --quiet"
EVAL = f"eval davis --ckpt rgb --data DATA --workers 1 {SMALL}"
VERIFY = "verify dino-vits16 --task davis --data DATA --quiet"
CASES = {
    ("eval", "--out"): f"{EVAL} --out PLACE",
    ("eval", "--submission"): f"{EVAL} --out beside --submission PLACE.zip",
    (
        "sweep",
        "--out",
    ): f"sweep davis --ckpt rgb --data DATA --topk 1,2 --select-on val --workers 1 {SMALL} --out PLACE",
    ("score", "--csv-dir"): "score davis --pred RUN/predictions --data DATA --csv-dir PLACE",
    ("track", "--out"): f"track DATA/JPEGImages/480p/good --mask FIRST.png --ckpt rgb {SMALL} --out PLACE.mp4",
    ("verify", "--out"): f"{VERIFY} --ckpt RUN --out PLACE",
    ("verify", "--fetch"): f"{VERIFY} --out beside --fetch PLACE",
    ("clips export", "FOLDER"): "clips export PLACE --task davis",
    ("data manifest", "--out"): "data manifest DATA --out PLACE.csv",
    ("inspect", "--suggest"): "inspect demo --suggest PLACE.toml",
    ("convert", "OUT"): "convert demo PLACE.safetensors",
    ("pretrain", "--out"): (
        "pretrain siammae --scale tiny --data DATA/JPEGImages/480p --steps 1 --batch 1 --workers 0 --device cpu "
        "--out PLACE"
    ),
    ("leaderboard", "--out"): "leaderboard RUN --out PLACE.csv",
    ("report", "--out"): "report RUN --data DATA --no-features --out PLACE.html",
    ("report", "--figures"): "report RUN --data DATA --no-features --out beside.html --figures PLACE",
    ("card", "--out"): "card RUN --out PLACE",
    ("regress", "--junit"): "regress --ckpt identity --device cpu --quiet --baseline BASELINE.json --junit PLACE.xml",
}
BOTH = {("regress", "--baseline"): "regress --ckpt identity --device cpu --quiet --update --baseline PLACE.json"}
"""Options that are read, and written to beside another."""
ALL: dict[tuple[str, str], str] = {**CASES, **BOTH}
EXCUSED = {("data get", "--to"): "it makes the data set"}
NEW = {("clips export", "FOLDER"), ("eval", "--out")}
"""Take a new or an empty folder, or a run, so never one that holds other things."""
IMPOSSIBLE = {("verify", "--out"), ("verify", "--fetch")}
"""Cases that end with 2 where the place is sound, too: no genuine weights are at hand."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    davis_folder.make_clip(tmp_path / "DATA", "good", frames=3, size=(48, 64))
    write_mask(tmp_path / "FIRST.png", square_mask())
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "DATA")
    (tmp_path / "deep").symlink_to("link/JPEGImages")
    (tmp_path / "far").mkdir()
    (tmp_path / "far/way").symlink_to("../deep/480p")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the same data as `place` holds, and a baseline beside it."""
    made = tmp_path_factory.mktemp("made")
    davis_folder.make_clip(made / "DATA", "good", frames=3, size=(48, 64))
    words = EVAL.replace("DATA", str(made / "DATA")).split()
    assert main([*words, "--out", str(made / "run")]) == 0
    baseline = ["--baseline", str(made / "baseline.json")]
    assert main(["regress", "--ckpt", "identity", "--device", "cpu", "--quiet", "--update", *baseline]) == 0
    return made / "run"


def words_of(case: str, run: Path, named: str, data: str = "DATA") -> list[str]:
    names = {"DATA": data, "RUN": str(run), "BASELINE": str(run.with_name("baseline")), "PLACE": named}
    found = []
    for word in case.split():
        name = next((name for name in names if word.startswith(name)), None)
        found.append(word if name is None else names[name] + word.removeprefix(name))
    return found


def content(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(root.rglob("*"))
    }


NAMED = {
    "plain": ("DATA/x", "DATA"),
    "deep": ("DATA/JPEGImages/480p/good/x", "DATA"),
    "dots": ("other/../DATA/x", "DATA"),
    "dots within": ("DATA/JPEGImages/../../DATA/Annotations/../x", "./DATA"),
    "link": ("link/x", "DATA"),
    "data by a link": ("DATA/x", "link"),
    "both by links": ("link/x", "other/../link"),
    "link into it": ("deep/x", "DATA"),
    "link of links": ("far/way/good/x", "link"),
    "dots behind a link": ("far/way/../../new/x", "DATA"),
    "new folders": ("DATA/a/b/c/x", "DATA"),
    "slashes": ("DATA//./x", "DATA/"),
}


def test_every_option_that_writes_has_a_case():
    assert sorted({*CASES, *EXCUSED}) == sorted(writing())


@pytest.mark.parametrize("named", NAMED)
def test_no_option_writes_inside_a_data_set(named: str, place: Path, run: Path, capsys: pytest.CaptureFixture[str]):
    where, data = NAMED[named]
    before = content(place)
    for option, case in ALL.items():
        assert main(words_of(case, run, where, data)) == 2, option
        assert "lies inside the data set" in capsys.readouterr().err, option
        assert content(place) == before, option


def test_from_within_the_data_set_every_relative_place_is_inside(
    place: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    before = content(place)
    for here, where, data in (("DATA", "x", "."), ("DATA", "Annotations/x", ".."), ("DATA/JPEGImages", "x", "..")):
        monkeypatch.chdir(place / here)
        for option, case in ALL.items():
            if option[0] not in {"track", "pretrain", "eval", "sweep"} or data == ".":
                words = words_of(case.replace("FIRST.png", f"{place}/FIRST.png"), run, where, data)
                assert main(words) == 2, option
                assert "lies inside the data set" in capsys.readouterr().err, option
                assert content(place) == before, option


@pytest.mark.parametrize("option", ALL, ids=" ".join)
def test_a_place_that_holds_the_data_set_is_written_beside_it(
    option: tuple[str, str], place: Path, run: Path, capsys: pytest.CaptureFixture[str]
):
    """The folder above, a name beside the data's own, and a link from outside to a folder beside."""
    before = content(place / "DATA")
    (place / "beside_link").symlink_to("other")
    expected = {0, 1} if option not in IMPOSSIBLE else {2}
    wheres = ["beside_link/new", "DATA2"] if option in NEW else [".", "beside_link/new", "DATA2"]
    for where in wheres:
        case = ALL[option]
        is_folder = "PLACE" in case.split()
        named = where if is_folder or where != "." else "./file"
        code, said = main(words_of(case, run, named)), capsys.readouterr().err
        assert code in expected, (where, said)
        assert "inside the data set" not in said
        assert content(place / "DATA") == before


@pytest.mark.parametrize("option", [pair for pair, case in ALL.items() if "PLACE." in case], ids=" ".join)
def test_a_hard_link_to_a_file_of_the_data_is_replaced_and_the_data_stay(
    option: tuple[str, str], place: Path, run: Path
):
    """A file is written beside and takes the name: the other name keeps its content."""
    case = ALL[option]
    suffix = next(word for word in case.split() if word.startswith("PLACE.")).removeprefix("PLACE")
    os.link(place / "DATA/ImageSets/2017/val.txt", place / f"hard{suffix}")
    before = content(place / "DATA")
    main(words_of(case, run, "hard"))
    assert content(place / "DATA") == before


@pytest.mark.parametrize("option", [pair for pair, case in ALL.items() if "PLACE." in case], ids=" ".join)
def test_a_link_to_a_file_of_the_data_is_refused(
    option: tuple[str, str], place: Path, run: Path, capsys: pytest.CaptureFixture[str]
):
    case = ALL[option]
    suffix = next(word for word in case.split() if word.startswith("PLACE.")).removeprefix("PLACE")
    before = content(place / "DATA")
    (place / f"soft{suffix}").symlink_to("DATA/ImageSets/2017/new.txt")
    assert main(words_of(case, run, "soft")) == 2
    assert "inside the data set" in capsys.readouterr().err
    assert content(place / "DATA") == before


def moved(part: str, place: Path) -> Path:
    """The data set, where a run at `out` would fill a folder."""
    root = place / "out" / part
    root.parent.mkdir(parents=True)
    return (place / "DATA").rename(root)


@pytest.mark.parametrize("part", ["predictions", "clips", "predictions/good", "predictions/deeper/still"])
def test_a_run_fills_no_folder_that_holds_its_data(part: str, place: Path, capsys: pytest.CaptureFixture[str]):
    root = moved(part, place)
    before = content(place / "out")
    assert main(words_of(f"{EVAL} --out PLACE", place / "run", "out", str(root))) == 2
    assert "would be filled, and the data set" in capsys.readouterr().err
    assert content(place / "out") == before


def test_a_training_fills_no_folder_that_holds_its_data(place: Path, capsys: pytest.CaptureFixture[str]):
    root = moved("pictures", place)
    before = content(place / "out")
    case = CASES["pretrain", "--out"]
    assert main(words_of(case, place / "run", "out", str(root))) == 2
    assert "would be filled, and the data set" in capsys.readouterr().err
    assert content(place / "out") == before


# --- one folder by two names that no link tells -----------------------------------------------------------------------


@pytest.fixture
def bound(place: Path) -> Iterator[Callable[[Path], Path]]:
    """Mounts a folder at a second place, too; skipped where nothing may be mounted."""
    system = ctypes.CDLL(None, use_errno=True)
    places: list[Path] = []

    def bind(folder: Path) -> Path:
        target = place / f"bound{len(places)}"
        target.mkdir()
        if system.mount(os.fsencode(folder), os.fsencode(target), None, 4096, None) != 0:
            pytest.skip("needs the right to mount a folder")
        places.append(target)
        return target

    yield bind
    for target in places:
        assert system.umount2(os.fsencode(target), 2) == 0


def test_a_data_set_that_is_mounted_twice_is_one(
    bound: Callable[[Path], Path], place: Path, run: Path, capsys: pytest.CaptureFixture[str]
):
    """Videos and frames of one's own have no layout by which they are known at their other place."""
    second = bound(place / "DATA")
    frames = bound(place / "DATA/JPEGImages/480p/good")
    before = content(place / "DATA")
    for option, case in ALL.items():
        assert main(words_of(case, run, f"{second}/x")) == 2, option
        assert "lies inside the data set" in capsys.readouterr().err, option
    assert main(words_of(CASES["track", "--out"], run, f"{frames}/x")) == 2
    assert "lies inside the data set" in capsys.readouterr().err
    assert content(place / "DATA") == before


def test_names_that_differ_in_case_alone_are_one_folder_where_the_system_says_so(tmp_path: Path):
    (tmp_path / "Videos").mkdir()
    if not (tmp_path / "VIDEOS").exists():
        require_outside_data(tmp_path / "VIDEOS/x", tmp_path / "Videos")
        pytest.skip("needs a file system to which VIDEOS and Videos are one name")
    with pytest.raises(UsageError, match="inside the data set"):
        require_outside_data(tmp_path / "VIDEOS/x", tmp_path / "Videos")
