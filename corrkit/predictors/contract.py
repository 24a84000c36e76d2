"""What the pipeline asks of anything that predicts a clip."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING

from corrkit.backbones.contract import Mode, Report
from corrkit.backbones.precision import Precision
from corrkit.files.jsontext import Json
from corrkit.protocols import Protocol
from corrkit.tasks.contract import ClipT, Label, Notes, Task, Truth

if TYPE_CHECKING:
    from torch import nn


class Predictor(ABC):
    """Anything that predicts a clip.

    name: for tables and run folders. report, mode: see `corrkit.backbones.contract`. digest: sha256 of what makes its
    numbers, None where that is unknown. stride: pixels of the network's input per grid cell, None without a grid.
    device_type: "cpu", "cuda" or "mps". precision: of its network's products. seed_of: the method of which it is one
    training seed, where declared. origin: the spec and options of loading from which it can be made again, None where
    it was given as an object. live: the module of such an object, which is to be left as it was.
    """

    name: str
    report: Report
    mode: Mode = Mode()
    digest: str | None
    stride: int | None = None
    device_type: str = "cpu"
    precision: Precision = "float32"
    seed_of: str | None = None
    origin: Mapping[str, Json] | None = None
    live: "nn.Module | None" = None

    def declare(self, name: str | None, seed_of: str | None) -> None:
        """Takes the user's own words for the tables, where there are any."""
        self.name = name or self.name
        self.seed_of = seed_of or self.seed_of

    def require(self, protocol: Protocol) -> None:  # noqa: B027 - most predictors take any protocol
        """Raises ProtocolError or UsageError where the protocol is not for this predictor."""

    def mode_under(self, protocol: Protocol) -> Mode:
        """How it sees time under a protocol, which may show windows of frames to a network that takes them."""
        return self.mode

    def notes_under(self, protocol: Protocol) -> tuple[str, ...]:
        """What the user should know, the report's notes first."""
        return self.report.notes

    @property
    def frames_at_a_time(self) -> int | None:
        """How many frames go through its network since memory ran out; None while it has not."""
        return None

    @abstractmethod
    def predict(
        self, clip: ClipT, task: Task[ClipT, Label, Truth], protocol: Protocol
    ) -> Generator[Label | None, None, Notes]:
        """Predictions of frames 0..T-1 in order, streaming; None for a frame that can't be predicted.

        Returns at the end what is odd about them.
        """
