"""Mean and standard deviation of red, green and blue, as a file or the config beside it states them."""

import math

from corrkit.errors import CheckpointError

Channels = tuple[float, float, float]


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
    for (where, value), low in ((mean, -math.inf), (std, 0.0)):
        numbers = value if isinstance(value, list | tuple) else ()
        if len(numbers) != 3 or not all(type(item) in (int, float) and low < item < math.inf for item in numbers):
            raise CheckpointError(
                f"{path}: {where} is {repr(value)[:60]}.",
                f"It must be three finite numbers{' above 0' if low == 0 else ''}.",
            )
        found.append((float(numbers[0]), float(numbers[1]), float(numbers[2])))
    return found[0], found[1]
