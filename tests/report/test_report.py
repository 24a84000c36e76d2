"""The page: what it holds, that it opens offline, and that nothing in it comes alive."""

import base64
import html.parser
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import davis_folder
import numpy as np
import pytest
from browser import browser  # noqa: F401 - a fixture
from colour_backbone import ColourBackbone
from PIL import Image
from scripted import Scripted
from stored_runs import writer_of_runs

from corrkit.errors import RunError, UsageError
from corrkit.evaluation import evaluate
from corrkit.report import write_report
from corrkit.runs.tables import results_table

EVIL = "<script>alert(1)<script>&\"'"
EVIL_CLIP = "a<img src=x onerror=alert(1)>\u202e"
SMALL: dict[str, Any] = {"size": [48], "multiple": 8}


class Page(html.parser.HTMLParser):
    """Tags with their attributes, the text, and the cells of each table row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self._cell = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self._cell = True
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data):
        self.text += data
        if self._cell:
            self.rows[-1][-1] += data


def lost(index, truth):
    if index >= 3:
        truth[truth == 1] = 0
    return truth


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for name in ("walk", "run", EVIL_CLIP):
        davis_folder.make_clip(root, name, frames=7, size=(48, 64))
    return root


@pytest.fixture(scope="module")
def runs(tmp_path_factory, data: Path) -> dict[str, Path]:
    """One of a spec with a network that is run again, two that are scripted, one without predictions."""
    folder = tmp_path_factory.mktemp("runs")
    evaluate("davis", "rgb", data=data, out=folder / "rgb", **SMALL)
    evaluate("davis", Scripted(EVIL, lost), data=data, out=folder / "evil")
    evaluate("davis", Scripted("bare", lost), data=data, out=folder / "bare", save_predictions=False)
    return {name: folder / name for name in ("rgb", "evil", "bare")}


@pytest.fixture(scope="module")
def report(runs, tmp_path_factory) -> Path:
    """Of the two that have predictions, with figures beside it."""
    out = tmp_path_factory.mktemp("report") / "report.html"
    write_report([runs["evil"], runs["rgb"]], out, figures=out.parent / "figures")
    return out


def test_the_page_needs_nothing_but_itself(report: Path):
    page = Page(report.read_text(encoding="utf-8"))
    addresses = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert len(addresses) >= 8
    assert all(value.startswith("data:image/webp;base64,") for value in addresses)
    assert not [tag for tag, attributes in page.tags if tag in ("link", "iframe") or (tag == "script" and attributes)]
    assert "url(" not in report.read_text(encoding="utf-8")


def test_names_from_files_and_checkpoints_stay_text(report: Path):
    text = report.read_text(encoding="utf-8")
    page = Page(text)
    assert "<script>alert" not in text
    assert "\u202e" not in text
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
    assert EVIL in page.text
    assert "a<img src=x onerror=alert(1)>\\u202e" in page.text
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 1


def test_the_table_has_the_runs_with_floor_and_ceiling(report: Path, runs):
    page = Page(report.read_text(encoding="utf-8"))
    rows = {row[0]: row[1:] for row in page.rows if row}
    summary = json.loads((runs["rgb"] / "summary.json").read_text())
    metrics = page.rows[0][1:]
    assert metrics[0] == "J&F-Mean"
    assert rows["rgb*"][0].startswith(f"{100 * summary['metrics']['J&F-Mean']:.1f}")
    floor = evaluate("davis", "identity", data=summary_root(runs["rgb"])).summary["metrics"]["J&F-Mean"]
    assert rows["identity (floor)"][0].startswith(f"{100 * floor:.1f}")
    assert "oracle (ceiling)" in rows
    low, high = summary["intervals"]["J&F-Mean"]
    assert f"{100 * low:.1f} – {100 * high:.1f}" in rows["rgb*"][0]


def summary_root(run: Path) -> str:
    return json.loads((run / "run.json").read_text())["recorded"]["data"]


def test_clips_objects_and_failures_are_those_of_the_records(report: Path, runs):
    page = Page(report.read_text(encoding="utf-8"))
    rows = {row[0]: row[1:] for row in page.rows if row}
    per_clip = [json.loads((runs[name] / "summary.json").read_text())["per_clip"] for name in ("evil", "rgb")]
    assert rows["walk"][:2] == [f"{100 * one['walk']['J&F-Mean']:.1f}" for one in per_clip]
    assert f"{EVIL}: 1 lost from frame 3" in rows["walk"][2]
    record = json.loads((runs["evil"] / "clips/walk.json").read_text())["record"]["statistics"]
    mean = np.mean([np.mean(record["J"][0]), np.mean(record["F"][0])])
    assert rows["walk_1"][0] == f"{100 * mean:.1f}"
    assert "1 lost from frame 3" in rows["walk_1"][2]
    assert "lost" not in rows["walk_2"][2].replace("rgb", "")


def test_origin_is_told(report: Path, runs):
    page = Page(report.read_text(encoding="utf-8"))
    rows = {row[0]: row[1:] for row in page.rows if row}
    recorded = json.loads((runs["rgb"] / "run.json").read_text())
    assert rows["data.identity"] == [recorded["fingerprint"]["data"]["identity"]]
    assert recorded["recorded"]["command"] in page.text


def test_the_network_is_run_again_and_an_object_is_not(report: Path, runs, tmp_path: Path):
    names = [path.name for path in (report.parent / "figures").iterdir()]
    assert "1-davis-worst-rgb-features.png" in names
    assert "1-davis-worst-rgb-matches.png" in names
    assert not [name for name in names if "alert" in name and "features" in name]
    assert "doesn't say how" in Page(report.read_text(encoding="utf-8")).text
    write_report([runs["rgb"]], tmp_path / "r.html", with_features=False)
    assert "What the network sees" not in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_a_run_of_somebody_else_starts_no_code(runs, tmp_path: Path):
    """A folder's run.json may name any file; `py:` would execute it."""
    (tmp_path / "theirs.py").write_text(
        f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\ndef made(): return None\n"
    )
    run = Path(shutil.copytree(runs["rgb"], tmp_path / "run"))
    document = json.loads((run / "run.json").read_text())
    for spec, trusted in (
        (f"py:{tmp_path / 'theirs.py'}:made", False),
        ("hf:a/b", False),
        (f"py:{tmp_path / 'theirs.py'}:made", True),
    ):
        document["recorded"]["model"] = {"spec": spec}
        (run / "run.json").write_text(json.dumps(document))
        write_report([run], tmp_path / "r.html", trusted=trusted)
        page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
        assert ("isn't loaded because a run's folder says so. Add --trust" in page.text) is not trusted
        assert (tmp_path / "ran").exists() is trusted


@pytest.mark.parametrize("origin", [{"spec": 7}, {"spec": "rgb", "heads": "x"}, {"spec": "rgb", "unknown": 1}, [], {}])
def test_a_damaged_origin_costs_the_features_alone(runs, tmp_path: Path, origin: object):
    run = Path(shutil.copytree(runs["rgb"], tmp_path / "run"))
    document = json.loads((run / "run.json").read_text())
    document["recorded"]["model"] = origin
    (run / "run.json").write_text(json.dumps(document))
    write_report([run], tmp_path / "r.html")
    assert "doesn't say how rgb can be loaded again" in Page((tmp_path / "r.html").read_text(encoding="utf-8")).text


def test_figures_are_pictures_of_what_was_predicted(report: Path):
    """In the strip of the scripted run's worst clip, truth and prediction are equal up to where object 1 is lost."""
    strip = np.asarray(Image.open(report.parent / "figures" / "1-davis-worst-strip.png").convert("RGB"), int)
    tile, gap, text = 230, 4, 18
    height = (strip.shape[0] - text) // 3 - text - gap
    top = [text + number * (text + height + gap) + text for number in range(3)]  # truth and two runs

    def cell(row: int, column: int) -> np.ndarray:
        return strip[top[row] : top[row] + height, column * (tile + gap) : column * (tile + gap) + tile]

    assert (cell(0, 0) == cell(1, 0)).all()
    assert (cell(0, 1) == cell(1, 1)).all()
    different = (cell(0, 4) != cell(1, 4)).any(axis=2)
    assert 0.02 < different.mean() < 0.3


def test_a_run_without_predictions_still_has_a_report(runs, tmp_path: Path):
    write_report([runs["bare"]], tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert (
        "no predictions of this clip are kept as they were saved; its command with --save-predictions makes them"
        in text
    )
    assert "1 lost from frame 3" in text
    assert "<svg" in text
    assert "data:image" not in text


def test_moved_data_are_asked_for_and_other_data_are_refused(data: Path, tmp_path: Path):
    shutil.copytree(data, tmp_path / "data")
    evaluate("davis", "rgb", data=tmp_path / "data", out=tmp_path / "run", **SMALL)
    (tmp_path / "data").rename(tmp_path / "moved")
    (note,) = write_report([tmp_path / "run"], tmp_path / "r.html")
    assert note.startswith(f"no pictures of {tmp_path / 'run'}: ")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "no pictures" in text
    assert "data:image" not in text
    write_report([tmp_path / "run"], tmp_path / "r.html", data=tmp_path / "moved")
    assert "data:image" in (tmp_path / "r.html").read_text(encoding="utf-8")
    mask = next((tmp_path / "moved/Annotations/480p/walk").iterdir())
    mask.write_bytes((tmp_path / "moved/Annotations/480p/walk/00006.png").read_bytes())
    write_report([tmp_path / "run"], tmp_path / "r.html", data=tmp_path / "moved")
    assert "are not those that" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_the_same_runs_give_the_same_bytes(runs, tmp_path: Path):
    for name in ("one", "two"):
        write_report([runs["rgb"]], tmp_path / f"{name}.html")
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_a_result_reports_on_itself_and_shows_itself(data: Path, tmp_path: Path):
    result = evaluate("davis", ColourBackbone(8), data=data, out=tmp_path / "run", name=EVIL, **SMALL)
    assert result.report(tmp_path / "r.html", figures=tmp_path / "figures") == tmp_path / "r.html"
    assert len(list((tmp_path / "figures").glob("*-strip.png"))) == 3
    shown = Page(result._repr_html_())
    assert EVIL in shown.text
    assert not [tag for tag, _ in shown.tags if tag in ("script", "link")]
    ((_, picture),) = [pair for pair in shown.tags if pair[0] == "img"]
    webp = base64.b64decode((picture["src"] or "").removeprefix("data:image/webp;base64,"))
    assert Image.open(io.BytesIO(webp)).size == Image.open(io.BytesIO(result._repr_png_())).size
    assert repr(result) == results_table([result.summary]).rstrip()
    assert f"{100 * result.summary['metrics']['J-Mean']:.1f}" in shown.text
    assert "walk" in shown.text
    with pytest.raises(UsageError, match="nothing to report on"):
        evaluate("davis", Scripted("x"), data=data).report(tmp_path / "x.html")


def test_training_on_the_benchmarks_videos_is_told(tmp_path: Path):
    run = writer_of_runs(tmp_path)("davis", "sam2.pt", 0.8, checkpoint={"system": "sam2"})
    write_report([run], tmp_path / "r.html")
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "trained on this benchmark's videos, or may be: DAVIS-2017 objects" in page.text
    assert any(row[:1] == ["sam2‖"] for row in page.rows)


def test_a_result_has_pictures_to_be_logged(data: Path, tmp_path: Path):
    """Those of the report, and in a notebook the strip of the worst clip; without predictions there are curves."""
    result = evaluate("davis", ColourBackbone(8), data=data, out=tmp_path / "run", **SMALL)
    figures = result.figures()
    assert {name for name in figures if name.endswith("-strip")} == {"best-strip", "median-strip", "worst-strip"}
    assert not [name for name in figures if "animation" in name]
    result.report(tmp_path / "r.html", figures=tmp_path / "figures")
    written = np.asarray(Image.open(tmp_path / "figures/1-davis-worst-strip.png"))
    assert np.array_equal(np.asarray(figures["worst-strip"]), written)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(result._repr_png_()))), written)
    shutil.rmtree(tmp_path / "run/predictions")
    assert result._repr_png_() is None
    assert all(name.endswith("-frames") for name in result.figures())
    shutil.rmtree(tmp_path / "run")
    assert result._repr_png_() is None, "a table is shown all the same"
    with pytest.raises(UsageError, match="nothing to draw"):
        evaluate("davis", Scripted("x"), data=data).figures()


def test_what_can_not_be_reported_on_is_refused(tmp_path: Path, runs, data: Path):
    with pytest.raises(RunError, match="does not exist"):
        write_report([tmp_path / "nothing"], tmp_path / "r.html")
    with pytest.raises(UsageError, match=r"FILE\.html"):
        write_report([runs["rgb"]], tmp_path / "r.pdf")
    with pytest.raises(UsageError, match="inside the data set"):
        write_report([runs["rgb"]], data / "r.html")


def test_the_command_says_what_it_does(runs, tmp_path: Path):
    command = [sys.executable, "-m", "corrkit", "report", runs["rgb"], "--out", "r.html", "--no-features"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "r.html\n"
    assert "reading 3 clips" in done.stderr
    assert (tmp_path / "r.html").is_file()


@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_all_of_it(browser, report: Path, width: int):  # noqa: F811
    """No script of a name runs, every picture is there, nothing sticks out at the side, and it isn't a blank page."""
    found = browser.seen(
        report,
        "{width: innerWidth, page: document.documentElement.scrollWidth, images: [...document.images].length,"
        " missing: [...document.images].filter(i => !i.naturalWidth).length,"
        " svgs: document.querySelectorAll('svg polyline').length, title: document.title}",
        width=width,
    )
    assert found["title"].startswith(EVIL)
    assert found["page"] <= found["width"]
    assert found["images"] >= 8
    assert found["missing"] == 0
    assert found["svgs"] > 20
    picture = np.asarray(browser.picture(report, width, 2000))
    assert picture.shape[1] == width
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 500


def test_a_browser_sorts_the_clips(browser, report: Path):  # noqa: F811
    clips = (
        "(() => { const table = [...document.querySelectorAll('table')][1];"
        " const names = () => [...table.tBodies[0].rows].map(r => Number(r.cells[1].dataset.value));"
        " const before = names(); table.querySelectorAll('th button')[1].click(); const down = names();"
        " table.querySelectorAll('th button')[1].click(); return [before, down, names()]; })()"
    )
    before, down, up = browser.seen(report, clips)
    assert down == sorted(before, reverse=True)
    assert up == sorted(before)
    assert re.match(r"^[\d.]+$", str(down[0]))
