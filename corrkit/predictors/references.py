"""The rows that every table can be read against: the floor and the ceiling."""

from collections.abc import Generator, Mapping
from typing import Any

from corrkit.backbones.contract import Report
from corrkit.predictors.contract import Predictor
from corrkit.protocols import Protocol
from corrkit.tasks.contract import ClipT, Geometry, Label, Notes, Task, Truth

GRID_STRIDE = 16
"""Of the oracle's grid where no backbone decides it: the ViT-S/16 that most published tables use."""


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
