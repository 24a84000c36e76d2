"""J and F of corrkit against a plain rewrite of the official rule, and against the official tool where it is at hand.

CPU time of one thread per frame; all contenders take turns on the same frames, the least of the rounds counts, and
their numbers must be equal to the last bit. With --data, a root in DAVIS layout, its masks count as one object and the
mask of the frame before serves as the prediction; without it, moving blobs are drawn. --official is a checkout of
davisvideochallenge/davis2017-evaluation (needs scikit-image), run from there. The bars are for the mean over clips.
"""

import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np
from measuring import Bar, Row, Settings, least
from PIL import Image

from corrkit.metrics.region_contour import outline_objects, region_contour

Masks = list[np.ndarray]
Scores = list[tuple[float, float]]
BARS = MappingProxyType(
    {
        ("plain rewrite", 1): Bar(relation=">=", must=4, aim=8),
        ("plain rewrite", 4): Bar(relation=">=", must=7, aim=13),
        ("official tool", 1): Bar(relation=">=", must=7, aim=14),
        ("official tool", 4): Bar(relation=">=", must=12, aim=25),
    }
)


def rows(settings: Settings, part: str) -> Iterator[Row]:
    """Others over corrkit, with one object, and with four at half size."""
    cv2.setNumThreads(1)
    contenders = {"plain rewrite": plain_rewrite}
    if settings.official:
        contenders["official tool"] = load_official(settings.official)
    num_frames = 6 if settings.quick else 24
    clips = davis_clips(settings.data, num_frames) if settings.data else {"blobs": blobs(num_frames)}
    for num_objects in (1, 4):
        found: dict[str, list[float]] = {name: [] for name in (*contenders, "cached")}
        for name, masks in clips.items():
            copied = masks if num_objects == 1 else [four_copies(ids) for ids in masks]
            times = compared(name, copied, num_objects, contenders, 2 if settings.quick else 7)
            for other, ratios in found.items():
                ratios.append(times[other] / times["corrkit"])
        for other, ratios in found.items():
            said = f"{other} over corrkit, {num_objects} object(s)"
            if other == "cached":
                said = f"corrkit with the annotation prepared over corrkit, {num_objects} object(s)"
            yield Row(what=said, value=float(np.mean(ratios)), bar=BARS.get((other, num_objects)))


def compared(
    name: str, masks: Masks, num_objects: int, contenders: dict[str, Callable], rounds: int
) -> dict[str, float]:
    """Seconds of each contender, of corrkit (both sides) and of "cached" (the annotation prepared before)."""
    pairs = list(zip(masks[1:], masks[:-1], strict=True))
    prepared = [outline_objects(truth, num_objects) for truth, _ in pairs]
    scores: dict[str, Scores] = {}

    def kept(key: str, run: Callable[[], Scores]) -> Callable[[], None]:
        return lambda: scores.update({key: run()})

    def other(rule: Callable) -> Callable[[], Scores]:
        return lambda: [rule(prediction, truth, num_objects) for truth, prediction in pairs]

    runs = {
        "corrkit": lambda: [
            region_contour(prediction, outline_objects(truth, num_objects)) for truth, prediction in pairs
        ],
        "cached": lambda: [region_contour(pair[1], truth) for pair, truth in zip(pairs, prepared, strict=True)],
    } | {key: other(rule) for key, rule in contenders.items()}
    times = least({key: kept(key, run) for key, run in runs.items()}, rounds)
    for key in runs:
        if not np.array_equal(np.array(scores[key]), np.array(scores["corrkit"])):
            sys.exit(f"{key} and corrkit disagree on {name}")
    return times


def plain_rewrite(prediction: np.ndarray, truth: np.ndarray, num_objects: int) -> tuple[list[float], list[float]]:
    """The rule as one would write it down: full-frame masks, one dilation with the disk for each contour."""
    height, width = truth.shape
    radius = math.ceil(0.008 * math.hypot(height, width))
    offsets = np.arange(-radius, radius + 1)
    disk = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.uint8)
    J, F = [], []
    for k in range(1, num_objects + 1):
        predicted, true = prediction == k, truth == k
        union = np.count_nonzero(predicted | true)
        J.append(np.count_nonzero(predicted & true) / union if union else 1.0)
        predicted_contour, true_contour = plain_contour(predicted), plain_contour(true)
        near_predicted = cv2.dilate(predicted_contour.astype(np.uint8), disk) > 0
        near_true = cv2.dilate(true_contour.astype(np.uint8), disk) > 0
        num_predicted, num_true = np.count_nonzero(predicted_contour), np.count_nonzero(true_contour)
        if not num_predicted or not num_true:
            F.append(float(num_predicted == num_true))
            continue
        precision = np.count_nonzero(predicted_contour & near_true) / num_predicted
        recall = np.count_nonzero(true_contour & near_predicted) / num_true
        F.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return J, F


def plain_contour(mask: np.ndarray) -> np.ndarray:
    right, below, diagonal = np.zeros_like(mask), np.zeros_like(mask), np.zeros_like(mask)
    right[:, :-1] = mask[:, 1:]
    below[:-1] = mask[1:]
    diagonal[:-1, :-1] = mask[1:, 1:]
    contour = (mask ^ right) | (mask ^ below) | (mask ^ diagonal)
    contour[-1] = mask[-1] ^ right[-1]
    contour[:, -1] = mask[:, -1] ^ below[:, -1]
    contour[-1, -1] = False
    return contour


def load_official(folder: Path) -> Callable:
    sys.path.insert(0, str(folder))
    from davis2017.metrics import db_eval_boundary, db_eval_iou

    def official(prediction: np.ndarray, truth: np.ndarray, num_objects: int) -> tuple[list[float], list[float]]:
        predicted = [prediction == k for k in range(1, num_objects + 1)]
        true = [truth == k for k in range(1, num_objects + 1)]
        J = [float(db_eval_iou(*masks)) for masks in zip(true, predicted, strict=True)]
        F = [float(db_eval_boundary(*masks)) for masks in zip(true, predicted, strict=True)]
        return J, F

    return official


def davis_clips(root: Path, frames: int) -> dict[str, Masks]:
    folders = sorted((root / "Annotations" / "480p").iterdir())
    return {folder.name: [binary_mask(file) for file in sorted(folder.glob("*.png"))[:frames]] for folder in folders}


def binary_mask(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return (np.array(image) > 0).astype(np.uint8)


def blobs(frames: int) -> Masks:
    """A wobbling disc that moves through a picture of 480x854."""
    y, x = np.mgrid[:480, :854].astype(np.float32)
    masks = []
    for t in range(frames):
        dy, dx = y - 240 - 40 * math.sin(t / 5), x - 300 - 8 * t
        wobble = 1 + 0.2 * np.sin(7 * np.arctan2(dy, dx) + t / 3)
        masks.append((np.hypot(dy, dx) < 150 * wobble).astype(np.uint8))
    return masks


def four_copies(ids: np.ndarray) -> np.ndarray:
    """The mask at half size in each quarter of the picture, as objects 1 to 4."""
    half = ids[::2, ::2][: ids.shape[0] // 2, : ids.shape[1] // 2]
    copies = np.zeros_like(ids)
    for k in range(4):
        top, left = divmod(k, 2)
        copies[top * half.shape[0] :, left * half.shape[1] :][: half.shape[0], : half.shape[1]] = half * (k + 1)
    return copies
