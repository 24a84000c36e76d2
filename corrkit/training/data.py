"""Training data: an index of clips and images, and samples that follow from (seed, epoch, place) alone."""

import functools
import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from corrkit.errors import DataError
from corrkit.frames.files import numbered_files
from corrkit.frames.pictures import SUFFIXES as IMAGES
from corrkit.frames.sequence import ImageFolder
from corrkit.frames.video import SUFFIXES as VIDEOS
from corrkit.frames.video import VideoFile
from corrkit.runs.atomic import write_atomic
from corrkit.training.objective import View
from corrkit.training.sampling import choose_frames, size_at
from corrkit.training.schema import Views
from corrkit.training.views import make_views

EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True)
class Entry:
    """A clip or image of the index: its path relative to the root ("task/seed" for rendered clips) and its frames."""

    path: str
    kind: str
    frames: int


@dataclass(frozen=True, slots=True)
class Index:
    """What a data folder holds; `broken` lists files that can't be decoded, with the reason."""

    root: str
    entries: tuple[Entry, ...]
    broken: tuple[tuple[str, str], ...] = ()

    @property
    def digest(self) -> str:
        """Sha256 of paths and durations, the identity of the data for resuming."""
        return hashlib.sha256(json.dumps([asdict(entry) for entry in self.entries]).encode()).hexdigest()


def build_index(data: str | Path, cache: Path, *, num_clips: int = 300) -> Index:
    """The index of a data folder, read from `cache` where that was made of the same folder, else built and stored.

    Args:
        data: a folder: each folder below it that holds images is a clip (frames in order), each video file a clip, and
            images directly in it are images; or "embedded": clips rendered from the training seeds.
        cache: file to keep the index in.
        num_clips: of the embedded ones, of which a third belongs to each task.

    Raises:
        DataError: no such folder, or nothing in it that can be decoded.
    """
    if str(data) == EMBEDDED:
        return Index(EMBEDDED, _rendered(num_clips))
    root = Path(data)
    if not root.is_dir():
        raise DataError(f"{root} is no folder.", "Name a folder of videos, of frame folders or of images.")
    if cache.is_file():
        stored = json.loads(cache.read_text())
        if stored["root"] == str(root):
            known = tuple((path, why) for path, why in stored["broken"])
            return Index(str(root), tuple(Entry(*entry) for entry in stored["entries"]), known)
    entries, broken = _scan(root)
    if not entries:
        reasons = "".join(f" {path}: {why}" for path, why in broken[:3])
        raise DataError(f"{root} holds no video and no image that can be decoded.{reasons}", "Check the folder.")
    index = Index(str(root), tuple(entries), tuple(broken))
    rows = [[entry.path, entry.kind, entry.frames] for entry in entries]
    write_atomic(cache, json.dumps({"root": str(root), "entries": rows, "broken": broken}, indent=0))
    return index


def _scan(root: Path) -> tuple[list[Entry], list[tuple[str, str]]]:
    entries: list[Entry] = []
    broken: list[tuple[str, str]] = []
    for path in sorted([root, *root.rglob("*")]):
        name = path.relative_to(root).as_posix()
        if path.is_dir():
            files = numbered_files(path, IMAGES)
            if path == root:
                entries += [Entry(file.name, "image", 1) for file in files]
            elif files:
                entries.append(Entry(name, "folder", len(files)))
        elif path.suffix.lower() in VIDEOS:
            try:
                video = VideoFile(path)
                video.read((0,))
                entries.append(Entry(name, "video", video.count_decodable()))
            except DataError as error:
                broken.append((name, error.problem))
    return entries, broken


def _rendered(num_clips: int) -> tuple[Entry, ...]:
    from corrkit.clips import TRAINING_SEEDS

    tasks = ("davis", "vip", "jhmdb")
    seeds = [(tasks[number % 3], TRAINING_SEEDS[number // 3]) for number in range(num_clips)]
    return tuple(Entry(f"{task}/{seed}", "rendered", _RENDERED_FRAMES) for task, seed in seeds)


_RENDERED_FRAMES = 16


class Samples(Dataset[list[tuple[list[Any], list[tuple[int, ...]]]]]):
    """`repeat` samples of an item; all that is random follows from (seed, epoch, place).

    Args:
        index: of the data.
        views: the recipe's.
        seed: of the run.
        per_step, steps: items of a step of all ranks, and steps of the training, where sizes depend on the step.
        image_views: the recipe's.
    """

    def __init__(
        self,
        index: Index,
        views: Views,
        seed: int,
        per_step: int = 1,
        steps: int = 1,
        image_views: Sequence[Views] = (),
    ) -> None:
        self.index, self.views, self.seed, self.per_step, self.steps = index, views, seed, per_step, steps
        images = [item for item, entry in enumerate(index.entries) if entry.kind == "image"]
        self.images = {item: views for views in image_views for item in images}

    def __len__(self) -> int:
        return len(self.index.entries)

    def __getitem__(self, key: tuple[int, int]) -> list[tuple[list[Any], list[tuple[int, ...]]]]:
        """key: (place in the endless order of items, item)."""
        place, item = key
        dice = Random(f"{self.seed} {place} {item}")
        views = self.images.get(item, self.views)
        views = replace(views, size=size_at(views, place // self.per_step / self.steps))
        chosen = [choose_frames(views, self.index.entries[item].frames, dice) for _ in range(views.repeat)]
        wanted = sorted({number for numbers in chosen for number in numbers})
        decoded = dict(zip(wanted, read_frames(self.index, item, wanted), strict=True))
        return [make_views([decoded[number] for number in numbers], views, dice) for numbers in chosen]


def read_frames(index: Index, item: int, numbers: Sequence[int]) -> list[Any]:
    """Some frames of an item, uint8 RGB [H, W, 3]. Raises DataError naming the file."""
    entry = index.entries[item]
    if entry.kind == "rendered":
        frames = ImageFolder(numbered_files(_rendered_folder(entry.path), (".png",)))
        return [frames[number] for number in numbers]
    path = Path(index.root) / entry.path
    if entry.kind == "video":
        return list(VideoFile(path, entry.frames).read(numbers))
    frames = ImageFolder(numbered_files(path, IMAGES) if entry.kind == "folder" else [path])
    return [frames[number] for number in numbers]


def _rendered_folder(name: str) -> Path:
    """Frames of a rendered training clip in the user's cache, rendered on first use."""
    import cv2

    from corrkit.clips import render
    from corrkit.clips.embedded import embedded_root

    task, seed = name.split("/")
    folder = embedded_root(task).parent / "training" / task / seed
    if not (folder / "done").is_file():
        for number, frame in enumerate(render(task, int(seed), num_frames=_RENDERED_FRAMES).frames):
            _, data = cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
            write_atomic(folder / f"{number:05d}.png", data.tobytes())
        write_atomic(folder / "done", "")
    return folder


def order(num_items: int, seed: int, place: int) -> int:
    """Item at a place of the endless order: one permutation of all items after another."""
    epoch, position = divmod(place, num_items)
    return int(_permutation(num_items, seed, epoch)[position])


@functools.lru_cache(maxsize=4)
def _permutation(num_items: int, seed: int, epoch: int) -> Any:
    return np.random.default_rng([seed, epoch]).permutation(num_items)


@dataclass(frozen=True, slots=True)
class Batches:
    """Keys of the batches of one rank from a micro-step on, without end: what resuming needs is the number alone.

    batch: items of a rank's micro-batch. share: (rank, number of ranks). images: items that have batches of their own,
    evenly among those of clips and in proportion to the items; a batch of clips then has `per_clip` times fewer.
    facebookresearch/omnivore 1d55abd omnivision/data/concat_dataset.py "use_one", whose order is random.
    """

    num_items: int
    batch: int
    seed: int
    share: tuple[int, int]
    first: int
    images: tuple[int, ...] = ()
    per_clip: int = 1

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        rank, ranks = self.share
        clips = tuple(sorted(set(range(self.num_items)) - set(self.images)))
        clips_of_a_batch = max(1, self.batch // self.per_clip) if self.images else self.batch
        for number in itertools.count(self.first):
            before, after = (step * len(self.images) // self.num_items for step in (number, number + 1))
            items, turn, size = clips, number - before, clips_of_a_batch
            if after > before:
                items, turn, size = self.images, before, self.batch
            places = range((turn * ranks + rank) * size, (turn * ranks + rank + 1) * size)
            start = (number * ranks + rank) * self.batch
            yield [(start + k, items[order(len(items), self.seed, place)]) for k, place in enumerate(places)]


def loader(samples: Samples, batches: Batches, workers: int) -> Iterator[list[View]]:
    """Collated batches, an endless iterator; `workers` processes decode ahead (0: this one)."""
    loading = DataLoader(
        samples,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        multiprocessing_context="spawn" if workers else None,
    )
    return iter(loading)


def workers_for(device: torch.device) -> int:
    """Processes that decode for one rank: its share of the cores but one; on a CPU the training itself takes them."""
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return 0 if device.type == "cpu" else max(1, min(8, (os.cpu_count() or 1) // ranks_here - 1))


def collate(items: Sequence[list[tuple[list[Any], list[tuple[int, ...]]]]]) -> list[View]:
    """Samples of a batch of items, as one `View` per view."""
    flat = [sample for item in items for sample in item]
    return [
        View(
            torch.from_numpy(np.stack([pixels[number] for pixels, _ in flat])),
            torch.tensor([boxes[number] for _, boxes in flat]),
        )
        for number in range(len(flat[0][0]))
    ]
