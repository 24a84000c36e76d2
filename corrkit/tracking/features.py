"""`features`: frames to what is matched."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from corrkit.errors import UsageError
from corrkit.inference import exact_inference, training_state_untouched
from corrkit.predictors.propagator import Propagator
from corrkit.protocols import Protocol, load_protocol
from corrkit.subject import constants_of
from corrkit.tasks import load_task
from corrkit.tracking.tracker import Frame, Model, propagator_of, require_frame

if TYPE_CHECKING:
    import torch


def features(
    model: Model,
    frames: Iterable[Frame],
    *,
    protocol: str | Protocol = "davis/dino",
    device: str = "auto",
    **overrides: object,
) -> "Iterator[torch.Tensor]":
    """Features of frames, as an evaluation under the protocol has them: what `corrkit.propagate` takes.

    Args:
        model: as for `Tracker`; any may be taken here.
        frames: uint8 RGB [H, W, 3] of one size, in order; read as they are asked for.
        protocol: "TASK/NAME", a file, or constants; decides size and normalisation of the network's input.
        device: as for `Tracker`.
        **overrides: see `Tracker`.

    Yields:
        [h, w, C] float32 on the device, one per frame.

    Raises:
        CorrkitError: as `Tracker`; UsageError for frames of another form or size.
    """
    predictor = propagator_of(model, device)
    constants = load_protocol(protocol) if isinstance(protocol, str) else protocol
    constants = constants_of(load_task(constants.task), constants, overrides)
    predictor.require(constants)
    encoded = iter(predictor.under(constants.features).encode(_inputs(predictor, constants, frames)))
    while True:
        with training_state_untouched(predictor.live), exact_inference():
            found = next(encoded, None)
        if found is None:
            return
        yield found.detach()


def _inputs(predictor: Propagator, protocol: Protocol, frames: Iterable[Frame]) -> "Iterator[torch.Tensor]":
    size = None
    for number, frame in enumerate(frames):
        require_frame(frame)
        if size is None:
            size = frame.shape
            prepare = predictor.input_of(type(frames), (size[0], size[1]), protocol).preparation()
        if frame.shape != size:
            raise UsageError(
                f"Frame {number} is {frame.shape[1]}x{frame.shape[0]}, the first was {size[1]}x{size[0]}.",
                "Bring all frames to one size.",
            )
        yield prepare(frame).to(predictor.device)
