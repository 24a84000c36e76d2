"""ResNets for correspondence: full-size files, rebuilt from the goldens' recipe, give the published features."""

import argparse
import hashlib
import json
import math
import zlib

import numpy as np
import pytest
import torch

from corrkit.backbones import load_backbone
from corrkit.checkpoints.opening import open_checkpoint
from corrkit.checkpoints.recognition import recognise
from corrkit.errors import CheckpointError
from tests.checkpoints.test_video_goldens import distance

TOLERANCE = 1e-3  # of the features' scale: deep networks of convolutions (golden README-video.md)


def twin(prefix, names=("conv1.weight", "layer1.0.conv1.weight", "layer1.0.bn1.running_mean")):
    """Enough of a second network of the same kind to be taken for one."""
    shapes = {
        "conv1.weight": (64, 3, 7, 7),
        "layer1.0.conv1.weight": (64, 64, 3, 3),
        "layer1.0.bn1.running_mean": (64,),
    }
    return {f"{prefix}{name}": torch.randn(shapes[name]) for name in names}


# Folder to: recognised system, stride, what else the published container holds, and the container.
SYSTEMS = {
    "crw_resnet18": (
        "crw",
        8,
        {"selfsim_fc.0.weight": torch.zeros(128, 512), "selfsim_fc.0.bias": torch.zeros(128)},
        lambda state: {"model": state, "optimizer": {}, "epoch": 1, "args": argparse.Namespace(model_type="scratch")},
    ),
    "vfs_resnet18": (
        "vfs",
        8,
        {"img_head.projection.0.weight": torch.zeros(4, 4)},
        lambda state: {"meta": {"config": "model = dict(type='SimSiamBaseTracker')"}, "state_dict": state},
    ),
    "vfs_resnet50": (
        "vfs",
        8,
        {"img_head.projection.0.weight": torch.zeros(4, 4)},
        lambda state: {"meta": {}, "state_dict": state},
    ),
    "spathentemp_resnet18_d8": (
        "spathentemp",
        8,
        {
            "backbone_t.conv1.conv.weight": torch.randn(64, 3, 7, 7),
            "backbone_t.layer1.0.conv1.conv.weight": torch.randn(64, 64, 3, 3),
        },
        lambda state: {"meta": {}, "state_dict": state},
    ),
    "timecycle_resnet50": (
        "timecycle",
        8,
        {"module.afterconv3_trans.weight": torch.zeros(4, 4, 1, 1), "module.linear2.weight": torch.zeros(3, 3)},
        lambda state: {"epoch": 1, "state_dict": state},
    ),
    "uvc_resnet18": (
        "uvc",
        8,
        {
            **twin("module.rgb_encoder."),
            "module.decoder.weight": torch.zeros(2),
            "module.normalize.mean": torch.zeros(3),
        },
        lambda state: {"epoch": 1, "arch": "resnet18", "state_dict": state, "best_loss": 0.5},
    ),
    "mast_resnet18": ("mast", 4, {}, lambda state: {"epoch": 1, "state_dict": state, "optimizer": {}}),
    "sfc_resnet18": (
        "sfc",
        8,
        {
            **twin("target_encoder."),
            "online_projector.0.weight": torch.zeros(3, 3),
            "predictor.0.weight": torch.zeros(3),
        },
        lambda state: {"model": state},
    ),
    "mocov2_resnet50": (
        "moco",
        8,
        {
            **twin("module.encoder_k."),
            "module.queue": torch.zeros(128, 8),
            "module.queue_ptr": torch.zeros(1, dtype=torch.long),
            "module.encoder_q.fc.0.weight": torch.zeros(4, 4),
        },
        lambda state: {"epoch": 1, "arch": "resnet50", "state_dict": state, "optimizer": {}},
    ),
    "simsiam_resnet50": (
        "simsiam",
        8,
        {
            "module.encoder.fc.0.weight": torch.zeros(4, 4),
            "module.encoder.fc.1.running_mean": torch.zeros(4),
            "module.predictor.0.weight": torch.zeros(4, 4),
        },
        lambda state: {"epoch": 1, "arch": "resnet50", "state_dict": state, "optimizer": {}},
    ),
}


def rebuilt(folder):
    """The state dict of a recipe golden under the names of its file; its hash is checked."""
    keys = json.loads((folder / "keys.json").read_text())
    meta = json.loads((folder / "meta.json").read_text())
    arrays = {name: values(name, entry["shape"], meta["seed"]) for name, entry in keys.items()}
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(arrays[name].tobytes())
    assert digest.hexdigest() == meta["weights_sha256"]
    return {
        entry["file_key"]: torch.from_numpy(arrays[name].reshape(entry.get("file_shape", entry["shape"])))
        for name, entry in keys.items()
    }


def values(name, shape, seed):
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    z = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(shape).astype(np.float32)
    if name.endswith("running_var"):
        return 0.75 + 0.25 * np.tanh(z)
    if name.endswith("running_mean"):
        return 0.1 * z
    if len(shape) >= 2:
        return z * math.sqrt(2 / math.prod(shape[1:]))
    return 1 + 0.1 * z if name.endswith("weight") else 0.1 * z


@pytest.fixture
def file_of(golden, tmp_path):
    """file_of(name): the rebuilt checkpoint in its published container."""

    def write(name, extra=None, container=None):
        _, _, beside, wrap = SYSTEMS[name]
        state = rebuilt(golden(f"checkpoints/{name}")) | (beside if extra is None else extra)
        torch.save((container or wrap)(state), tmp_path / f"{name}.pth")
        return tmp_path / f"{name}.pth"

    return write


@pytest.mark.golden
@pytest.mark.parametrize("name", SYSTEMS)
def test_a_published_file_gives_the_published_features(golden, file_of, name):
    arrays = np.load(golden(f"checkpoints/{name}") / "golden.npz")
    path = file_of(name)
    backbone = load_backbone(path)
    assert (backbone.report.system, backbone.stride) == SYSTEMS[name][:2]
    assert distance(backbone, arrays["x"], arrays["f"]) < TOLERANCE
    for array, layer in (("f_layer3", 3), ("f_layer3", "layer3"), ("f_afterconv1", "afterconv1")):
        if array in arrays:
            assert distance(load_backbone(path, layer=layer), arrays["x"], arrays[array]) < TOLERANCE, array
    dropped = " ".join(why for _, why in backbone.report.dropped)
    assert all(tensor.split(".")[0] for tensor in SYSTEMS[name][2]), dropped


@pytest.mark.golden
def test_two_files_of_sfc_are_fused(golden, file_of):
    arrays = np.load(golden("checkpoints/sfc_resnet18") / "golden.npz")
    fine, semantic = file_of("sfc_resnet18"), file_of("mocov2_resnet50")
    assert distance(load_backbone(f"{fine}+{semantic}"), arrays["x"], arrays["f_fused"]) < TOLERANCE
    with pytest.raises(CheckpointError, match=r"Two files are for SFC, and the first is of moco"):
        load_backbone(f"{semantic}+{fine}")


@pytest.mark.golden
def test_crw_pads_with_zeros_where_its_arguments_say_so(golden, file_of):
    arrays = np.load(golden("checkpoints/crw_resnet18") / "golden.npz")
    arguments = argparse.Namespace(model_type="scratch_zeropad")
    path = file_of("crw_resnet18", container=lambda state: {"model": state, "args": arguments})
    assert distance(load_backbone(path), arrays["x"], arrays["f"]) > 0.1


@pytest.mark.golden
def test_spathentemp_is_told_from_vfs_by_its_configuration_or_its_name(file_of, tmp_path):
    """The two name all tensors alike."""
    config = "model = dict(type='Framework', backbone=dict(type='ResNet', pool_type='none'))"
    by_config = file_of("spathentemp_resnet18_d8", {}, lambda state: {"meta": {"config": config}, "state_dict": state})
    assert load_backbone(by_config).report.system == "spathentemp"
    path = file_of("vfs_resnet18", {}, lambda state: {"meta": {}, "state_dict": state})
    assert load_backbone(path).report.system == "vfs"
    renamed = path.rename(tmp_path / "Spa-then-Temp_r18_d8.pth")
    named = load_backbone(renamed)
    assert named.report.system == "spathentemp"
    assert "the name of the file" in dict(named.report.evidence)["system"]


@pytest.mark.golden
def test_a_truncated_layer_is_incomplete(file_of):
    path = file_of("vfs_resnet18", container=lambda state: {"state_dict": without(state, "layer2.1.conv2")})
    with pytest.raises(CheckpointError, match=r"is incomplete: .*backbone\.layer2\.1\.conv2\.conv\.weight"):
        load_backbone(path)


def without(state, part):
    return {name: tensor for name, tensor in state.items() if part not in name}


@pytest.mark.golden
def test_the_momentum_twin_is_left_out_and_said_so(file_of):
    recognised = recognise(open_checkpoint(file_of("mocov2_resnet50")))
    assert "encoder_q" in recognised.prefix
    assert "encoder_q is evaluated, not encoder_k" in str(recognised.dropped)
