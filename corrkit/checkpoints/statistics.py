"""Mean and standard deviation of red, green and blue, as a file or the config beside it states them."""

import math
import sys
from collections.abc import Mapping

from corrkit.errors import CheckpointError
from corrkit.files.jsontext import Json

Channels = tuple[float, float, float]

_LARGEST = sys.float_info.max  # a whole number of a pickle may be larger, and is no float


def mean_and_std(path: object, mean: tuple[str, object], std: tuple[str, object]) -> tuple[Channels, Channels]:
    """Both as numbers.

    Args:
        path: of the file.
        mean: where it stands, in words, and the value.
        std: likewise.

    Raises:
        CheckpointError: not three finite numbers each, or a std that isn't above 0.
    """
    found = []
    for (where, value), low in ((mean, -_LARGEST), (std, 0.0)):
        numbers = value if isinstance(value, list | tuple) else ()
        if len(numbers) != 3 or not all(type(item) in (int, float) and low < item <= _LARGEST for item in numbers):
            raise CheckpointError(
                f"{path}: {where} is {repr(value)[:60]}.",
                f"It must be three finite numbers{' above 0' if low == 0 else ''}.",
            )
        found.append((float(numbers[0]), float(numbers[1]), float(numbers[2])))
    return found[0], found[1]


def preprocessed(path: object, config: Mapping[str, Json]) -> tuple[Channels, Channels] | None:
    """Mean and std of an input in [0, 1] by transformers' preprocessor_config.json; None where it says nothing.

    Its processors compute (p * rescale_factor - offset - image_mean) / image_std of pixels p in [0, 255], or leave out
    the last two (huggingface/transformers 5.24.0 image_processing_base.py; offset: models/vivit).

    Raises:
        CheckpointError: not three finite numbers each, or a std that isn't above 0.
    """
    normalised = config.get("do_normalize") is not False
    told = config.get("image_mean") and config.get("image_std")
    if normalised and not told:
        return None
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if normalised:
        mean, std = mean_and_std(
            path,
            ("image_mean in the config beside it", _per_channel(config["image_mean"])),
            ("image_std in the config beside it", _per_channel(config["image_std"])),
        )
    factor = config.get("rescale_factor")
    scale, shift = 1.0, 0.0
    if config.get("do_rescale") is not False and isinstance(factor, int | float) and 0 < factor < math.inf:
        scale, shift = 255.0 * factor, float(config.get("offset") is True)
    if math.isclose(scale, 1.0, rel_tol=1e-6):  # 1 / 255, written with fewer digits
        scale = 1.0
    return (
        ((mean[0] + shift) / scale, (mean[1] + shift) / scale, (mean[2] + shift) / scale),
        (std[0] / scale, std[1] / scale, std[2] / scale),
    )


def _per_channel(value: Json) -> Json:
    """One number stands for all channels."""
    return [value] * 3 if type(value) in (int, float) else value
