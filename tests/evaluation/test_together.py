"""Several protocols in one pass: each number that of its own run, frames decoded and encoded no oftener than needed."""

import json
import time
from pathlib import Path

import pytest
import torch
from colour_backbone import ColourBackbone
from davis_folder import make_clips

from corrkit.cli import main
from corrkit.evaluation import evaluate_together
from corrkit.frames.pictures import read_image
from corrkit.predictors.propagator import Propagator
from corrkit.protocols import Protocol, load_protocol, override
from corrkit.runs.folder import read_run
from corrkit.runs.pairing import pair_protocols
from corrkit.subject import open_subject

SMALL = {"size": [64], "multiple": 16}
NAMED: dict[str, dict[str, object]] = {
    "dino": SMALL,
    "cropmae": {"size": [64, 96], "stored_size": [64, 96]},
    "rvm": {"size": [64, 96]},
    "dinov3-M": SMALL,
    "vjepa2.1": SMALL,
    "uvc": SMALL | {"colour": "published", "std": [0.228, 0.224, 0.225], "position": "dino"},
}


class CountingBackbone(ColourBackbone):
    """Says how many frames it was shown, and of which sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        self.seen.append(tuple(frames.shape[2:]))
        return super().__call__(frames)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_clips(tmp_path / "DAVIS", size=(64, 80))


def protocols() -> list[Protocol]:
    return [override(load_protocol(name, "davis"), changes) for name, changes in NAMED.items()]


def evaluated(data: Path, chosen: list[Protocol], *, outs=None, backbone=None, clips=None):
    predictor = Propagator(backbone or ColourBackbone(), torch.device("cpu"), name="colours")
    subject = open_subject("davis", data=data, protocol=chosen[0], clips=clips)
    lanes = [(predictor, protocol) for protocol in chosen]
    return evaluate_together(subject, lanes, outs=outs or [None] * len(lanes))


def test_each_number_is_that_of_its_own_run_to_the_last_bit(data: Path):
    together = evaluated(data, protocols())
    for protocol, result in zip(protocols(), together, strict=True):
        (alone,) = evaluated(data, [protocol])
        assert result.statistics == alone.statistics
        assert result.summary == alone.summary
    assert len({json.dumps(result.summary["metrics"]) for result in together}) >= 5


def test_frames_are_decoded_once_and_encoded_once_for_each_input(data: Path, monkeypatch: pytest.MonkeyPatch):
    read: list[str] = []
    monkeypatch.setattr("corrkit.frames.sequence.read_image", lambda path: read.append(str(path)) or read_image(path))
    backbone = CountingBackbone()
    evaluated(data, protocols(), backbone=backbone, clips=["a"])
    assert sorted(set(read)) == [str(data / f"JPEGImages/480p/a/{t:05d}.jpg") for t in range(4)]
    assert len(read) <= 4 + 1  # and the first one for its size
    assert sorted(set(backbone.seen)) == [(64, 80), (64, 96)]
    assert len(backbone.seen) == (len(NAMED) - 1) * 4  # as it stands here, uvc shows what dino does


def test_a_run_by_itself_is_resumed_by_the_pass_and_the_other_way_round(data: Path, tmp_path: Path):
    chosen = protocols()[:3]
    outs = [tmp_path / "runs" / protocol.name for protocol in chosen]
    evaluated(data, chosen[1:2], outs=outs[1:2])
    before = (outs[1] / "clips" / "a.json").read_bytes()
    backbone = CountingBackbone()
    together = evaluated(data, chosen, outs=outs, backbone=backbone)
    assert (outs[1] / "clips" / "a.json").read_bytes() == before
    assert len(backbone.seen) == 2 * 3 * 4  # inputs, clips, frames: nothing for cropmae
    idle = CountingBackbone()
    for protocol, out, result in zip(chosen, outs, together, strict=True):
        (alone,) = evaluated(data, [protocol], outs=[out], backbone=idle)
        assert alone.summary == result.summary
        assert any("is resumed" in note for note in alone.notes)
    assert idle.seen == []


def test_each_lane_has_the_time_that_it_takes(data: Path, tmp_path: Path):
    """Its pass in full, shared or not; the passes of other inputs not at all."""

    class Slow(ColourBackbone):
        def __call__(self, frames: torch.Tensor) -> torch.Tensor:
            time.sleep(1.0 if frames.shape[3] == 96 else 0.05)
            return super().__call__(frames)

    dino, *_ = protocols()
    lanes = [dino, override(dino, {"topk": 3}), override(dino, {"resize": "exact", "size": [64, 96]})]
    outs = [tmp_path / name for name in ("dino", "same", "other")]
    evaluated(data, lanes, outs=outs, backbone=Slow(), clips=["a"])
    first, same, other = (read_run(out)[1]["a"].seconds for out in outs)
    assert min(first, same) >= 4 * 0.05
    assert max(first, same) < 4 * 1.0 <= other


def test_what_one_protocol_cannot_do_costs_the_others_nothing(data: Path):
    dino, *_ = protocols()
    tiny = override(dino, {"size": [8]})
    whole, failed = evaluated(data, [dino, tiny])
    assert set(failed.failures) == {"a", "b", "c"}
    assert "too small" in str(failed.failures["a"])
    assert whole.failures == {}
    assert whole.statistics == evaluated(data, [dino])[0].statistics


def test_the_difference_of_protocols_that_score_otherwise_has_no_p():
    """VIP's mean without background is another number of the same areas."""
    protocol = load_protocol("vip/cropmae")
    right, wrong = torch.eye(22).long(), torch.eye(22).long().roll(1, 0)
    areas = {clip: {"counts": (right * (3 + number) + wrong).tolist()} for number, clip in enumerate("abcd")}
    areas["a"]["counts"][0][0] = 50
    found = pair_protocols((override(protocol, {"background": False}), areas), (protocol, areas))
    assert not isinstance(found, str)
    assert found.difference < 0
    assert found.interval is not None
    assert found.p is None
    same = pair_protocols((override(protocol, {"topk": 3}), areas), (protocol, areas))
    assert not isinstance(same, str)
    assert (same.difference, same.p) == (0, 1)
    assert "other clips" in str(pair_protocols((protocol, areas), (protocol, {"a": areas["a"]})))


@pytest.fixture
def command(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    return ["eval", "davis", "--ckpt", "rgb", "--data", str(data), "--set", "multiple=16", "--quiet"]


def test_the_table_has_a_row_for_each_protocol_and_its_difference(command: list[str], tmp_path: Path, capsys):
    asked = ["--protocol", "dino,vjepa2.1", "--resolution", "64"]
    assert main([*command, *asked, "--reference-rows", "--out", "runs", "--format", "markdown"]) == 0
    table = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    rows = [(row[0].strip().rstrip("*\\"), row[1].strip()) for row in table if "davis/" in row[0]]
    assert rows[:2] == [("davis/dino@1", "rgb"), ("davis/vjepa2.1@1", "rgb")]
    assert rows.count(("davis/vjepa2.1@1", "identity")) == 1
    assert table[0][-2:] == [" Δ J&F ", " p "]
    assert len(list((tmp_path / "runs").iterdir())) == 2
    assert main([*command, *asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [summary["protocol"] for summary in found["results"]] == ["davis/dino@1", "davis/vjepa2.1@1"]
    first, second = (summary["metrics"]["J&F-Mean"] for summary in found["results"])
    assert found["differences"][0]["difference"] is None
    assert found["differences"][1]["difference"] == pytest.approx(second - first, abs=1e-12)
    assert 0 < found["differences"][1]["p"] <= 1


def test_resolutions_are_an_axis(command: list[str], capsys):
    assert main([*command, "--resolution", "48,64", "--json"]) == 0
    together = json.loads(capsys.readouterr().out)["results"]
    assert [summary["modified"]["frames.size"] for summary in together] == [[48], [64]]
    for summary in together:
        size = str(summary["modified"]["frames.size"][0])
        assert main([*command, "--resolution", size, "--json", "--out", f"alone{size}"]) == 0
        assert json.loads(capsys.readouterr().out) == summary


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["--protocol", "dino,dino"], "asked for twice"),
        (["--protocol", "dino,dimo"], "Did you mean 'dino'"),
        (["--protocol", "dino,uvc"], "takes rgb"),
        (["--protocol", "dino,cropmae", "--submission", "x.zip"], "Name one protocol"),
        (["--resolution", "48", "--set", "size=[64]"], "Use one of them"),
        (["--resolution", "48,48"], "asked for twice"),
    ],
)
def test_what_does_not_go_together_is_refused_before_the_work(command: list[str], capsys, asked, words):
    assert main([*command, *asked]) == 2
    assert words in capsys.readouterr().err
    assert not Path("runs").exists()


def test_a_pass_is_not_compared_with_a_run_of_one_protocol(command: list[str], capsys):
    assert main([*command, "--resolution", "64", "--out", "old"]) == 0
    assert main([*command, "--protocol", "dino,vjepa2.1", "--against", "old"]) == 2
    assert "compares each protocol with the first" in capsys.readouterr().err


def test_other_networks_share_nothing_but_the_frames(data: Path):
    dino, *_ = protocols()
    backbones = [CountingBackbone(), CountingBackbone()]
    predictors = [Propagator(backbone, torch.device("cpu"), name="colours") for backbone in backbones]
    subject = open_subject("davis", data=data, protocol=dino, clips=["a"])
    one, other = evaluate_together(subject, [(predictor, dino) for predictor in predictors], outs=[None, None])
    assert [len(backbone.seen) for backbone in backbones] == [4, 4]
    assert one.statistics == other.statistics
