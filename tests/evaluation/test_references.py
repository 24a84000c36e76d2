"""The rows that a table can be read against: floor, ceiling of the grid, ceiling of matching."""

from pathlib import Path

import pytest
import torch
from colour_backbone import ColourBackbone
from davis_folder import make_clip

from corrkit.evaluation import evaluate_together
from corrkit.predictors.propagator import Propagator
from corrkit.predictors.references import MatchingOracle, reference_predictors
from corrkit.runs.comparable import REFERENCE_PREDICTORS
from corrkit.subject import open_subject
from corrkit.task_table import task_facts


class CountingBackbone(ColourBackbone):
    passes = 0

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        return super().__call__(frames)


def scores(task: str, *, backbone=None, **asked) -> dict[str, float]:
    """Leading metric by the system of each row."""
    predictor = Propagator(backbone or ColourBackbone(), torch.device("cpu"), name="colours")
    subject = open_subject(task, **asked)
    rows = [predictor, *reference_predictors([predictor])]
    results = evaluate_together(subject, [(row, subject.protocol) for row in rows], outs=[None] * len(rows))
    assert all(not result.failures for result in results)
    leading = task_facts(task).leading.name
    return {result.summary["checkpoint"]["system"]: result.summary["metrics"][leading] for result in results}


@pytest.mark.parametrize("task", ["davis", "vip", "jhmdb"])
def test_true_matches_lie_between_the_tracker_and_what_can_be_reached(task: str):
    found = scores(task, clips=["embedded-0"] if task == "davis" else [first_clip(task)])
    assert found["identity"] < found["matching-oracle"]
    assert found["colour"] < found["matching-oracle"] <= 1


def first_clip(task: str) -> str:
    return open_subject(task).clips[0].name


def test_the_oracle_of_matches_shares_the_passes_of_its_backbone(tmp_path: Path):
    make_clip(tmp_path / "DAVIS", frames=4, size=(48, 64))
    backbone = CountingBackbone()
    scores("davis", backbone=backbone, data=tmp_path / "DAVIS", overrides={"size": [64], "multiple": 16})
    assert backbone.passes == 4


def test_frames_without_annotation_drop_nothing(tmp_path: Path):
    """With the first mask alone all cells of later frames may match all others."""
    data = tmp_path / "DAVIS"
    make_clip(data, frames=4, size=(48, 64))
    for mask in sorted((data / "Annotations/480p").glob("*/*.png"))[1:]:
        mask.unlink()
    subject = open_subject("davis", data=data, overrides={"size": [64], "multiple": 16})
    plain = Propagator(ColourBackbone(), torch.device("cpu"), name="colours")
    (clip,) = subject.clips
    masks = [
        [mask.tolist() for mask in predictor.predict(clip, subject.task, subject.protocol)]
        for predictor in (plain, MatchingOracle(plain))
    ]
    assert masks[0] == masks[1]


def test_it_is_another_method_than_the_checkpoint():
    backbone = ColourBackbone()
    plain = Propagator(backbone, torch.device("cpu"), name="colours")
    oracle = MatchingOracle(plain)
    assert oracle.digest not in (None, plain.digest)
    assert oracle.name == "colours, true matches"
    del backbone.digest
    assert MatchingOracle(Propagator(backbone, torch.device("cpu"), name="live")).digest is None


def test_leaderboards_know_it_as_a_reference():
    assert (
        MatchingOracle(Propagator(ColourBackbone(), torch.device("cpu"), name="c")).report.system
        in REFERENCE_PREDICTORS
    )
