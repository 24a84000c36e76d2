"""The rows that every table can be read against: the floor and the ceiling."""

import hashlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from corrkit.backbones.contract import Report
from corrkit.predictors.contract import Predictor
from corrkit.predictors.propagator import Propagator
from corrkit.protocols import Protocol
from corrkit.tasks.contract import ClipT, Codec, Geometry, Label, Notes, Task, Truth

if TYPE_CHECKING:
    import torch

GRID_STRIDE = 16
"""Of the oracle's grid where no backbone decides it: the ViT-S/16 that most published tables use."""


def reference_predictors(predictors: Sequence[Predictor]) -> list[Predictor]:
    """The rows that a table of these predictors can be read against: floor, ceilings of the grid and of matching."""
    matching = [MatchingOracle(predictor) for predictor in predictors if isinstance(predictor, Propagator)]
    return [Identity(), Oracle(predictors[0].stride or GRID_STRIDE), *matching]


class Identity(Predictor):
    """Repeats the labels that are given at original resolution: the floor that any tracker must beat."""

    name = "identity"
    report = Report(system="identity", architecture="none", parameters=0)
    digest = "identity"

    def predict(
        self, clip: ClipT, task: Task[ClipT, Label, Truth], protocol: Protocol
    ) -> Generator[Label | None, None, Notes]:
        """See `Predictor`."""
        import numpy as np

        given: Mapping[int, Any] = task.given(clip, protocol)
        shown = given[0]
        for index in range(len(clip.frames)):
            if index in given and index > 0:
                shown = np.where(given[index] > 0, given[index], shown)
            yield shown
        return ()


class Oracle(Predictor):
    """True labels of every frame through grid and read-out: the ceiling of a protocol at one stride.

    Args:
        stride: pixels of the network's input per grid cell.
    """

    name = "oracle"
    report = Report(system="oracle", architecture="none", parameters=0)

    def __init__(self, stride: int = GRID_STRIDE) -> None:
        self.stride: int = stride
        self.digest = f"oracle@{stride}"

    def predict(
        self, clip: ClipT, task: Task[ClipT, Label, Truth], protocol: Protocol
    ) -> Generator[Label | None, None, Notes]:
        """See `Predictor`."""
        from corrkit.frames.preparation import network_size

        size = network_size(clip.frames.size, protocol.frames, self.stride)
        finer, is_cropped = protocol.features.finer, protocol.frames.indivisible == "crop"
        cells = [side // self.stride if is_cropped else -(-side // self.stride) for side in size]
        grid = (cells[0] * finer, cells[1] * finer)
        geometry = Geometry(original=clip.frames.size, network=size, grid=grid, stride=self.stride / finer)
        codec = task.codec(clip, geometry, protocol)
        for index in range(len(clip.frames)):
            annotation = clip.annotation(index)
            yield None if annotation is None else codec.decode(codec.encode(annotation))
        return ()


class MatchingOracle(Propagator):
    """A backbone whose matches between cells of different true labels are dropped: the ceiling of matching.

    What its score lacks to 1 is due to the grid, the window and the frames that a protocol looks at; what a backbone
    lacks to it, to matches of the wrong object. A cell's label is the largest of the true label map there. In frames
    without annotation nothing is dropped.

    Source: thanosDelatolas/diff-zvos 4c594fb src/propagation.py (label_propagation_oracle; there object by object).

    Args:
        of: the backbone under test; in one evaluation both share its passes.
    """

    knows_classes = True

    def __init__(self, of: Propagator) -> None:
        super().__init__(of.backbone, of.device, name=f"{of.name}, true matches", precision=of.precision)
        self.report = replace(of.report, system="matching-oracle")
        self.digest = of.digest and hashlib.sha256(f"matching oracle of {of.digest}".encode()).hexdigest()

    def classes(self, clip: ClipT, codec: Codec[Label]) -> "Iterator[torch.Tensor | None]":
        """The largest true label of every cell, from 1; 0 where there is none."""
        for index in range(len(clip.frames)):
            annotation = clip.annotation(index)
            if annotation is None:
                yield None
            else:
                largest = codec.encode(annotation).to(self.device).max(dim=-1)
                yield (largest.indices + 1) * (largest.values > 0)
