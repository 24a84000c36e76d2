"""An evaluation on another device than the CPU, as far as one that is none can tell: tensors of both never meet."""

from collections.abc import Callable
from pathlib import Path

import jhmdb_folder
import numpy as np
import pytest
import torch
import vip_folder
from davis_folder import make_clips
from device_inputs import KINDS, NEAR_TIES, PROTOCOLS, inputs, share_apart
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import backend_registration

import corrkit
from corrkit.evaluation import evaluate_together
from corrkit.predictors.loading import make_predictor
from corrkit.predictors.propagator import Propagator
from corrkit.predictors.references import MatchingOracle
from corrkit.subject import open_subject

if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
    pytest.skip("this torch knows no devices that are written in Python", allow_module_level=True)
from pretended_device import BROUGHT, DEVICE, There

SMALL = {"frames.resize": "short-side", "size": [64], "context": 3}
MAKERS: dict[str, Callable[..., object]] = {
    "davis": make_clips,
    "vip": vip_folder.make_clip,
    "jhmdb": jhmdb_folder.make_clip,
}
BROUGHT_OF_A_CLIP = 4
"""Whether its first labels are finite, which of them no cell holds, and two to spare."""
BROUGHT_OF_A_BLOCK = 4
"""Which features are finite, which rows tie, whether a product overflowed, where each query frame's entries end."""


@pytest.fixture(scope="module")
def vit() -> Propagator:
    made = make_predictor("random:vit_tiny_patch16_224@1", device="cpu")
    assert isinstance(made, Propagator)
    return made


def test_tensors_of_both_devices_cannot_meet():
    there = torch.arange(3.0).to(DEVICE)
    assert isinstance(there, There)
    assert there.device == DEVICE
    assert torch.zeros(3, device=DEVICE).add_(there).tolist() == [0, 1, 2]
    assert (there + torch.tensor(1.0)).cpu().tolist() == [1, 2, 3]
    with pytest.raises(RuntimeError, match=r"\[3\] of the CPU meets"):
        there + torch.ones(3)
    with pytest.raises(RuntimeError, match="meets"):
        torch.ones(3)[there.long()]
    with pytest.raises(TypeError, match="copy it to the host"):
        there.numpy()


@pytest.mark.parametrize(
    "protocol", ["davis/dino", "davis/crw", "davis/cropmae", "davis/vfs", "davis/uvc", "davis/rvm"]
)
@pytest.mark.parametrize("levels", [0, 2], ids=["smooth", "ties everywhere"])
def test_label_maps_are_those_of_the_cpu(protocol: str, levels: int):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(7, 9, 13, 16, generator=generator)
    if levels:
        features = torch.randint(0, levels, features.shape, generator=generator).float() + 1
    labels = nn.functional.one_hot(torch.randint(0, 3, (9, 13), generator=generator), 3).float()
    later = torch.zeros(9, 13, 4)
    later[2:4, 3:7, 3] = 1
    here = list(corrkit.propagate(features, labels, protocol=protocol, context=3, later_labels={3: later}))
    found = corrkit.propagate(
        (frame.to(DEVICE) for frame in features),
        labels.to(DEVICE),
        protocol=protocol,
        context=3,
        later_labels={3: later.to(DEVICE)},
    )
    there = list(found)
    for ours, theirs in zip(there, here, strict=True):
        assert isinstance(ours, There)
        torch.testing.assert_close(ours.here, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("task", "protocol", "feedback"),
    [
        ("davis", "dino", "soft"),
        ("davis", "dino", "prediction"),
        ("vip", "cropmae", "soft"),
        ("jhmdb", "cropmae", "soft"),
    ],
)
def test_an_evaluation_is_that_of_the_cpu(task: str, protocol: str, feedback: str, tmp_path: Path, vit: Propagator):
    """With the ceiling of matching, whose classes of cells go to the device."""
    MAKERS[task](tmp_path, frames=4)
    subject = open_subject(task, data=tmp_path, protocol=protocol, overrides={**SMALL, "feedback": feedback})
    found = []
    for device in (torch.device("cpu"), DEVICE):
        predictor = Propagator(vit.backbone, device, vit.name)
        lanes = [(one, subject.protocol) for one in (predictor, MatchingOracle(predictor))]
        with sdpa_kernel(SDPBackend.MATH):  # the fused ones are of a device
            results = evaluate_together(subject, lanes, outs=[None, None])
        assert [result.failures for result in results] == [{}, {}]
        found.append([result.summary["metrics"] for result in results])
    np.testing.assert_equal(found[1], found[0])


def test_a_frame_is_brought_to_the_host_once_by_the_thread_of_labels(tmp_path: Path, vit: Propagator):
    """The thread that feeds the device asks for a few words for each block of four frames, whatever else is done."""
    make_clips(tmp_path, frames=14)
    subject = open_subject("davis", data=tmp_path, overrides=SMALL, clips=["a"])
    predictor = Propagator(vit.backbone, DEVICE, vit.name)
    BROUGHT.clear()
    with sdpa_kernel(SDPBackend.MATH):
        (result,) = evaluate_together(subject, [(predictor, subject.protocol)], outs=[None])
    assert result.failures == {}
    beside = {name: count for name, count in BROUGHT.items() if name.startswith("corrkit-")}
    assert beside == {"corrkit-labels_0": 13}
    assert BROUGHT.total() - 13 <= BROUGHT_OF_A_CLIP + 4 * BROUGHT_OF_A_BLOCK


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_gpu_is_compared_on_hardly_depends_on_the_order_of_summation(protocol: str, kind: str):
    """A GPU adds up products in another order, as other channels first do here."""
    features, labels = inputs(kind)
    here, there = (
        torch.stack(list(corrkit.propagate(frames, labels, protocol=protocol, **KINDS[kind])))
        for frames in (features, features.flip(-1).contiguous())
    )
    assert share_apart(here, there) <= NEAR_TIES
    if kind == "ties everywhere":
        assert torch.equal(here, there)
