"""J and F of corrkit against a plain rewrite of the official rule, and against the official tool where it is at hand.

    python benchmarks/jf.py [--data DAVIS] [--official davis2017-evaluation]

Prints CPU time of one thread in ms per frame and the ratios. All contenders take turns on the same frames, the least of
the rounds counts, and their numbers must be equal to the last bit. `--data` is a root in DAVIS layout (its masks count
as one object; the mask of the frame before serves as the prediction); without it, moving blobs are drawn. `--official`
is a checkout of davisvideochallenge/davis2017-evaluation (needs scikit-image).
"""

import argparse
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from corrkit.metrics.region_contour import outline_objects, region_contour

Masks = list[np.ndarray]
Scores = list[tuple[float, float]]


def main() -> None:
    arguments = read_arguments()
    cv2.setNumThreads(1)
    contenders = {"plain rewrite": plain_rewrite}
    if arguments.official:
        contenders["official"] = load_official(arguments.official)
    clips = davis_clips(arguments.data, arguments.frames) if arguments.data else {"blobs": blobs(arguments.frames)}
    print(f"{'masks':<28}{'objects':>8}{'corrkit':>9}{'cached':>8}", *(f"{name:>15}{'x':>6}" for name in contenders))
    for name, masks in clips.items():
        report(name, masks, 1, contenders, arguments.rounds)
        report(f"{name}, 4 at half size", [four_copies(ids) for ids in masks], 4, contenders, arguments.rounds)


def report(name: str, masks: Masks, num_objects: int, contenders: dict[str, Callable], rounds: int) -> None:
    """One line: ms per frame of corrkit (both sides; with the annotation prepared before) and of the others."""
    pairs = list(zip(masks[1:], masks[:-1], strict=True))
    prepared = [outline_objects(truth, num_objects) for truth, _ in pairs]

    def corrkit() -> Scores:
        return [region_contour(prediction, outline_objects(truth, num_objects)) for truth, prediction in pairs]

    def cached() -> Scores:
        return [region_contour(pair[1], truth) for pair, truth in zip(pairs, prepared, strict=True)]

    def other(rule: Callable) -> Callable[[], Scores]:
        return lambda: [rule(prediction, truth, num_objects) for truth, prediction in pairs]

    runs = {"corrkit": corrkit, "cached": cached} | {key: other(rule) for key, rule in contenders.items()}
    times, scores = dict.fromkeys(runs, math.inf), {}
    for _ in range(rounds):
        for key, run in runs.items():
            started = time.thread_time()
            scores[key] = run()
            times[key] = min(times[key], (time.thread_time() - started) / len(pairs) * 1e3)
    for key in runs:
        if not np.array_equal(np.array(scores[key]), np.array(scores["corrkit"])):
            sys.exit(f"{key} and corrkit disagree on {name}")
    ratios = (f"{times[key]:>15.2f}{times[key] / times['corrkit']:>6.1f}" for key in contenders)
    print(f"{name:<28}{num_objects:>8}{times['corrkit']:>9.3f}{times['cached']:>8.3f}", *ratios)


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


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="root in DAVIS layout")
    parser.add_argument("--official", type=Path, help="checkout of davisvideochallenge/davis2017-evaluation")
    parser.add_argument("--frames", type=int, default=24, help="frames of each clip (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the fastest counts")
    return parser.parse_args()


if __name__ == "__main__":
    main()
