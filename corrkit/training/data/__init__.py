"""Samples that follow from (seed, epoch, place) alone, and their batches."""

import contextlib
import functools
import itertools
import os
import signal
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from corrkit.errors import DataError, RunError
from corrkit.frames.colours import Colours
from corrkit.frames.index import Index
from corrkit.frames.items import of_one_size, read_frames
from corrkit.training.data.sampling import choose_frames, size_at
from corrkit.training.data.views import Pixels, View, make_views
from corrkit.training.schema import Views

Fault = tuple[str, str]
"""An item that couldn't be read, and why."""


class Sample(NamedTuple):
    """Per view the pixels, box and colours, as `make_views` gives them; items that this one took the place of."""

    pixels: list[Pixels]
    boxes: list[tuple[int, ...]]
    colours: Sequence[Colours] = ()
    faults: tuple[Fault, ...] = ()


class Samples(Dataset[list[Sample]]):
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

    def __getitem__(self, key: tuple[int, int]) -> list[Sample]:
        """key: (place in the endless order of items, item). What can't be read is replaced by what comes next."""
        place, item = key
        faults: list[Fault] = []
        for other in self._successors(place, item):
            try:
                samples = self._samples(place, other)
            except DataError as error:
                faults.append((self.index.entries[other].path, error.problem))
                continue
            return [samples[0]._replace(faults=tuple(faults)), *samples[1:]]
        raise DataError(f"No item of {self.index.root} can be read: {faults[0][1]}", "Check the data.")

    def _samples(self, place: int, item: int) -> list[Sample]:
        dice = Random(f"{self.seed} {place} {item}")
        views = self.images.get(item, self.views)
        views = replace(views, size=size_at(views, place // self.per_step / self.steps))
        chosen = [choose_frames(views, self.index.entries[item].frames, dice) for _ in range(views.repeat)]
        wanted = sorted({number for numbers in chosen for number in numbers})
        decoded = dict(zip(wanted, read_frames(self.index, item, wanted), strict=True))
        return [Sample(*make_views(of_one_size(self.index, item, numbers, decoded), views, dice)) for numbers in chosen]

    def _successors(self, place: int, item: int) -> Iterator[int]:
        """The item itself, then those that follow it in its epoch's order."""
        yield item
        pool = [other for other in range(len(self)) if (other in self.images) == (item in self.images)]
        turns = _permutation(len(pool), self.seed, place // len(pool))
        (at,) = np.flatnonzero(turns == pool.index(item))
        yield from (pool[turns[(at + ahead) % len(pool)]] for ahead in range(1, len(pool)))


def order(num_items: int, seed: int, place: int) -> int:
    """Item at a place of the endless order: one permutation of all items after another."""
    epoch, position = divmod(place, num_items)
    return int(_permutation(num_items, seed, epoch)[position])


@functools.lru_cache(maxsize=4)
def _permutation(num_items: int, seed: int, epoch: int) -> NDArray[np.int64]:
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


@dataclass(frozen=True, slots=True)
class Batch:
    """Views of a batch, uint8 until they are on their device, and items that others took the place of."""

    views: list[View]
    faults: list[Fault]

    def pin_memory(self) -> "Batch":
        """In memory that a GPU copies from while it computes; the data loader calls this."""
        return Batch([view.pin_memory() for view in self.views], self.faults)


def loader(samples: Samples, batches: Batches, workers: int) -> Generator[Batch, None, None]:
    """Collated batches, an endless iterator; `workers` processes decode ahead (0: this one)."""
    yield from DataLoader(
        samples, batch_sampler=batches, num_workers=workers, collate_fn=_batch, pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0, multiprocessing_context="spawn" if workers else None,
        worker_init_fn=_undisturbed,
    )  # fmt: skip


def _undisturbed(_: int) -> None:
    """Schedulers send a signal to all processes of a job; only that which trains obeys it, and ends the others."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def deaths_named() -> Iterator[None]:
    """Around a training, in which a process that decodes may be killed.

    That raises from torch's handler of SIGCHLD, anywhere, or from the connection that its tensors come through.

    Raises:
        RunError: names the process and what killed it.
    """
    try:
        yield
    except (RuntimeError, ConnectionError, FileNotFoundError, EOFError) as error:
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        raise RunError(
            f"A process that decodes was killed ({error!r}).",
            "Repeat the command to go on; with fewer --workers if memory ran out.",
        ) from None


def _batch(items: Sequence[list[Sample]]) -> Batch:
    return Batch(collate(items), [fault for item in items for sample in item for fault in sample.faults])


def workers_for(device: torch.device) -> int:
    """Processes that decode for one rank: its share of the cores but one; on a CPU the training itself takes them."""
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return 0 if device.type == "cpu" else max(1, min(8, (os.cpu_count() or 1) // ranks_here - 1))


def collate(items: Sequence[Sequence[Sample]]) -> list[View]:
    """Samples of a batch of items, as one `View` per view."""
    flat = [sample for item in items for sample in item]

    def stacked(number: int) -> Tensor:
        return torch.from_numpy(np.stack([sample.pixels[number] for sample in flat]))

    def rows(number: int) -> Tensor | None:
        return torch.tensor([sample.colours[number] for sample in flat]) if flat[0].colours else None

    return [
        View(stacked(number), torch.tensor([sample.boxes[number] for sample in flat]), rows(number))
        for number in range(len(flat[0].pixels))
    ]
