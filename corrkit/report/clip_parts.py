"""The part of a report on one clip: truth and the runs' predictions on its frames, scores over frames, failures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from corrkit.errors import CorrkitError
from corrkit.predictors.propagator import Propagator
from corrkit.report.charts import COLOURS, Curve, Drawing, colour_of, curves
from corrkit.report.failures import Failure
from corrkit.report.figures import Figure
from corrkit.report.networks import cells_as_picture, look, marked_query, marked_sources
from corrkit.report.opening import OpenedRun
from corrkit.report.pictures import TILE, beside, painted_label, resized, strip
from corrkit.report.stories import Label, Story, is_mask

if TYPE_CHECKING:
    from PIL import Image

_COLUMNS, _MOVING, _MOVING_WIDTH, _MOST_CURVES, _MOST_RUNS, _CONTEXT = 5, 24, 300, 6, 3, 3


@dataclass(frozen=True, kw_only=True)
class ClipPart:
    """heading: which clip it is and why it is shown. failures: by method. notes: what is missing and why."""

    heading: str
    figures: Sequence[Figure]
    failures: Sequence[tuple[str, Sequence[Failure]]]
    notes: Sequence[str]


def clip_part(heading: str, name: str, runs: Sequence[tuple[str, OpenedRun, Story]], file_stem: str) -> ClipPart:
    """A clip's part.

    Args:
        heading: see `ClipPart`.
        name: of the clip.
        runs: method, run and the clip's story under it.
        file_stem: of the figures' files.
    """
    notes = []
    told = [(method, opened, story) for method, opened, story in runs if story.has_predictions]
    notes += [
        f"{method}: no predictions of this clip are kept as they were saved; its command with --save-predictions makes "
        "them."
        for method, _, story in runs
        if not story.has_predictions
    ]
    figures = [*_pictures(name, told[:_MOST_RUNS], file_stem)] if told else []
    figures += [
        Figure(
            name=f"{file_stem}-{method}-frames",
            caption=f"{method}: {_score_words(story)} by frame",
            alt=f"Scores of {name} by frame under {method}",
            drawing=_course(story),
        )
        for method, _, story in runs
        if story.frames
    ]
    failures = [(method, story.failures) for method, _, story in runs]
    return ClipPart(heading=heading, figures=figures, failures=failures, notes=notes)


def spaced(frames: Sequence[int], number: int, wanted: Sequence[int] = ()) -> list[int]:
    """At most `number` of some frames, evenly spaced, both ends among them; inner ones give way to those wanted."""
    places = np.linspace(0, len(frames) - 1, min(number, len(frames))).round().astype(int)
    chosen = [frames[place] for place in places.tolist()]
    for frame in wanted:
        if frame in frames and frame not in chosen and len(chosen) > 2:
            inner = min(range(1, len(chosen) - 1), key=lambda place: abs(chosen[place] - frame))
            chosen[inner] = frame
    return sorted(set(chosen))


def _pictures(name: str, runs: Sequence[tuple[str, OpenedRun, Story]], file_stem: str) -> list[Figure]:
    """The strip, and the animation."""
    story = runs[0][2]
    first_failures = [story.failures[0].frame] if story.failures else []
    still = spaced(story.frames, _COLUMNS, [f.frame for f in story.failures[:1]])
    moving = spaced(story.frames, _MOVING)
    clip = runs[0][1].reader.clips[name]
    needed = {*still, *moving}
    shown: dict[str, dict[int, Label]] = {}
    truth: dict[int, Label] = {}
    for method, opened, _ in runs:
        shown[method] = {}
        for index, true, predicted in opened.reader.labels(name):
            if index in needed:
                truth[index], shown[method][index] = true, predicted
    frames = {index: clip.frames[index] for index in sorted(needed)}

    def row(labels: Mapping[int, Label], chosen: Sequence[int], width: int) -> "list[Image.Image]":
        return [painted_label(frames[index], labels[index], width) for index in chosen]

    rows = [("truth", row(truth, still, TILE)), *((m, row(labels, still, TILE)) for m, labels in shown.items())]
    heads = [f"frame {index}{' (failure begins)' if index in first_failures else ''}" for index in still]
    sheets = [row(labels, moving, _MOVING_WIDTH) for labels in (truth, *shown.values())]
    moved = []
    for pictures in zip(*sheets, strict=True):
        sheet = pictures[0]
        for other in pictures[1:]:
            sheet = beside(sheet, other)
        moved.append(sheet)
    methods = ", ".join(shown)
    return [
        Figure(
            name=f"{file_stem}-strip",
            caption=f"{name}: truth above, prediction below.",
            alt=f"Frames of {name} with truth and the predictions of {methods}",
            pictures=[strip(rows, heads)],
            is_wide=True,
        ),
        Figure(
            name=f"{file_stem}-animation",
            caption=f"From left to right: truth, {methods}; {len(moving)} of {len(story.frames)} scored frames.",
            alt=f"{name} moving, with truth and the predictions of {methods}",
            pictures=moved,
        ),
    ]


def _course(story: Story) -> Drawing:
    """Scores over frames: of each part where there are few, else their mean; failures as marks."""
    names = list(story.scores)
    shown: list[Curve] = []
    if len(story.parts) <= _MOST_CURVES:
        for number, (part, identity) in enumerate(zip(story.parts, story.ids, strict=True)):
            shown += [
                Curve(
                    name=f"{score} {part}",
                    x=story.frames,
                    y=story.scores[score][number].tolist(),
                    colour=colour_of(identity),
                    is_dashed=score != names[0],
                )
                for score in names
            ]
    else:
        shown = [
            Curve(name=f"{score}, mean", x=story.frames, y=mean_over_parts(values).tolist(), colour=colour)
            for (score, values), colour in zip(story.scores.items(), COLOURS, strict=False)
        ]
    marks = [(float(failure.frame), f"{failure.part} {failure.kind}") for failure in story.failures[:_MOST_CURVES]]
    return curves(shown, "frame" if story.has_predictions else "scored frame", marks)


def mean_over_parts(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """[K, n] to [n]; NaN where no part has a score."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0).sum(axis=0) / known.sum(axis=0))


def _score_words(story: Story) -> str:
    words = " and ".join(story.scores)
    return f"{words} of the figure's size, share of joints" if words.startswith("within") else words


def feature_figures(
    method: str, opened: OpenedRun, name: str, story: Story, file_stem: str
) -> tuple[list[Figure], str]:
    """Features as colours and the sources of a cell's labels; or none, and why."""
    try:
        predictor = opened.network()
        return _feature_figures(method, predictor, opened, name, story, file_stem), ""
    except CorrkitError as error:
        return [], f"{method}: features can't be shown. {error.problem} {error.remedy}"


def _feature_figures(
    method: str, predictor: Propagator, opened: OpenedRun, name: str, story: Story, file_stem: str
) -> list[Figure]:
    clip = opened.reader.clips[name]
    frames = spaced(story.frames, _COLUMNS, [f.frame for f in story.failures[:1]])
    frame = story.failures[0].frame if story.failures else story.frames[len(story.frames) // 2]
    frame = max(frame, 1)
    point = _query_point(opened, name, story, frame)
    seen = look(predictor, clip, opened.protocol, frames, frame, point)
    tiles = [resized(clip.frames[index], TILE) for index in frames]
    cells = [cells_as_picture(colours, tile.size) for colours, tile in zip(seen.colours, tiles, strict=True)]
    share: dict[int, float] = {}
    for source in seen.sources:
        share[source.frame] = share.get(source.frame, 0.0) + source.weight
    context = sorted(sorted(share, key=lambda index: -share[index])[:_CONTEXT])
    matches = [marked_query(clip.frames[frame], seen.cell, TILE)]
    matches += [marked_sources(clip.frames[i], [s for s in seen.sources if s.frame == i], TILE) for i in context]
    heads = [f"query: frame {frame}", *(f"context: frame {i}, {share[i]:.0%} of the weight" for i in context)]
    return [
        Figure(
            name=f"{file_stem}-{method}-features",
            caption=f"{method}: the three principal components of the features of these frames as red, green and blue. "
            "Equal colours are matched.",
            alt=f"Features of {name} under {method} as colours",
            pictures=[strip([("frames", tiles), (f"features of {method}", cells)], [f"frame {i}" for i in frames])],
            is_wide=True,
        ),
        Figure(
            name=f"{file_stem}-{method}-matches",
            caption=f"{method}: the label of the ringed cell comes from {len(seen.sources)} context cells; the larger "
            "the dot, the larger the weight.",
            alt=f"Where a label of {name} comes from under {method}",
            pictures=[strip([("", matches)], heads)],
            is_wide=True,
        ),
    ]


def _query_point(opened: OpenedRun, name: str, story: Story, frame: int) -> tuple[float, float]:
    """(x, y) from 0 to 1: within what the prediction of a frame misses; the middle of the picture without any."""
    labels = {index: (true, predicted) for index, true, predicted in opened.reader.labels(name) if index == frame}
    if frame not in labels:
        return 0.5, 0.5
    truth, predicted = labels[frame]
    if is_mask(truth):
        return _in_mask(np.asarray(truth, np.uint8), np.asarray(predicted, np.uint8))
    height, width = opened.reader.clips[name].frames.size
    joint = story.parts.index(story.failures[0].part) if story.failures else 0
    x, y = truth[joint]
    return float(np.clip((x + 0.5) / width, 0, 0.999)), float(np.clip((y + 0.5) / height, 0, 0.999))


def _in_mask(truth: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> tuple[float, float]:
    """The pixel nearest to the middle of the id that is missed most; of the largest id where none is missed."""
    missed = (truth > 0) & (predicted != truth)
    region = missed if missed.any() else truth > 0
    if not region.any():
        return 0.5, 0.5
    ids = np.bincount(truth[region], minlength=256)
    ys, xs = np.nonzero(region & (truth == ids.argmax()))
    nearest = int(np.hypot(ys - ys.mean(), xs - xs.mean()).argmin())
    return (float(xs[nearest]) + 0.5) / truth.shape[1], (float(ys[nearest]) + 0.5) / truth.shape[0]
