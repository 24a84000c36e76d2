"""`corrkit verify` on a temporary table of one tiny checkpoint, its file on a local web server, three clips of data."""

import csv
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path

import pytest
from davis_folder import make_clip
from local_server import FileServer, serve

import corrkit
from corrkit import verification
from corrkit.cli import main
from corrkit.datasets.sources import SourceFile
from corrkit.manifests import manifest, published
from corrkit.manifests.clips import ManifestClip
from corrkit.manifests.published import PublicCheckpoint, PublishedNumber
from corrkit.runs.attestations import read_attestation
from corrkit.tasks import davis

CLIPS = ("a", "b", "c")
CHANGES = "frames.multiple=16 frames.size=[64]"


@pytest.fixture
def data(tmp_path: Path, monkeypatch) -> Path:
    """Three clips that are all of the benchmark's val."""
    for name in CLIPS:
        make_clip(tmp_path / "DAVIS", name, frames=4, size=(48, 64))
    known = tuple(ManifestClip(split="val", clip=name, folder=name, num_frames=4) for name in CLIPS)
    monkeypatch.setattr(davis, "official_clips", lambda task, split: known)
    return tmp_path / "DAVIS"


@pytest.fixture
def weights(golden) -> bytes:
    return golden("checkpoints/mae_headrule/mae_pretrain_vit_headrule.pth").read_bytes()


@pytest.fixture
def value(data: Path, golden) -> float:
    """J&F of the tiny checkpoint under davis/dino at 64 pixels, per cent: what the table will say."""
    file = golden("checkpoints/mae_headrule/mae_pretrain_vit_headrule.pth")
    result = corrkit.evaluate("davis", file, data=data, multiple=16, size=[64])
    return round(100 * result.summary["metrics"]["J&F-Mean"], 1)


@pytest.fixture
def server(weights: bytes) -> Iterator[FileServer]:
    with serve() as running:
        running.files["tiny.pth"] = weights
        yield running


@pytest.fixture
def table(tmp_path: Path, monkeypatch, server: FileServer, value: float):
    """table(per_cent=..., sha256=...) writes the tables of one row; https is what it claims, so http is let through."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    splits = "author_splits.csv"
    (folder / splits).write_bytes(manifest(splits).read_bytes())
    monkeypatch.setattr(published, "manifest", folder.joinpath)

    def write(**facts) -> None:
        number = {
            "task": "davis", "dataset": "DAVIS-2017", "method": "Tiny", "data": "", "architecture": "ViT-Ti",
            "stride": 16, "protocol": "dino", "overrides": CHANGES, "settings": "", "resolution": "",
            "metric": "J&F-Mean", "per_cent": value, "tolerance": 0.1, "certainty": "read", "source": "a test",
            "checkpoint": "tiny",
        }  # fmt: skip
        row = {
            "name": "tiny", "method": "Tiny", "architecture": "ViT-Ti", "stride": 16, "url": "https://tiny/tiny.pth",
            "size": None, "sha256": "", "hub": "", "page": "a page", "source": "a test",
        }  # fmt: skip
        unknown = set(facts) - set(number) - set(row)
        assert not unknown
        for name, kind, known in (("published", PublishedNumber, number), ("checkpoints", PublicCheckpoint, row)):
            filled = kind(**{key: facts.get(key, fallback) for key, fallback in known.items()})
            with (folder / f"{name}.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, [field.name for field in fields(kind)])
                writer.writeheader()
                writer.writerow(asdict(filled))

    write()
    return write


@pytest.fixture
def reachable(monkeypatch, server: FileServer) -> None:
    """The row's address leads to the local server."""
    plain = SourceFile

    def local(*, url: str, **facts):
        return plain(url=url.replace("https://tiny", server.url), **facts)

    monkeypatch.setattr(verification, "SourceFile", local)


def verify(data: Path, *words: str) -> int:
    return main(["verify", "tiny", "--task", "davis", "--data", str(data), "--quiet", *words])


def test_a_file_that_gives_the_number_is_attested(table, data: Path, golden, tmp_path: Path, capsys, weights, value):
    file = golden("checkpoints/mae_headrule/mae_pretrain_vit_headrule.pth")
    assert verify(data, "--ckpt", str(file), "--out", str(tmp_path / "out"), "--by", "me") == 0
    out, err = capsys.readouterr()
    assert "reproduced" in out
    assert "user's word" in out
    found = read_attestation(tmp_path / "out/attestation.json")
    assert found["digest"] == hashlib.sha256(weights).hexdigest()
    assert (found["checkpoint"], found["identified"], found["by"], found["device"]) == ("tiny", "by hand", "me", "cpu")
    (number,) = found["numbers"]
    assert number["overrides"] == {"frames.multiple": 16, "frames.size": [64]}
    assert (number["published"], number["within"], number["tolerance"]) == (value, True, 0.1)
    assert abs(number["value"] - value) <= 0.05
    assert number["data"] == "DAVIS-2017 val"
    assert number["data_identity"]
    assert found["versions"]["corrkit"] == corrkit.__version__
    assert "attestation.json" in err


def test_a_number_outside_its_tolerance_is_attested_too_and_ends_with_1(table, data, golden, tmp_path, capsys, value):
    table(per_cent=value - 0.3)
    file = golden("checkpoints/mae_headrule/mae_pretrain_vit_headrule.pth")
    assert verify(data, "--ckpt", str(file), "--out", str(tmp_path / "out"), "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert [number["within"] for number in found["numbers"]] == [False]
    assert found == json.loads((tmp_path / "out/attestation.json").read_text())


def test_the_file_is_fetched_and_its_digest_decides(table, reachable, server, data, tmp_path, capsys, weights):
    table(sha256=hashlib.sha256(weights).hexdigest()[:8])
    words = ("--fetch", str(tmp_path / "weights"), "--yes", "--out", str(tmp_path / "out"))
    assert verify(data, *words) == 0
    assert (tmp_path / "weights/tiny.pth").read_bytes() == weights
    assert read_attestation(tmp_path / "out/attestation.json")["identified"] == "digest"
    assert verify(data, *words) == 0  # the file is kept, the run is resumed
    assert len(server.requests) == 1
    table()
    assert verify(data, *words) == 0
    assert read_attestation(tmp_path / "out/attestation.json")["identified"] == "fetched"
    capsys.readouterr()


def test_a_file_of_another_digest_is_refused_before_any_work(table, data, golden, tmp_path, capsys):
    table(sha256="0" * 8)
    file = golden("checkpoints/mae_headrule/mae_pretrain_vit_headrule.pth")
    assert verify(data, "--ckpt", str(file), "--out", str(tmp_path / "out")) == 2
    assert "begins with 00000000" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_fifo_in_place_of_the_file_is_refused(table, data, tmp_path: Path, capsys):
    os.mkfifo(tmp_path / "fifo")
    assert verify(data, "--ckpt", str(tmp_path / "fifo"), "--out", str(tmp_path / "out")) == 2
    assert f"{tmp_path}/fifo" in capsys.readouterr().err


def test_a_whole_digest_is_checked_by_the_download(table, reachable, data, tmp_path, capsys):
    table(sha256="0" * 64)
    assert verify(data, "--fetch", str(tmp_path / "weights"), "--yes", "--out", str(tmp_path / "out")) == 2
    assert "tiny.pth.rejected" in capsys.readouterr().err


def test_nothing_is_fetched_unasked_or_unencrypted(table, reachable, server, data, tmp_path, capsys, monkeypatch):
    assert verify(data, "--fetch", str(tmp_path / "weights")) == 2  # nobody at a terminal to be asked
    assert "--yes" in capsys.readouterr().err
    table(url="")
    assert verify(data, "--fetch", str(tmp_path / "weights"), "--yes") == 2
    assert "a page" in capsys.readouterr().err
    table(url="http://tiny/tiny.pth")
    assert verify(data, "--fetch", str(tmp_path / "weights"), "--yes") == 2
    assert "not https" in capsys.readouterr().err
    assert server.requests == []


def test_other_data_are_refused(table, golden, tmp_path: Path, data: Path, capsys):
    file = golden("checkpoints/mae_headrule/mae_pretrain_vit_headrule.pth")
    for name in CLIPS[:2]:
        make_clip(tmp_path / "part", name, frames=4, size=(48, 64))
    assert verify(tmp_path / "part", "--ckpt", str(file)) == 2
    assert "is not DAVIS-2017 val" in capsys.readouterr().err


def test_requests_that_can_not_be_met(table, data: Path, capsys):
    assert main(["verify", "tinny"]) == 2
    assert "tiny" in capsys.readouterr().err
    assert main(["verify", "tiny", "--data", str(data)]) == 2
    assert "--task" in capsys.readouterr().err
    assert main(["verify", "tiny", "--task", "vip", "--data", str(data)]) == 2
    assert "There are: davis" in capsys.readouterr().err
    assert main(["verify", "tiny", "--task", "davis", "--data", str(data)]) == 2
    assert "--ckpt" in capsys.readouterr().err


def test_without_data_nothing_is_fetched_or_evaluated(table, golden, capsys, monkeypatch):
    monkeypatch.delenv("CORRKIT_DATA", raising=False)
    file = golden("checkpoints/mae_headrule/mae_pretrain_vit_headrule.pth")
    assert main(["verify", "tiny", "--ckpt", str(file)]) == 2
    err = capsys.readouterr().err
    assert "davis is left out: no data" in err
    assert "There are no data of davis" in err


def test_the_list_names_every_checkpoint(table, capsys):
    assert main(["verify", "--ckpt", "some.pth"]) == 2  # the list would look like success
    assert main(["verify", "--fetch", "weights"]) == 2
    assert main(["verify"]) == 0
    assert capsys.readouterr().out.startswith("tiny  davis/dino J&F-Mean")
    assert main(["verify", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["tiny"]
