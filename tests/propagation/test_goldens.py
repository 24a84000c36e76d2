"""Soft label maps of the published propagation functions (golden/davis level1, golden/jhmdb, golden/vip).

A published script's default is a named protocol, its other settings a set of overrides: the kernel must reach all of
them through the fields of the protocol.
"""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import corrkit
from corrkit.errors import ProtocolError
from corrkit.protocols import load_protocol, override
from corrkit.tasks.contract import Geometry
from corrkit.tasks.masks import MaskCodec

pytestmark = pytest.mark.golden

SOFT = 1e-5  # golden/davis/README.md, where ok
MARGIN = 1e-4  # between the two largest read-out classes, below which argmax is not compared
NEAR_TIES = 0.005  # share of a case's ok cells that one flipped near tie may reach
STRESS = {"c04_neartie": 0.10}  # a case made of near ties; deviations are counted
CASES = [
    "c01_single",
    "c02_multi4",
    "c03_constant",
    "c04_neartie",
    "c05_odd",
    "c06_tiny",
    "c07_long",
    "c08_zerofeat",
    "c09_idgap",
    "c10_noisy1px",
    "c11_dup",
]
PROTOCOLS = [
    "dino",
    "rsp",
    "dift",
    "dinov3nb",
    "crw",
    "cropmae",
    "sfc",
    "vfs",
    "spathentemp",
    "uvc",
    "timecycle",
    "rvm",
]
# What a named protocol holds; the other settings are overrides of davis/dino.
NAMED = {
    ("dino", "default"): "dino",
    ("rsp", "default"): "rsp",
    ("dift", "sd"): "dift",
    ("dinov3nb", "default"): "dinov3-notebook",
    ("crw", "default"): "crw",
    ("cropmae", "default"): "cropmae",
    ("sfc", "default_fusion"): "sfc",
    ("vfs", "default"): "vfs",
    ("spathentemp", "default_square24"): "spa-then-temp",
    ("uvc", "default"): "uvc",
    ("timecycle", "default"): "timecycle",
    ("rvm", "default"): "rvm",
    ("mast", "default"): "mast",
}
# The published code raises here (README.md).
RAISES = {("dino", "r1_k20", "c06_tiny"), ("dift", "sd", "c06_tiny"), ("spathentemp", "square6_hard", "c06_tiny")}


FUSION = [1.75, 1.0]  # of SFC
CRW = {"shape": "circle", "inclusive": False, "ties": "exact", "first_copies": "fill", "mask_first": False}

MAST = {
    "context": 3, "spacing": 2, "distinct": True, "topk": 0, "temperature": 1.0, "normalise": "window", "l2": False,
    "feedback": "prediction", "downsample": "stride", "classes": "original-max", "resolution": "original",
    "minmax": "none",
}  # fmt: skip


def overrides(setting):
    """golden/davis/level1/settings.json in corrkit's fields."""
    family = setting["family"]
    if family == "rvm":
        return CRW | {
            "predict_first": True, "context": setting["n_context"], "topk": setting["topk"],
            "temperature": setting["temperature"], "radius": setting["radius"],
            "shape": "circle" if setting["restrict_neighborhood"] else "none",
            "rescale": "classes-fed-back" if setting["norm_mask"] else "none",
        }  # fmt: skip
    if family == "timecycle":
        return {
            "context": setting["context"] - 1, "first_copies": "fill", "predict_first": True, "shape": "none",
            "scope": "frame", "normalise": "frame", "ties": "exact", "topk": setting["k"], "temperature": 512**-0.5,
            "feedback": "minmax",
        }  # fmt: skip
    if family == "mast":  # ref 1 has no frame 5
        long_term = {0: [0, 5], 1: [0]}[setting["ref"]]
        return MAST | {"long_term": long_term, "radius": setting["R"]}
    common = {"context": setting["n"], "topk": setting["k"], "l2": setting["norm"]}
    if family == "uvc":
        per_frame = {"shape": "none", "scope": "frame", "normalise": "frame", "ties": "keep"}
        return common | per_frame | {"temperature": 1 / setting["temp"]}
    common |= {
        "temperature": setting["temp"],
        "radius": setting["r"] or 0,
        "shape": setting["shape"] or "none",
        "inclusive": not setting["strict"],
        "ties": "keep" if family == "thr" else "exact",
    }
    if family == "crw":
        common |= {"long_term": setting["longm"], "mask_first": False, "first_copies": "fill"}
        common |= {"rescale": "classes"} if setting.get("norm_mask") else {}
    if family == "vfs":
        common |= {"first_copies": "once", "long_term": [0] if setting["first"] else []}
        common |= {"mask_first": "free" not in setting, "feedback": "hard" if setting.get("hard") else "soft"}
    if "fuse" in setting:
        common |= {"group_weights": FUSION}
    return common


def settings_of(golden, protocol):
    """Name to setting, as the golden's programs hold them."""
    if protocol != "rvm":
        return json.loads(golden("davis/level1/settings.json").read_text())["settings"][protocol]
    table = json.loads(golden("davis/level1/rvm/settings.json").read_text())
    return {name: {"family": "rvm"} | table["defaults"] | own for name, own in table["settings"].items()}


def clip(golden, setting, case):
    """Features [T, h, w, C], first labels [h, w, L] and the id of each channel, as the published loop saw them."""
    inputs = np.load(golden(f"davis/level1/inputs/{case}.npz"))
    features = torch.from_numpy(inputs["features"]).permute(0, 2, 3, 1)
    ids = torch.from_numpy(inputs["labels"]).long()
    if setting["family"] == "timecycle":
        side = min(ids.shape)
        features, ids = features[:, :side, :side].clamp(min=0), ids[:side, :side]  # the network ends in a ReLU
        flat = ids.flatten().tolist()
        channels = [0, *(i for i in dict.fromkeys(flat) if i)]
    elif setting["family"] in ("crw", "rvm"):
        channels = sorted(set(ids.flatten().tolist()))
    else:
        channels = list(range(int(ids.max()) + 1))
    return features, torch.stack([ids == i for i in channels], -1).float(), np.array(channels)


READOUTS = {
    "dino": "nan wins", "rsp": "nan wins", "dift": "nan wins", "uvc": "nan wins", "vfs": "epsilon",
    "spathentemp": "epsilon", "dinov3nb": "nan to zero", "crw": "plain", "cropmae": "plain", "sfc": "plain",
    "rvm": "plain",
}  # fmt: skip


def read_out(soft, rule):
    """[L, h, w] as the published scripts compare classes at scale 1 (protocols-davis.md section 3)."""
    if rule == "plain":
        return soft
    shifted = soft - soft.amin((1, 2), keepdim=True)
    largest = shifted.amax((1, 2), keepdim=True)
    if rule == "nan to zero":
        return torch.nan_to_num(shifted / largest)
    normalised = shifted / (largest + (1e-12 if rule == "epsilon" else 0))
    return torch.where(soft.amax((1, 2), keepdim=True) > 0, normalised, soft)


def num_ids_that_differ(soft, ids, ok, rule, channels):
    """Cells of a frame whose id is not the one the published loop saved, among those with a clear winner."""
    scores = read_out(soft, rule)
    best = scores.nan_to_num(torch.inf).topk(2, dim=0).values
    is_clear = (best[0] - best[1] > MARGIN).numpy() & ok
    return int((channels[scores.max(0).indices.numpy()] != ids)[is_clear].sum())


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("case", CASES)
def test_soft_maps_and_ids_of_published_code(golden, protocol, case, capsys, parity):
    table = settings_of(golden, protocol)
    published = np.load(golden(f"davis/level1/{protocol}/{case}.npz"))
    compared = 0
    for name, setting in table.items():
        if f"{name}.soft" not in published or name == "r1_nan":
            continue
        features, first, channels = clip(golden, setting, case)
        named = NAMED.get((protocol, name))
        rules = {"protocol": f"davis/{named}"} if named else {"protocol": "davis/dino"} | overrides(setting)
        rules |= {"group_weights": FUSION} if "fuse" in setting else {}  # two networks; a checkpoint fuses them itself
        soft = torch.stack(list(corrkit.propagate(features, first, **rules)))
        soft = soft.permute(0, 3, 1, 2)
        want, ids, ok = (published[f"{name}.{key}"][-len(soft) :] for key in ("soft", "argmax", "ok"))
        difference = np.abs(soft.numpy() - want).max(1)
        off = difference > SOFT
        if named and (~off & ok).any():
            parity(f"davis/{named}", "propagation", difference[~off & ok].max(), (~off & ok).sum())
            parity(f"davis/{named}", "near ties", (off & ok).sum(), ok.sum(), "cells")
        num_off = int((off & ok).sum())
        assert num_off <= STRESS.get(case, NEAR_TIES) * ok.sum(), f"{name}: {num_off} of {ok.sum()} cells differ"
        if num_off:
            with capsys.disabled():
                print(f"\nnear ties: {protocol} {name} {case}: {num_off} of {ok.sum()} ok cells differ")
        # Where a cell is off, per-class min-max spreads it over the frame. timecycle's ids lie on another grid.
        for t in np.flatnonzero(~off.any((1, 2))) if protocol in READOUTS else ():
            differing = num_ids_that_differ(soft[t], ids[t], ok[t], READOUTS[protocol], channels)
            assert differing == 0, f"{name} frame {t}: {differing} ids"
        compared += int(ok.sum())
    assert compared > 0


MAST_SOFT = 1e-4  # golden/davis/README.md
STILL = 15  # frames; later ones have references whose windows move, which the golden's re-computation leaves out too


def mast_clip(golden, case, protocol):
    """Soft maps of frames 1 to STILL and the codec: labels are given, decided and fed back at 4 times the grid."""
    inputs = np.load(golden(f"davis/level1/inputs/{case}.npz"))
    features = torch.from_numpy(inputs["features"]).permute(0, 2, 3, 1)[: STILL + 1]
    mask = inputs["labels"].astype(np.uint8).repeat(4, 0).repeat(4, 1)
    geometry = Geometry(original=mask.shape, network=mask.shape, grid=inputs["labels"].shape, stride=4)
    codec = MaskCodec(mask, geometry, protocol.labels, protocol.readout)
    maps = corrkit.propagate(
        features, codec.encode(mask), protocol=protocol, predicted=lambda soft: codec.encode(codec.decode(soft))
    )
    return list(maps), codec


def mast_cells_that_differ(maps, codec, published, name):
    """How many ok cells of the soft maps are not as published, among how many."""
    differing = compared = 0
    for t, soft in enumerate(maps, start=1):
        want, ok = published[f"{name}.soft"][t], published[f"{name}.ok"][t]
        assert (want[len(codec.ids) :][:, ok] == 0).all()
        off = np.abs(soft.permute(2, 0, 1).numpy() - want[: len(codec.ids)]).max(0) > MAST_SOFT
        differing += int((off & ok).sum())
        compared += int(ok.sum())
    return differing, compared


@pytest.mark.parametrize("case", CASES)
def test_soft_maps_and_masks_of_mast(golden, case, parity):
    published = np.load(golden(f"davis/level1/mast/{case}.npz"))
    for name, setting in settings_of(golden, "mast").items():
        if f"{name}.soft" not in published:
            continue
        protocol = override(load_protocol("davis/mast"), overrides(setting))
        assert name != "default" or not protocol.overrides, "the named protocol is the published default"
        maps, codec = mast_clip(golden, case, protocol)
        assert mast_cells_that_differ(maps, codec, published, name) == (0, maps[0][..., 0].numel() * len(maps))
        ids = np.stack([codec.decode(soft) for soft in maps])
        differs = ids != published[f"{name}.argmax"][1 : len(ids) + 1]
        assert differs.mean() <= 0.001
        if name == "default":
            parity("davis/mast", "propagation", 0, maps[0][..., 0].numel() * len(maps), "cells")
            parity("davis/mast", "read-out", differs.sum(), differs.size, "pixels")


def test_every_setting_has_goldens(golden):
    """The settings that a case lacks are the ones whose published code raises, or that were run on fewer cases."""
    for protocol in PROTOCOLS:
        for name in settings_of(golden, protocol):
            having = {c for c in CASES if f"{name}.soft" in np.load(golden(f"davis/level1/{protocol}/{c}.npz"))}
            raising = {c for c in CASES if (protocol, name, c) in RAISES}
            assert having >= set(CASES) - raising - {"c01_single"}, (protocol, name)


def test_window_where_published_vfs_returns_nan_is_refused(golden):
    published = np.load(golden("davis/level1/vfs/c05_odd.npz"))
    assert np.isnan(published["r1_nan.soft"][1:]).all()
    setting = settings_of(golden, "vfs")["r1_nan"]
    features, first, _ = clip(golden, setting, "c05_odd")
    with pytest.raises(ProtocolError, match="admits no cell"):
        list(corrkit.propagate(features, first, **overrides(setting)))


VFS = {"shape": "circle", "inclusive": False, "ties": "exact", "first_copies": "once"}
SQUARE = {"shape": "square", "inclusive": True, "ties": "exact", "first_copies": "once"}
PER_FRAME = {"shape": "none", "scope": "frame", "normalise": "frame", "temperature": 1.0, "l2": False}


def group(golden, path, case):
    archive = np.load(golden(path))
    return {k.split("/")[1]: archive[k] for k in archive.files if k.startswith(f"{case}/")}


def compare(arrays, first, rules, want, parity=None, named=""):
    features = torch.from_numpy(arrays["features"]).permute(0, 2, 3, 1)
    soft = torch.stack(list(corrkit.propagate(features, first, protocol="davis/dino", **rules)))
    np.testing.assert_allclose(soft.numpy(), want, atol=SOFT)
    if named:
        parity(named, "propagation", np.abs(soft.numpy() - want).max(), want.size)


# The cases whose constants are those of a named protocol.
PARTS_AND_POINTS = {
    "cropmae_jhmdb": "jhmdb/cropmae", "crw_jhmdb_L7_r5": "jhmdb/crw", "cropmae_vip": "vip/cropmae",
    "crw_vip_L4_r12": "vip/crw", "sptt_vip_square_nr32": "vip/spa-then-temp",
}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "case"),
    [
        ("jhmdb/propagation.npz", "cropmae_jhmdb"),
        ("jhmdb/propagation.npz", "crw_jhmdb_L7_r5"),
        ("jhmdb/propagation.npz", "crw_jhmdb_L20_r12_T007"),
        ("vip/propagation.npz", "cropmae_vip"),
        ("vip/propagation.npz", "crw_vip_L4_r12"),
        ("vip/propagation.npz", "crw_vip_norm_mask"),
    ],
)
def test_crw_family_on_parts_and_points(golden, path, case, parity):
    a = group(golden, path, case)
    rules = CRW | {
        "context": int(a["n_context"]), "radius": int(a["radius"]), "topk": int(a["topk"]),
        "temperature": float(a["temp"]), "rescale": "classes" if "norm_mask" in a else "none",
    }  # fmt: skip
    compare(a, torch.from_numpy(a["labels0"]), rules, a["soft"][1:], parity, PARTS_AND_POINTS.get(case, ""))


@pytest.mark.parametrize(("case", "window"), [("vfs_vip_circle_nr24", VFS), ("sptt_vip_square_nr32", SQUARE)])
def test_vfs_family_on_parts(golden, case, window, parity):
    a = group(golden, "vip/propagation.npz", case)
    rules = window | {
        "context": int(a["precede_frames"]), "radius": int(a["neighbor_range"]) // 2, "topk": int(a["topk"]),
        "temperature": float(a["temperature"]),
    }  # fmt: skip
    h, w = a["soft"].shape[2:]
    ids = np.array(Image.fromarray(a["label_image_at_input_size"]).resize((w, h), Image.Resampling.NEAREST))
    first = torch.nn.functional.one_hot(torch.from_numpy(ids).long(), a["soft"].shape[1]).float()
    compare(a, first, rules, a["soft"].transpose(0, 2, 3, 1), parity, PARTS_AND_POINTS.get(case, ""))


def test_uvc_on_parts(golden, parity):
    a = group(golden, "vip/propagation.npz", "uvc_vip_pre1_top5")
    rules = PER_FRAME | {"context": int(a["pre_num"]), "topk": int(a["topk"])}
    first = torch.from_numpy(a["onehot0"]).permute(1, 2, 0)
    compare(a, first, rules, a["soft"].transpose(0, 2, 3, 1), parity, "vip/uvc")


def test_uvc_on_points_predicts_frame_0_and_feeds_back_minmax(golden, parity):
    a = group(golden, "jhmdb/propagation.npz", "uvc_jhmdb")
    points = torch.from_numpy(a["labels0_no_background"])
    background = (points.sum(-1, keepdim=True) == 0).float()  # 1 where all maps are 0 (test_jhmdb.py:389-399)
    rules = PER_FRAME | {
        "context": int(a["videoLen"]) - 1, "topk": int(a["topk_per_frame"]), "ties": "exact", "predict_first": True,
        "first_copies": "fill", "feedback": "minmax",
    }  # fmt: skip
    compare(a, torch.cat([background, points], -1), rules, a["soft"], parity, "jhmdb/uvc")
