"""Every border that data cross, under an audit hook: no process, no socket, no file outside of where runs go."""

import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import davis_folder
import jhmdb_folder
import numpy as np
import pytest
import vip_folder
from local_server import serve
from small_copies import pack

from tests.frames.test_pictures import HOSTILE
from tests.tasks.test_jhmdb_files import HOSTILE_MATS, HOSTILE_PREDICTIONS

MATS = {name: make for name, make in HOSTILE_MATS.items() if "bomb" not in name}  # those have their own test
PREDICTIONS = {name: make for name, make in HOSTILE_PREDICTIONS.items() if "bomb" not in name}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a secret file, a program `gs` that leaves a trace, and sound data of each task."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/file.png").write_bytes(HOSTILE["text"])
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (tmp_path / "bin/gs").chmod(0o755)
    for task, folder in (("davis", davis_folder), ("vip", vip_folder)):
        folder.make_clip(tmp_path / "good" / task, "good", frames=3, size=(48, 64))
    jhmdb_folder.make_clip(tmp_path / "good/jhmdb", "good_jump_0", frames=3)
    return tmp_path


Jobs = list[list[str]]


def run_watched(place: Path, jobs: Jobs, warm: Jobs, address: list[object] | None = None) -> list[str]:
    """What came of each job; nothing forbidden may have happened."""
    answer = watched(place, jobs, warm, address)
    assert answer["events"] == []
    assert not (place / "started").exists(), "a program was started"
    return answer["outcomes"]


def watched(
    place: Path,
    jobs: Jobs,
    warm: Jobs,
    address: list[object] | None,
    out: Path | None = None,
    given: list[str] | None = None,
) -> dict[str, list[str]]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{place}/bin:{environment['PATH']}"
    places = {"out": f"{out or place / 'out'}", "secret": f"{place}/secret", "given": given}
    environment["XDG_CACHE_HOME"] = f"{places['out']}/cache"
    request = {"warm": warm, "jobs": jobs, "address": address, **places}
    done = subprocess.run(
        [sys.executable, Path(__file__).parent / "support" / "borders_watched.py"],
        input=json.dumps(request),
        cwd=out,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_the_watch_sees_sockets_and_files(place: Path):
    """Else the other tests here couldn't fail."""
    with serve() as server:
        jobs = [["get", f"{server.url}/none.zip"], ["check", "davis", f"{place}/secret/DAVIS", "val"]]
        davis_folder.make_clip(place / "secret/DAVIS")
        events = watched(place, jobs, [], None)["events"]
    assert any(event.startswith("socket.connect") for event in events)
    assert any(event.startswith("open") and "secret/DAVIS" in event for event in events)


def warm_jobs(place: Path) -> list[list[str]]:
    roots = {"davis": "val", "vip": "val", "jhmdb": "split1"}
    jobs = [["eval", task, f"{place}/good/{task}"] for task in roots]
    return jobs + [["check", task, f"{place}/good/{task}", split] for task, split in roots.items()]


@pytest.mark.parametrize("task", ["davis", "vip"])
def test_a_root_of_hostile_pictures_costs_only_its_clips(place: Path, task: str):
    folder = {"davis": davis_folder, "vip": vip_folder}[task]
    root = place / "bad"
    folder.make_clip(root, "good", frames=3, size=(48, 64))
    for name, content in HOSTILE.items():
        for what in ("JPEGImages/480p" if task == "davis" else "Images", "Annotations"):
            clip = f"{what[0]}_{name}"
            folder.make_clip(root, clip, frames=3, size=(48, 64))
            victims = sorted((root / what).rglob(f"{clip}/*"))
            victims[1].unlink()
            victims[1].write_bytes(content)
    bad = 2 * len(HOSTILE)
    warm = warm_jobs(place)
    jobs = [["eval", task, str(root)], ["check", task, str(root), "val"]]
    pack(root, place / "bad.zip")
    jobs += [["eval", task, f"{place}/bad.zip"], ["check", task, f"{place}/bad.zip", "val"]]
    outcomes = run_watched(place, jobs, warm)
    assert [outcomes[0], outcomes[2]] == [f"1 clips, {bad} failures"] * 2
    assert [int(text.split()[0]) >= bad for text in (outcomes[1], outcomes[3])] == [True, True], outcomes


def test_a_root_of_hostile_joints_costs_only_its_clips(place: Path):
    root = place / "bad"
    jhmdb_folder.make_clip(root, "good_jump_0", frames=4)
    for name, make in MATS.items():
        jhmdb_folder.make_clip(root, f"{name}_jump_0", frames=4)
        (root / f"joint_positions/jump/{name}_jump_0/joint_positions.mat").write_bytes(make())
    jobs = [["eval", "jhmdb", str(root)], ["check", "jhmdb", str(root), "split1"]]
    outcomes = run_watched(place, jobs, warm_jobs(place))
    assert outcomes[0] == f"1 clips, {len(MATS)} failures"
    assert int(outcomes[1].split()[0]) >= len(MATS)


def test_hostile_predictions_are_refused(place: Path):
    jobs = []
    for number, (name, make) in enumerate(PREDICTIONS.items()):
        folder = place / f"pred{number}"
        folder.mkdir()
        suffix = Path(name).suffix
        (folder / ("0.dat" if suffix == ".dat" else f"good_jump_0{suffix}")).write_bytes(make())
        jobs.append(["score", "jhmdb", f"{place}/good/jhmdb", str(folder)])
    (place / "masks/good").mkdir(parents=True)
    for content in HOSTILE.values():
        for name in ("00001.png", "000000000026.png"):
            (place / "masks/good" / name).write_bytes(content)
        jobs.append(["score", "davis", f"{place}/good/davis", f"{place}/masks"])
    (place / "warm").mkdir()
    np.save(place / "warm/good_jump_0.npy", np.ones((3, 15, 2)))
    warm = [*warm_jobs(place), ["score", "jhmdb", f"{place}/good/jhmdb", f"{place}/warm"], *jobs[:1], *jobs[-1:]]
    outcomes = run_watched(place, jobs, warm)
    assert all(outcome.startswith("refused: ") for outcome in outcomes), outcomes


def test_lists_never_lead_out_of_the_root(place: Path):
    lines = [
        "../secret",
        "../../secret/",
        "/secret/file.png",
        "secret/../..",
        "..",
        f"{place}/secret",
        "a" * 5_000,
        "\x00",
        "/",
    ]
    jobs = []
    for number, line in enumerate(lines):
        root = place / f"list{number}"
        davis_folder.make_clip(root, "good", frames=3, size=(48, 64))
        with (root / "ImageSets/2017/val.txt").open("a") as file:
            file.write(f"{line}\n")
        jobs.append(["eval", "davis", str(root)])
        root = place / f"jhmdb_list{number}"
        jhmdb_folder.make_clip(root, "good_jump_0", frames=3)
        (root / "mine.txt").write_text(f"{line} joint_positions/{line}/joint_positions.mat\n")
        jobs.append(["eval", "jhmdb", str(root), "mine"])
    outcomes = run_watched(place, jobs, warm_jobs(place))
    assert all("failures" in outcome or outcome.startswith("refused: ") for outcome in outcomes), outcomes


def hostile_archives(place: Path) -> list[Path]:
    content = b"x" * 100
    paths = []
    for number, name in enumerate(["../evil", "/tmp/corrkit-evil", "a/../../evil", "a\\..\\..\\evil", "link"]):
        mode = 0o120777 << 16 if name == "link" else 0
        packed = place / f"{number}.zip"
        with zipfile.ZipFile(packed, "w") as archive:
            member = zipfile.ZipInfo(name)
            member.external_attr = mode
            archive.writestr(member, content if not mode else f"{place}/secret/file.png")
        tar = place / f"{number}.tar"
        with tarfile.open(tar, "w") as archive:
            entry = tarfile.TarInfo(name)
            entry.size = 0 if mode else 100
            entry.type, entry.linkname = (tarfile.SYMTYPE, f"{place}/secret") if mode else (tarfile.REGTYPE, "")
            archive.addfile(entry, io.BytesIO(content))
            below = tarfile.TarInfo(f"{name}/below")
            below.size = 100
            archive.addfile(below, io.BytesIO(content))
        paths += [packed, tar]
    return paths


def test_archives_and_downloads_stay_in_their_folder(place: Path):
    archives = hostile_archives(place)
    with serve() as server:
        server.files = {path.name: path.read_bytes() for path in archives}
        server.files["good.zip"] = pack(place / "good/davis", place / "good.zip").read_bytes()
        server.redirects = {"1.bin": "file:///etc/passwd", "2.bin": "ftp://127.0.0.1/x"}
        names = [*(path.name for path in archives), "1.bin", "2.bin", "none.zip"]
        jobs = [["eval", "davis", str(path)] for path in archives]
        jobs += [["get", f"{server.url}/{name}"] for name in names]
        warm = [*warm_jobs(place), ["get", f"{server.url}/good.zip"], *jobs]
        host, port = server.url.removeprefix("http://").split(":")
        outcomes = run_watched(place, jobs, warm, [host, int(port)])
    refused = [outcome.startswith("refused: ") for outcome in outcomes]
    assert sum(refused) >= len(outcomes) - 1, outcomes  # a backslash is part of a name here
    assert not (place / "evil").exists()
    assert not Path("/tmp/corrkit-evil").exists()
