"""Which frames of a clip, and how large: pure functions of dice, tested against published statistics."""

from random import Random

from corrkit.training.schema import Views

Dice = Random
"""Source of draws."""


def size_at(views: Views, progress: float) -> int:
    """Pixels of a view's side when a share `progress` (0 to 1) of the training is done."""
    return next((size for size, end in zip(views.sizes, views.until, strict=True) if progress < end), views.size)


def choose_frames(views: Views, count: int, dice: Dice) -> tuple[int, ...]:
    """Indices, in order, of the frames that a sample of a clip of `count` frames needs.

    Raises:
        ValueError: a clip without frames.
    """
    if count < 1:
        raise ValueError("a clip without frames has no samples")
    if views.kind == "clip":
        return _evenly(views, count, dice)
    wanted = {"pair": 2, "triple": 3}.get(views.kind, 1)
    if wanted == 1 or count == 1:
        return (dice.randint(0, count - 1),) * wanted
    return {"gap-first": _gap_first, "start-first": _start_first, "spread": _spread}[views.pairing](
        views, count, wanted, dice
    )


def _gap_first(views: Views, count: int, wanted: int, dice: Dice) -> tuple[int, ...]:
    """Gaps from the range (shortened for short clips), then a start at which they fit: no frame is favoured.

    alexandre-eymael/CropMAE 5d0dab2 data/util/video_utils.py:10-38, whose range excludes its upper end.
    """
    low, high = views.gap
    room = (count - 1) // (wanted - 1)
    gaps = [dice.randint(min(low, room), min(high, room)) for _ in range(wanted - 1)]
    start = dice.randint(0, count - 1 - sum(gaps))
    return tuple(start + sum(gaps[:index]) for index in range(wanted))


def _start_first(views: Views, count: int, wanted: int, dice: Dice) -> tuple[int, ...]:
    """A start that leaves room for the largest gap, then the gap; two random frames of clips too short for it.

    huiwon-jang/RSP 5ea2b91 util/kinetics.py:94-110.
    """
    low, high = views.gap
    reach = high * (wanted - 1)
    if count <= reach:
        first = sorted(dice.randint(0, count - 1) for _ in range(wanted))
        while len(set(first)) < wanted <= count:
            first = sorted(dice.randint(0, count - 1) for _ in range(wanted))
        return tuple(first)
    start = dice.randint(0, count - 1 - reach)
    indices = [start]
    for _ in range(wanted - 1):
        indices.append(indices[-1] + dice.randint(low, high))
    return tuple(indices)


def _spread(views: Views, count: int, wanted: int, dice: Dice) -> tuple[int, ...]:
    """A start among those that leave room for the largest gap (0 where none does), then gaps of 1 up to it.

    naver-ai/tobo fa41194 util/kinetics_mfmae.py:227-250 with gap = [1, max_distance / (frames - 1)].
    """
    return _start_first(views, count, wanted, dice) if count > views.gap[1] else _gap_first(views, count, wanted, dice)


def _evenly(views: Views, count: int, dice: Dice) -> tuple[int, ...]:
    """`frames` frames, `frame_stride` apart, from a random start; the last frame repeats where the clip ends."""
    span = (views.frames - 1) * views.frame_stride + 1
    start = dice.randint(0, max(0, count - span))
    return tuple(min(start + index * views.frame_stride, count - 1) for index in range(views.frames))
