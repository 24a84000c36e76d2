"""What an evaluation costs beside the bare network, and whether memory grows with the clip.

Part "forward": CPU time of one thread for the first clip of the data (embedded clips without --data), ViT-S/16 with
random weights under davis/dino, taken alternately with the bare network on the same frames. Part "memory": peak of a
process that evaluates a drawn clip of 1,000 frames over one of 100, colour backbone.
"""

import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from measuring import Bar, Row, Settings, elsewhere, least
from PIL import Image

import corrkit
from corrkit.backbones.contract import with_position
from corrkit.frames.preparation import FramePreparation
from corrkit.inference import exact_inference
from corrkit.passes import evaluate_clip
from corrkit.predictors.loading import make_predictor
from corrkit.predictors.propagator import Propagator
from corrkit.protocols import load_protocol, override
from corrkit.tasks import load_task
from corrkit.tasks.masks import write_mask
from corrkit.tasks.sources import open_data

OVER_FORWARD = Bar(relation="<=", must=1.15, aim=1.07)
OVER_SHORT = Bar(relation="<=", must=1.05)


def rows(settings: Settings, part: str) -> Iterator[Row]:
    """Whole evaluation over the bare forward passes, or a long clip's memory over a short one's."""
    return _memory(settings) if part == "memory" else _forward(settings)


def _forward(settings: Settings) -> Iterator[Row]:
    torch.set_num_threads(1)
    task, protocol = load_task("davis"), load_protocol("davis/dino")
    if settings.quick:
        protocol = override(protocol, {"size": [128]})
    clip = open_data(task, settings.data, None).clips[0]
    predictor = make_predictor("random:vit_small_patch16_224", device=settings.device)
    assert isinstance(predictor, Propagator)
    backbone = with_position(predictor.backbone, protocol.features.position)
    seen = predictor.network_input(clip, protocol)
    prepare = FramePreparation(seen.size, protocol.frames, seen.mean, seen.std, seen.colour)
    frames = [prepare(clip.frames[index]).to(settings.device) for index in range(len(clip.frames))]
    with exact_inference():
        times = least(
            {
                "whole": lambda: evaluate_clip([(predictor, protocol)], clip, task),
                "bare": lambda: [backbone(frame[None]) for frame in frames],
            },
            1 if settings.quick else 3,
            settings.device,
        )
    yield Row(what="bare forward per frame", value=1e3 * times["bare"] / len(frames), unit="ms")
    said = f"whole evaluation over the bare forward, {len(frames)} frames of {seen.size[0]}x{seen.size[1]}"
    yield Row(what=said, value=times["whole"] / times["bare"], bar=OVER_FORWARD)


def _memory(settings: Settings) -> Iterator[Row]:
    lengths = (10, 100) if settings.quick else (100, 1000)
    short, long = (elsewhere("evaluation:peak_memory", length) for length in lengths)
    said = f"peak memory of a clip of {lengths[1]} frames over one of {lengths[0]}"
    yield Row(what=said, value=long / short, bar=OVER_SHORT)


def peak_memory(length: int | str) -> float:
    """Peak resident memory in MB of evaluating a clip of `length` frames with the colour backbone."""
    length = int(length)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        draw = np.random.default_rng(0)
        ground = draw.integers(0, 255, (240, 426, 3), np.uint8)
        for index in range(length):
            ids = np.zeros((240, 426), np.uint8)
            left = 10 + index * 300 // length
            ids[60:160, left : left + 80] = 1
            picture = np.where(ids[..., None] == 1, np.uint8(200), ground)
            write_mask(root / "Annotations/480p/long" / f"{index:05d}.png", ids)
            path = root / "JPEGImages/480p/long" / f"{index:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
        corrkit.evaluate("davis", "rgb", data=root, device="cpu", size=[128])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
