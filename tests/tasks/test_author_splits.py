"""Lists of clips of one's own, and data sets of which papers report numbers by lists that nobody else has."""

from pathlib import Path

import pytest
from davis_folder import make_clips, make_split

import corrkit
from corrkit.cli import main
from corrkit.errors import DataError
from corrkit.manifests import published
from corrkit.manifests.published import AuthorSplit, author_split, rows


def evaluated(root: Path, **options):
    result = corrkit.evaluate("davis", "identity", data=root, **options)
    assert not result.failures
    return result.summary


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.txt"
    path.write_text("c\ntrain/a\n")
    return path


def test_a_list_of_ones_own_is_a_split(tmp_path: Path, mine: Path):
    davis, unlisted = make_clips(tmp_path / "DAVIS"), make_clips(tmp_path / "unlisted")
    (unlisted / "ImageSets/2017/val.txt").unlink()
    for folder in (davis, unlisted):
        summary = evaluated(folder, split=str(mine))
        assert [*summary["per_clip"]] == ["c", "a"]
        assert summary["data"]["split"] == "mine"
    vos = make_split(make_split(make_split(tmp_path / "vos", "train", "a"), "valid", "b"), "train", "c")
    assert [*evaluated(vos, split=str(mine))["per_clip"]] == ["c", "a"]
    mine.write_text("b\nd\n")
    with pytest.raises(DataError, match="names the clip d, which none of"):
        evaluated(vos, split=str(mine))


def test_a_list_that_is_not_there_is_named(tmp_path: Path, capsys):
    make_clips(tmp_path / "DAVIS")
    assert main(["eval", "davis", "--ckpt", "rgb", "--data", str(tmp_path / "DAVIS"), "--split", "mien.txt"]) == 2
    assert "There is no list mien.txt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "split", "said"),
    [
        ("YouTube-VOS", "mine", "unknown"),
        ("youtube_vos 2019", "train", "unknown"),
        ("MOSE", "mine", "unknown"),
        ("MOSE", "valid", "published"),
        ("MOSEv2", "valid", None),
        ("DAVIS-2017", "val", None),
        ("kitchen", "val", None),
    ],
)
def test_what_a_result_says_of_the_list(name, split, said):
    assert author_split(name, split) == said


def test_results_carry_it_and_runs_resume_all_the_same(tmp_path: Path, mine: Path, capsys):
    root = make_split(make_split(tmp_path / "vos", "train", "a"), "train", "c")
    mose = tmp_path / "MOSE"
    summary = evaluated(root, split=str(mine), dataset_name="MOSE", out=tmp_path / "run")
    assert summary["data"]["author_split"] == "unknown"
    root.rename(mose)
    again = corrkit.evaluate("davis", "identity", data=mose, split=str(mine), dataset_name="MOSE", out=tmp_path / "run")
    assert again.summary == summary
    assert any("1,206 clips" in note for note in again.notes)
    assert "author_split" not in evaluated(mose, split=str(mine), dataset_name="kitchen")["data"]
    assert evaluated(mose, split="train")["data"]["author_split"] == "unknown"


def test_a_row_that_says_neither_is_refused(tmp_path: Path, monkeypatch):
    bad = tmp_path / "author_splits.csv"
    bad.write_text("dataset,split,clips,author_split,used_by,source\nX,val,3,maybe,us,here\n")
    monkeypatch.setattr(published, "manifest", lambda name: bad)
    with pytest.raises(DataError, match="neither published nor unknown"):
        rows(AuthorSplit, "author_splits.csv")
