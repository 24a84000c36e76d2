"""DAVIS-2017 (and any folder in its layout): object masks, scored by region similarity J and contour accuracy F."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from corrkit.errors import DataError
from corrkit.files.jsontext import Json, list_of, number_of
from corrkit.files.reading import is_folder
from corrkit.manifests.clips import ManifestClip, official_clips
from corrkit.manifests.published import author_split, author_splits
from corrkit.metrics.davis import (
    METRICS,
    STATISTICS,
    clip_sums,
    metrics_of_sums,
    object_statistics,
    table_metrics,
)
from corrkit.metrics.intervals import bootstrap_intervals
from corrkit.metrics.region_contour import FrameOutlines, outline_objects, region_contour
from corrkit.palette import VOID
from corrkit.protocols import Protocol
from corrkit.protocols.schema import DavisFrames, DavisScore
from corrkit.tasks.clips import ClipFiles, are_official, clip_folder, collected_notes, some
from corrkit.tasks.contract import DataSet, Evidence, Geometry, Notes, Scores, Task, refuse_options
from corrkit.tasks.davis_clips import DavisClip, entering
from corrkit.tasks.davis_layout import DavisLayout, find_layout
from corrkit.tasks.first_frame import mask_notes
from corrkit.tasks.mask_clips import surplus_notes
from corrkit.tasks.masks import Mask, MaskCodec, PaletteOrder, distinct_values, read_mask, write_mask
from corrkit.tasks.official_csvs import davis_csvs
from corrkit.tasks.roots import shown_name, stray_caches
from corrkit.tasks.split_folders import SplitFolders, find_splits

J_MEAN, F_MEAN = STATISTICS.index("J-Mean"), STATISTICS.index("F-Mean")


class DavisTask:
    """See `corrkit.tasks.contract.Task`. Clips are `DavisClip`, predictions id masks of the original size."""

    name = "davis"
    tree = DavisLayout.tree

    def layout(self, root: Path) -> DavisLayout | SplitFolders:
        """The layout at `root` or below it. Raises DataError with the expected tree."""
        return find_splits(root) or find_layout(root)

    def clip(self, files: ClipFiles, root: Path, official: ManifestClip | None = None) -> DavisClip:
        """The clip that lies in `files`."""
        return DavisClip(files, root, official)

    def open(self, root: Path, *, split: str, dataset_name: str | None) -> DataSet[DavisClip]:
        """Opens a root in the layout of DAVIS, YouTube-VOS or MOSE. Raises DataError naming what is missing."""
        layout = self.layout(root)
        files, notes = layout.clips(split)
        split = Path(split).stem if split.endswith(".txt") else split
        known = {} if dataset_name else {clip.clip: clip for clip in official_clips(self.name, split)}
        clips = tuple(self.clip(one, layout.root, known.get(one.name)) for one in files)
        official = are_official(clips, known)
        name = dataset_name or ("DAVIS-2017" if official else shown_name(layout.root.name))
        strays = stray_caches(dict.fromkeys(one.annotation.parent for one in files))
        return DataSet(
            task=self.name,
            name=name,
            split=split,
            root=layout.root,
            official=official,
            clips=clips,
            notes=(*layout.notes, *notes, *_unpublished_lists(name, split), *strays),
        )

    def resaved(self, clip: DavisClip, protocol: Protocol) -> DavisClip:
        """The clip as the copy gives it that the protocol's published preprocessing wrote."""
        assert isinstance(protocol.frames, DavisFrames)
        size = protocol.frames.stored_size
        return clip.resaved((size[0], size[1])) if size else clip

    def given(self, clip: DavisClip, protocol: Protocol) -> dict[int, Mask]:
        """The first mask, and by `score.entries` masks of the objects that enter later."""
        given = {0: clip.first}
        if protocol.score.entries == "appearance":
            for index, identities in entering(clip.annotation, len(clip.frames)).items():
                mask = clip.annotation(index)
                assert mask is not None, "objects enter where there is a mask"
                given[index] = np.where(np.isin(mask, identities), mask, np.uint8(0))
        return given

    def codec(self, clip: DavisClip, geometry: Geometry, protocol: Protocol) -> MaskCodec:
        """The clip's mask codec."""
        first, *later = self.given(clip, protocol).values()
        return MaskCodec(first, geometry, protocol.labels, protocol.readout, later=later)

    def truth(self, clip: DavisClip, protocol: Protocol) -> Callable[[int], FrameOutlines]:
        """Outlines of the objects of a frame."""

        def outlines(index: int) -> FrameOutlines:
            annotation = clip.annotation(index)
            assert annotation is not None, "only scored frames are asked for"
            return outline_objects(annotation, max(clip.scored_objects(protocol.score), default=0))

        return outlines

    def scorer(self, clip: DavisClip, protocol: Protocol, truth: Callable[[int], FrameOutlines]) -> "DavisScorer":
        """J and F of the scored frames."""
        return DavisScorer(clip, truth, protocol.score)

    def scores(self, records: Mapping[str, Mapping[str, Json]], protocol: Protocol, *, split: str) -> Scores:
        """The official table: means over objects, not over clips; clips without a scored frame count for nothing."""
        objects = {clip: _objects(record, protocol) for clip, record in records.items()}
        evidence = self.evidence(records, protocol)
        metrics = table_metrics(objects.values())
        intervals = bootstrap_intervals(evidence.statistics, evidence.estimate)
        per_object = {
            f"{clip}_{identity}": (float(row[J_MEAN]), float(row[F_MEAN]))
            for clip, rows in objects.items()
            for identity, row in zip(_ids(records[clip]), rows, strict=True)
        }
        return Scores(
            metrics=metrics,
            intervals=dict(zip(METRICS, intervals, strict=True)),
            per_clip={clip: table_metrics([rows]) for clip, rows in objects.items()},
            objects=int(evidence.statistics[:, -1].sum()),
            csvs=davis_csvs(metrics, per_object, split),
            notes=collected_notes(records),
        )

    def evidence(self, records: Mapping[str, Mapping[str, Json]], protocol: Protocol) -> Evidence:
        """Sums over the objects of each clip that has a scored frame."""
        sums = {clip: clip_sums(_objects(record, protocol)) for clip, record in records.items()}
        scored = {clip: row for clip, row in sums.items() if row[-1] > 0}
        statistics = np.array([*scored.values()]).reshape(len(scored), len(METRICS))
        return Evidence(names=METRICS, units=tuple(scored), statistics=statistics, estimate=metrics_of_sums)

    def write_prediction(self, folder: Path, clip: DavisClip, index: int, prediction: Mask) -> None:
        """FOLDER/CLIP/FRAME.png, a palette PNG as the official tool reads it."""
        write_mask(folder / clip.name / f"{clip.stems[index]}.png", prediction)

    def predictions(self, folder: Path, options: Mapping[str, object]) -> "DavisPredictions":
        """FOLDER/CLIP/FRAME.png. Raises UsageError for any option."""
        refuse_options(self.name, options)
        return DavisPredictions(folder)


def _unpublished_lists(name: str, split: str) -> Iterator[str]:
    """A note on data of which papers report numbers by lists that nobody else has."""
    if author_split(name, split) == "unknown":
        users = "; ".join(one.used_by for one in author_splits(name) if one.author_split == "unknown")
        yield f"Lists of clips of {name} that numbers are published for are not published themselves ({users})."


@dataclass(frozen=True, slots=True)
class DavisPredictions:
    """Masks below `folder`."""

    folder: Path

    def holds(self, clip: DavisClip) -> bool:
        """Whether FOLDER/CLIP is there."""
        return is_folder(clip_folder(self.folder, clip))

    def read(self, clip: DavisClip, protocol: Protocol) -> Generator[Mask | None, None, Notes]:
        """Id masks of the scored frames, None for the others.

        In a clip of one object a prediction may hold 0 and 255 (or be of one bit), as DAVIS-2016's do; all of a clip
        are of one kind.

        Raises:
            DataError: naming every missing frame, or the first mask of another kind or with a re-ordered palette.
        """
        folder = clip_folder(self.folder, clip)
        paths = [folder / f"{stem}.png" for stem in clip.stems]
        scored = set(clip.scored_frames(protocol.score.left_out))
        missing = [paths[index].name for index in sorted(scored) if not paths[index].is_file()]
        if missing:
            raise DataError(
                f"{folder} lacks {len(missing)} of {len(scored)} scored frames: "
                f"{', '.join(missing[:10])}{', ...' if len(missing) > 10 else ''}.",
                "Add them; masks are named like the frames, with .png.",
            )
        kinds: dict[int, Path] = {}
        order = PaletteOrder()
        for index, path in enumerate(paths):
            if index not in scored:
                yield None
                continue
            ids = order.read(path)
            yield _one_object(ids, path, kinds) if clip.num_objects == 1 else ids
        return [*_first_frame_notes(paths[0], clip), *surplus_notes(folder, clip.stems)]


def _first_frame_notes(path: Path, clip: DavisClip) -> Notes:
    """What the first mask tells, which isn't scored: methods save it, or they don't, as they like."""
    given = clip.annotation(0)
    try:
        ids = read_mask(path)
    except DataError:
        return []
    if given is None:
        return []
    return mask_notes(_one_object(ids, path, {}) if clip.num_objects == 1 else ids, given)


def _one_object(ids: Mask, path: Path, kinds: dict[int, Path]) -> Mask:
    """A prediction of a clip of one object, its 255 read as that object; `kinds` keeps the first mask of each kind."""
    values = set(distinct_values(ids)) - {0}
    if values not in ({1}, {VOID}):
        return ids  # empty, or of ids that the score refuses
    kinds.setdefault(values.pop(), path)
    if len(kinds) > 1:
        raise DataError(
            f"{kinds[VOID]} marks its object by {VOID}, {kinds[1]} by 1.", "Bring all masks of a clip to one kind."
        )
    return np.asarray(ids > 0, np.uint8)


def object_scores(record: Mapping[str, Json], protocol: Protocol) -> dict[str, float]:
    """J&F of each object of a clip, from `DavisScorer.result()`; names are the ids. NaN without a scored frame."""
    rows = _objects(record, protocol)
    return {
        str(identity): float(row[J_MEAN] + row[F_MEAN]) / 2 for identity, row in zip(_ids(record), rows, strict=True)
    }


def _ids(record: Mapping[str, Json]) -> Sequence[int]:
    """Of the rows of a record: 1, 2, 3, ... where it does not say."""
    ids = [int(number_of(identity)) for identity in list_of(record.get("ids", ()))]
    return ids or range(1, len(list_of(record["J"])) + 1)


def _objects(record: Mapping[str, Json], protocol: Protocol) -> NDArray[np.float64]:
    """Statistics of each object of a clip, from `DavisScorer.result()`."""
    region, contour = ([np.asarray(row, np.float64) for row in list_of(record[name])] for name in ("J", "F"))
    return object_statistics(region, contour, decay=protocol.score.decay)


class DavisScorer:
    """J and F of every object in the scored frames of one clip.

    Args:
        clip: what is scored.
        truth: outlines of the objects of a frame.
        rules: which objects and frames are scored.
    """

    def __init__(self, clip: DavisClip, truth: Callable[[int], FrameOutlines], rules: DavisScore) -> None:
        self._clip, self._truth, self._rules = clip, truth, rules
        self._scored = frozenset(clip.scored_frames(rules.left_out))
        self._entries = clip.scored_objects(rules)
        self._region: dict[int, list[float]] = {identity: [] for identity in self._entries}
        self._contour: dict[int, list[float]] = {identity: [] for identity in self._entries}
        self._unpredicted = set(self._entries)

    def takes(self, index: int) -> bool:
        """See `corrkit.tasks.contract.Scorer`."""
        return index in self._scored

    def update(self, index: int, prediction: Mask) -> None:
        """Scores frame `index` where the protocol does. Raises DataError for an id that the clip lacks."""
        if index not in self._scored:
            return
        name = f"{self._clip.name}: the prediction of frame {self._clip.stems[index]}"
        region, contour = region_contour(prediction, self._truth(index), name=name)
        self._unpredicted -= {identity for identity in self._unpredicted if (prediction == identity).any()}
        for identity, entry in self._entries.items():
            if index > entry:
                self._region[identity].append(float(region[identity - 1]))
                self._contour[identity].append(float(contour[identity - 1]))

    def result(self) -> dict[str, Json]:
        """{"J": [objects][frames], "F": [objects][frames], "notes": what is odd, "ids": where not 1, 2, 3, ...}."""
        found: dict[str, Json] = {"J": [*self._region.values()], "F": [*self._contour.values()]}
        if [*self._entries] != [*range(1, len(self._entries) + 1)]:
            found["ids"] = [*self._entries]
        notes = [list(note) for note in self._notes()]
        return {**found, "notes": notes} if notes else found

    def _notes(self) -> Iterator[tuple[str, str]]:
        yield from self._clip.notes_under(self._rules)
        if not self._scored:
            yield "clips without a scored frame (first, last and unannotated ones are not) count for nothing", ""
        elif self._clip.num_annotated < len(self._clip.stems):
            ends = "the first and the last" if self._rules.left_out == "first-last" else "the first"
            yield f"scored are the annotated frames but {ends} (left_out = {self._rules.left_out})", ""
        lost = [identity for identity in sorted(self._unpredicted) if min(self._region[identity], default=1) < 1]
        if lost:
            yield "objects that no scored prediction holds score 0", f"id {some(lost)}"


if TYPE_CHECKING:
    _: Task[DavisClip, Mask, FrameOutlines] = DavisTask()
