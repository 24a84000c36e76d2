"""The embedded clips on disk: layouts, cache, export."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from corrkit.cli import main
from corrkit.clips import EVALUATION_SEEDS, embedded_root, export, render
from corrkit.clips.embedded import TASKS
from corrkit.clips.layouts import clip_name, png
from corrkit.errors import RunError, UsageError
from corrkit.palette import voc_palette
from corrkit.task_table import task_facts
from corrkit.tasks import load_task


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """A cache of this module's own, filled once."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        for task in TASKS:
            embedded_root(task)
    return folder


@pytest.fixture(autouse=True)
def use_cache(request, monkeypatch):
    if "cache" in request.fixturenames:
        monkeypatch.setenv("XDG_CACHE_HOME", str(request.getfixturevalue("cache")))


def contents(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}


@pytest.mark.parametrize("task", TASKS)
def test_the_ordinary_reader_reads_the_rendered_truth(cache, task):
    opened = load_task(task)
    dataset = opened.open(embedded_root(task), split=task_facts(task).default_split, dataset_name=None)
    assert len(dataset.clips) == len(EVALUATION_SEEDS[task])
    assert not dataset.official
    clip, rendered = dataset.clips[1], render(task, EVALUATION_SEEDS[task][1])
    assert len(clip.frames) == len(rendered.frames)
    for index in (0, len(rendered.frames) - 1):
        difference = np.abs(clip.frames[index].astype(int) - rendered.frames[index])
        assert difference.mean() < 2.5  # JPEG at quality 95
        if task == "jhmdb":
            assert difference.max() == 0  # PNG
            assert np.allclose(clip.annotation(index), rendered.joints[index], atol=6e-5)  # written to 4 decimals
        else:
            assert np.array_equal(clip.annotation(index), rendered.labels[index])


def test_davis_masks_are_palette_pngs(cache):
    root = embedded_root("davis")
    name = (root / "ImageSets" / "2017" / "val.txt").read_text().split()[0]
    assert (root / "JPEGImages" / "480p" / name / "00000.jpg").is_file()
    with Image.open(root / "Annotations" / "480p" / name / "00000.png") as mask:
        assert mask.mode == "P"
        assert mask.getpalette()[:12] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
        assert np.asarray(mask).max() <= 4


def test_vip_labels_are_grey_pngs_with_twelve_digits(cache):
    root = embedded_root("vip")
    name = (root / "lists" / "val_videos.txt").read_text().split()[0]
    labels = sorted((root / "Annotations" / "Category_ids" / name).iterdir())
    assert labels[0].name == "000000000001.png"
    assert [path.stem for path in labels] == [path.stem for path in sorted((root / "Images" / name).iterdir())]
    with Image.open(labels[0]) as mask:
        assert mask.mode == "L"
        assert set(np.unique(np.asarray(mask))) == set(range(20))


def test_jhmdb_joints_are_one_based(cache):
    root = embedded_root("jhmdb")
    (mat,) = root.glob("joint_positions/*/embedded_0/joint_positions.mat")
    positions = loadmat(mat)["pos_img"]
    rendered = render("jhmdb", EVALUATION_SEEDS["jhmdb"][0])
    assert positions.shape == (2, 15, len(rendered.frames))
    assert np.allclose(positions[:, :, 0].T - 1, rendered.joints[0], atol=6e-5)
    (split,) = root.glob("splits/*_test_split1.txt")
    assert all(line.endswith(" 2") for line in split.read_text().splitlines())


def test_two_renders_write_the_same_bytes(cache, tmp_path, monkeypatch):
    first = embedded_root("jhmdb")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    second = embedded_root("jhmdb")
    assert first != second
    assert contents(first) == contents(second)


def test_the_second_call_renders_nothing(cache, monkeypatch):
    monkeypatch.setattr("corrkit.clips.rendering.render", lambda *args, **options: pytest.fail("rendered again"))
    assert embedded_root("vip").is_dir()


def test_two_processes_at_once_get_the_same_whole_folder(tmp_path):
    command = [sys.executable, "-c", "from corrkit.clips import embedded_root; print(embedded_root('jhmdb'))"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    roots = {process.communicate(timeout=300)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    (root,) = roots
    assert len(list(Path(root).glob("Rename_Images/*/*"))) == len(EVALUATION_SEEDS["jhmdb"])
    assert [path.name for path in Path(root).parent.iterdir()] == ["jhmdb"]  # nothing half-done is left


def test_an_unwritable_cache_is_an_error_that_names_it(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(RunError, match="XDG_CACHE_HOME"):
        embedded_root("davis")


def test_export_writes_all_three_layouts(cache, tmp_path):
    roots = export(tmp_path / "clips")
    assert [root.name for root in roots] == list(TASKS)
    for root in roots:
        assert contents(root) == contents(embedded_root(root.name))


def test_export_refuses_a_folder_that_holds_something(cache, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UsageError, match="not empty"):
        export(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_interrupted_export_is_finished_by_the_next(cache, tmp_path, monkeypatch):
    """Killed between two tasks, and while it copied: a temporary stays, whose writer is no more."""
    folder = tmp_path / "clips"
    export(folder, ("davis",))
    (folder / ".corrkit-tmp-of-a-killed-one" / "vip").mkdir(parents=True)
    assert [root.name for root in export(folder)] == list(TASKS)
    assert sorted(path.name for path in folder.iterdir()) == sorted(TASKS)
    for task in TASKS:
        assert contents(folder / task) == contents(embedded_root(task))


def test_export_refuses_clips_that_were_changed(cache, tmp_path):
    (root,) = export(tmp_path, ("davis",))
    (root / "notes.txt").write_text("precious")
    with pytest.raises(UsageError, match="holds davis"):
        export(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["davis"]
    assert (root / "notes.txt").read_text() == "precious"


def test_export_refuses_a_file_and_a_place_that_cannot_be_made(cache, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        export(tmp_path / "file")
    with pytest.raises(RunError, match="can't be written"):
        export(tmp_path / "file" / "below")


def test_unknown_tasks_are_named(tmp_path):
    with pytest.raises(UsageError, match="Did you mean 'davis'"):
        export(tmp_path, ("daviss",))


def test_the_command_prints_the_roots(cache, tmp_path, capsys):
    assert main(["clips", "export", str(tmp_path / "out"), "--task", "vip"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out' / 'vip'}\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["vip"]


def test_the_command_refuses_a_full_folder_with_two_sentences(cache, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("")
    assert main(["clips", "export", str(tmp_path)]) == 2
    assert "not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pixels", "palette"), [((7, 5, 3), False), ((7, 5), False), ((7, 5), True), ((300, 400), False)]
)
def test_our_pngs_are_read_by_others(pixels, palette, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, pixels, np.uint8)
    path = tmp_path / "image.png"
    path.write_bytes(png(image, voc_palette().ravel().tolist() if palette else ()))
    with Image.open(path) as opened:
        assert np.array_equal(np.asarray(opened), image)
    if not palette:
        decoded = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(decoded[..., ::-1] if image.ndim == 3 else decoded, image)


def test_clip_names_are_the_layouts_own():
    assert [clip_name(task, 0) for task in TASKS] == ["embedded-0", "videos1", "embedded_0"]
