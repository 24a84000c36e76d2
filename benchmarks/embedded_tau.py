"""Do the embedded clips rank features as real clips do? Kendall's tau with a bootstrap interval.

    python benchmarks/embedded_tau.py davis --real DAVIS --real DAVIS_composite --every 3 --frames 8
    python benchmarks/embedded_tau.py jhmdb --real JHMDB --every 3 --frames 10

Evaluates about 25 features (variants of rgb and hog, random networks of several kinds and seeds, layers of one of them)
on both under the task's default protocol. Real clips are thinned out: every EVERY-th frame, at most FRAMES of them, in
a temporary folder. --shrink halves the short side that the network sees, for both sides alike (marked "modified").
The interval resamples features (10,000 times): they are what tau generalises over. How few clips there are is left out.
"""

import argparse
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from scipy.io import loadmat, savemat
from scipy.stats import kendalltau

import corrkit
from corrkit.backbones.cells import HogCells, RgbCells
from corrkit.backbones.contract import Backbone
from corrkit.task_table import task_facts

RESAMPLES = 10_000
RGB = (
    {"context": 0},
    {"context": 1},
    {"context": 2},
    {"context": 1, "parts": 2},
    {"context": 1, "constant": 0.0},
    {"context": 1, "stride": 16},
    {"context": 0, "stride": 16, "parts": 2},
)
HOG = (
    {},
    {"context": 0},
    {"context": 2},
    {"bins": 4},
    {"colour": 0.0},
    {"colour": 0.5},
    {"colour": 2.0},
    {"stride": 16},
    {"stride": 16, "context": 0},
    {"floor": 0.2},
)
RANDOM = (
    "random:resnet18@0",
    "random:resnet18@1",
    "random:convnext_atto@0",
    "random:mobilenetv3_small_100@0",
    "random:vit_tiny_patch16_224@0",
    "random:vit_tiny_patch16_224@1",
)
VIT_BLOCKS = (0, 2, 6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("davis", "jhmdb"))
    parser.add_argument("--real", action="append", required=True, type=Path, help="a data root; may be repeated")
    parser.add_argument("--every", type=int, default=3)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--shrink", action="store_true", help="davis: 240 instead of 480 pixels")
    args = parser.parse_args()
    overrides = {"size": [240]} if args.shrink else {}
    metric = task_facts(args.task).leading.name
    pairs = []
    with tempfile.TemporaryDirectory() as folder:
        real = Path(folder)
        for root in args.real:
            THIN[args.task](root, real, args.every, args.frames)
        for name, make in features():
            values = [
                corrkit.evaluate(
                    args.task, make(), data=data, dataset_name="thinned" if data else None, device="cpu", **overrides
                ).summary["metrics"][metric]
                for data in (None, real)
            ]
            pairs.append(values)
            print(f"{name:44} embedded {100 * values[0]:5.1f}  real {100 * values[1]:5.1f}", flush=True)
    tau, low, high = interval(np.array(pairs))
    print(f"{args.task} {metric}: Kendall's tau {tau:.2f} [{low:.2f}, {high:.2f}] over {len(pairs)} features")


def features() -> Iterator[tuple[str, Callable[[], Backbone]]]:
    for options in RGB:
        yield f"rgb {options}", lambda options=options: RgbCells(**options)
    for options in HOG:
        yield f"hog {options}", lambda options=options: HogCells(**options)
    for spec in RANDOM:
        yield spec, lambda spec=spec: corrkit.load_backbone(spec)
    for block in VIT_BLOCKS:
        yield f"random:vit_tiny_patch16_224@0, block {block}", lambda block=block: early_block(block)


def early_block(block: int) -> Backbone:
    """A random ViT's tokens after one of its first blocks, [h, w, C]."""
    import timm

    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", dynamic_img_size=True)

    def forward(frames: torch.Tensor) -> torch.Tensor:
        return network.forward_intermediates(frames, indices=[block], intermediates_only=True)[0]

    return corrkit.wrap(network, patch=16, forward=forward)


def interval(pairs: np.ndarray) -> tuple[float, float, float]:
    """Tau-b of pairs [features, 2], with the percentiles 2.5 and 97.5 over resampled features."""
    generator = np.random.default_rng(0)
    draws = []
    for _ in range(RESAMPLES):
        chosen = pairs[generator.integers(0, len(pairs), len(pairs))]
        # Copies of one feature tie with each other in both orders and say nothing: each feature counts once.
        draws.append(kendalltau(*np.unique(chosen, axis=0).T).statistic)
    low, high = np.nanpercentile(draws, (2.5, 97.5))
    return float(kendalltau(*pairs.T).statistic), float(low), float(high)


def thin_davis(root: Path, target: Path, every: int, frames: int) -> None:
    """Every `every`-th frame of each clip, added to a DAVIS root."""
    names = (root / "ImageSets" / "2017" / "val.txt").read_text().split()
    for kind, suffix in (("JPEGImages", ".jpg"), ("Annotations", ".png")):
        for name in names:
            files = sorted((root / kind / "480p" / name).glob(f"*{suffix}"))[::every][:frames]
            folder = target / kind / "480p" / name
            folder.mkdir(parents=True)
            for index, file in enumerate(files):
                shutil.copy(file, folder / f"{index:05d}{suffix}")
    path = target / "ImageSets" / "2017" / "val.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lines:
        lines.writelines(f"{name}\n" for name in names)


def thin_jhmdb(root: Path, target: Path, every: int, frames: int) -> None:
    """Every `every`-th frame of each clip, added to a JHMDB root."""
    for annotation in sorted(root.glob("joint_positions/*/*/joint_positions.mat")):
        action, clip = annotation.parts[-3:-1]
        points = loadmat(annotation)["pos_img"][:, :, ::every][:, :, :frames]
        folder = target / "Rename_Images" / action / clip
        folder.mkdir(parents=True)
        for index in range(points.shape[2]):
            shutil.copy(
                root / "Rename_Images" / action / clip / f"{index * every + 1:05d}.png", folder / f"{index + 1:05d}.png"
            )
        (target / "joint_positions" / action / clip).mkdir(parents=True)
        savemat(target / "joint_positions" / action / clip / "joint_positions.mat", {"pos_img": points})
    shutil.copytree(root / "splits", target / "splits", dirs_exist_ok=True)


THIN = {"davis": thin_davis, "jhmdb": thin_jhmdb}

if __name__ == "__main__":
    main()
