"""`corrkit published` as a process would see it, and the block of `leaderboard --published`."""

import csv
import io
import json
from pathlib import Path

import pytest
from davis_folder import make_clip

from corrkit.cli import main
from corrkit.manifests import manifest
from corrkit.manifests.published import published_numbers


def printed(capsys, *words: str) -> str:
    assert main(list(words)) == 0
    return capsys.readouterr().out


def test_the_table_names_sources_and_certainty(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    lines = printed(capsys, "published", "davis", "--protocol", "cropmae", "--method", "t-core").splitlines()
    rows = [line for line in lines if line.startswith("T-CORE")]
    assert [row.split()[4] for row in rows] == ["64.1", "64.7", "66.4"]
    assert all("yafeng19/T-CORE 0ffcabe README.md" in row and " read " in row for row in rows)
    assert "read: read in the named file at the named commit." in lines


def test_json_and_csv_hold_the_same_numbers(capsys):
    plain = json.loads(printed(capsys, "published", "jhmdb", "--json"))
    assert len(plain) == len(published_numbers("jhmdb"))
    rows = list(csv.DictReader(io.StringIO(printed(capsys, "published", "jhmdb", "--csv"))))
    assert [float(row["per_cent"]) for row in rows] == [number["per_cent"] for number in plain]
    whole = printed(capsys, "published", "--csv")
    file = list(csv.DictReader(io.StringIO(manifest("published.csv").read_text(encoding="utf-8"))))
    again = list(csv.DictReader(io.StringIO(whole)))
    assert [(r["source"], r["overrides"], float(r["per_cent"])) for r in again] == [
        (r["source"], r["overrides"], float(r["per_cent"])) for r in file
    ]


@pytest.mark.parametrize("words", [("published", "pose"), ("published", "--method", "nobody")])
def test_nothing_to_print_is_an_error(capsys, words):
    assert main(list(words)) == 2
    assert "corrkit: " in capsys.readouterr().err


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run under davis/dino, on data of one's own."""
    folder = tmp_path_factory.mktemp("run")
    for name in ("a", "b", "c"):
        make_clip(folder / "DAVIS", name, frames=4, size=(48, 64))
    words = ["eval", "davis", "--ckpt", "identity", "--data", str(folder / "DAVIS"), "--out", str(folder / "run")]
    assert main([*words, "--quiet"]) == 0
    return folder / "run"


def test_the_leaderboard_shows_published_numbers_as_a_block_of_their_own(capsys, monkeypatch, run: Path):
    monkeypatch.setenv("COLUMNS", "200")
    plain = printed(capsys, "leaderboard", str(run))
    both = printed(capsys, "leaderboard", str(run), "--published")
    assert both.startswith(plain)
    block = both[len(plain) :]
    assert "Published numbers under these protocols (not evaluated here)" in block
    assert [line.split()[0] for line in block.splitlines() if "61.8" in line] == ["DINO", "iBOT"]
    assert "T-CORE" not in block  # another protocol
    markdown = printed(capsys, "leaderboard", str(run), "--published", "--format", "markdown")
    assert "**Published numbers under these protocols" in markdown


def test_in_the_csv_they_are_of_origin_published(capsys, run: Path, tmp_path: Path):
    import pandas

    printed(capsys, "leaderboard", str(run), "--out", str(tmp_path / "plain.csv"))
    printed(capsys, "leaderboard", str(run), "--published", "--out", str(tmp_path / "both.csv"))
    plain, both = (pandas.read_csv(tmp_path / name) for name in ("plain.csv", "both.csv"))
    assert set(both.columns) == {*plain.columns, "runs"}  # where the sources stand
    assert list(both["origin"][:1]) == ["own"]
    published = both[both["origin"] == "published"]
    assert len(published) == len(both) - len(plain) > 0
    dino = published[
        (published["method"] == "DINO") & (published["architecture"] == "ViT-S") & (published["stride"] == 16)
    ]
    assert list(dino["J&F-Mean"]) == [0.618]
    assert list(dino["protocol"]) == ["davis/dino"]
    assert "remembered" in dino["runs"].iloc[0]
    pandas.testing.assert_series_equal(both[plain.columns].iloc[0], plain.iloc[0], check_dtype=False)


def test_a_written_table_holds_the_block(capsys, run: Path, tmp_path: Path):
    printed(capsys, "leaderboard", str(run), "--published", "--out", str(tmp_path / "table.md"))
    text = (tmp_path / "table.md").read_text()
    assert text.count("**Published numbers") == 1


def test_a_protocol_is_named_with_its_version(capsys):
    plain = printed(capsys, "published", "davis", "--protocol", "cropmae", "--json")
    assert printed(capsys, "published", "davis", "--protocol", "cropmae@1", "--json") == plain
    assert main(["published", "--protocol", "cropmae@9"]) == 2
    assert "Version '9'" in capsys.readouterr().err
