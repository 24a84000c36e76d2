"""Items per second that one core prepares from each kind of source, and the share of a training that this takes.

    python benchmarks/data_sources.py VIDEOS [--clips 8] [--items 60] [--scales tiny,small,base]

VIDEOS is a folder of videos; their first frames are also stored as JPEG files, and both in tars. Items of SiamMAE (two
pairs of frames, cropped to 224 pixels) and of DINO (one frame, ten crops, colours changed by the process or left to the
device) are prepared by one process. A share is that of a core which also trains SiamMAE, of a scale, on 224 pixels;
processes of their own (--workers) take as much CPU time, beside the training.
"""

import argparse
import shutil
import tarfile
import tempfile
import time
from pathlib import Path

import cv2
import torch

from corrkit.frames.items import build_index
from corrkit.frames.pyav import decodes_alike
from corrkit.frames.video import SUFFIXES, VideoFile
from corrkit.training.data import Samples, collate, order
from corrkit.training.data.views import View
from corrkit.training.objectives import make_objective
from corrkit.training.optimise import optimiser_of
from corrkit.training.recipe import load_recipe
from corrkit.training.schema import AnyRecipe

FRAMES = 150
"""Of a clip at most."""
SIZE = {"views.size": 224}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--items", type=int, default=60)
    parser.add_argument("--scales", default="tiny,small,base")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    print(f"H.264 is decoded by {'PyAV' if decodes_alike() else 'OpenCV'}")
    recipes = {"siammae": load_recipe("siammae"), "dino": load_recipe("dino"),
               "dino, colours on the device": load_recipe("dino", changes={"views.colour": "dino-device"})}  # fmt: skip
    scales = args.scales.split(",")
    steps = {scale: seconds_of_an_item(load_recipe("siammae", scale=scale, changes=SIZE)) for scale in scales}
    with tempfile.TemporaryDirectory() as folder:
        sources = made(Path(folder), args.videos, args.clips)
        for name, recipe in recipes.items():
            for source, path in sources.items():
                seconds = seconds_to_prepare(path, recipe, args.items)
                shares = ", ".join(f"{scale} {seconds / (seconds + step):.1%}" for scale, step in steps.items())
                share = f"; share of a training: {shares}" if name == "siammae" else ""
                print(f"{name}, {source}: {1 / seconds:.1f} items/s of one core{share}", flush=True)


def made(folder: Path, videos: Path, clips: int) -> dict[str, Path]:
    """The same clips in each kind of source."""
    chosen = [path for path in sorted(videos.iterdir()) if path.suffix in SUFFIXES][:clips]
    for number, path in enumerate(chosen):
        video = VideoFile(path)
        for place, frame in enumerate(video.read(range(min(FRAMES, video.count_decodable())))):
            file = folder / "frames" / str(number) / f"{place:05d}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(file), frame[..., ::-1])
        (folder / "videos").mkdir(exist_ok=True)
        shutil.copy(path, folder / "videos")
    for kind in ("videos", "frames"):
        with tarfile.open(folder / f"{kind}.tar", "w") as archive:
            for file in sorted((folder / kind).rglob("*.*")):
                archive.add(file, str(file.relative_to(folder / kind)))
    return {"videos": folder / "videos", "videos in a tar": folder / "videos.tar",
            "JPEG frames": folder / "frames", "JPEG frames in a tar": folder / "frames.tar"}  # fmt: skip


def seconds_to_prepare(data: Path, recipe: AnyRecipe, items: int) -> float:
    """CPU time of one item, decoded, cropped and collated."""
    index = build_index(data, data.with_name(f"{data.name}.json"))
    samples = Samples(index, recipe.views, seed=0)
    started = time.process_time()
    for place in range(items):
        collate([samples[(place, order(len(samples), 0, place))]])
    return (time.process_time() - started) / items


def seconds_of_an_item(recipe: AnyRecipe) -> float:
    """CPU time in which one item is trained: forward, backward and the optimiser, of batches of two."""
    objective = make_objective(recipe)
    optimiser = optimiser_of(objective, recipe.optimiser)
    pixels = torch.randn(2 * recipe.views.repeat, 3, recipe.views.size, recipe.views.size)
    for _ in range(2):  # the first warms up
        started = time.process_time()
        optimiser.zero_grad()
        objective([View(pixels), View(pixels)], 0).loss.backward()
        optimiser.step()
    return (time.process_time() - started) / 2


if __name__ == "__main__":
    main()
