"""One pass over a clip: labels, scores and files are worked on beside the network, and nobody can tell."""

import threading
from pathlib import Path

import numpy as np
import pytest
from colour_backbone import ColourBackbone
from davis_folder import make_clips
from scripted import Scripted

import corrkit
from corrkit.evaluation import evaluate_together
from corrkit.subject import open_subject
from corrkit.tasks.davis import DavisTask
from corrkit.tasks.davis_clips import DavisClip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_clips(tmp_path / "DAVIS", frames=5)


def test_predictions_are_scored_and_saved_while_later_frames_are_predicted(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The mask of frame 1 is saved only once frame 2 is predicted."""
    predicted = threading.Event()
    write = DavisTask.write_prediction

    def rule(index: int, truth: np.ndarray) -> np.ndarray:
        if index == 2:
            predicted.set()
        return truth

    def late(self: DavisTask, folder: Path, clip: DavisClip, index: int, prediction: np.ndarray) -> None:
        assert index != 1 or predicted.wait(20)
        write(self, folder, clip, index, prediction)

    monkeypatch.setattr(DavisTask, "write_prediction", late)
    subject = open_subject("davis", data=data, clips=["a"])
    (result,) = evaluate_together(subject, [(Scripted("truth", rule), subject.protocol)], outs=[tmp_path / "run"])
    assert result.summary["metrics"]["J&F-Mean"] == 1.0
    assert len(list((tmp_path / "run" / "predictions" / "a").iterdir())) == 5


@pytest.mark.parametrize("broken", [3, 4])
def test_of_two_faults_of_a_clip_the_earlier_one_is_told(data: Path, broken: int):
    """Frame 1 is predicted by itself, before any other is read."""
    (data / "Annotations/480p/b/00001.png").write_bytes(b"broken")
    (data / f"JPEGImages/480p/b/0000{broken}.jpg").write_bytes(b"broken")
    found = [corrkit.evaluate("davis", ColourBackbone(), data=data, size=[64], multiple=16) for _ in range(3)]
    told = {str(result.failures["b"]) for result in found}
    assert len(told) == 1
    assert "00001.png" in told.pop()


def test_no_thread_is_left_behind(data: Path):
    before = threading.active_count()
    (data / "JPEGImages/480p/b/00002.jpg").write_bytes(b"broken")
    corrkit.evaluate("davis", ColourBackbone(), data=data, size=[64], multiple=16)
    assert threading.active_count() == before
