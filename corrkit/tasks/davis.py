"""DAVIS-2017 (and any folder in its layout): object masks, scored by region similarity J and contour accuracy F."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from corrkit.errors import DataError
from corrkit.frames.files import is_folder, numbered_files, require_one_each
from corrkit.frames.pictures import SUFFIXES, require_pictures
from corrkit.frames.resaved import ResavedFrames
from corrkit.frames.sequence import FrameSequence, ImageFolder
from corrkit.manifests import manifest
from corrkit.metrics.davis import METRICS, STATISTICS, clip_sums, metrics_of_sums, object_statistics, table_metrics
from corrkit.metrics.intervals import bootstrap_intervals
from corrkit.metrics.region_contour import VOID, FrameOutlines, count_objects, outline_objects, region_contour
from corrkit.protocols import Protocol
from corrkit.protocols.schema import DavisFrames
from corrkit.tasks.contract import DataSet, Evidence, Geometry, Scores
from corrkit.tasks.davis_layout import find_layout
from corrkit.tasks.masks import Mask, MaskCodec, read_mask, resize_nearest, write_mask
from corrkit.tasks.official_csvs import davis_csvs
from corrkit.tasks.roots import shown_name, stray_caches

J_MEAN, F_MEAN = STATISTICS.index("J-Mean"), STATISTICS.index("F-Mean")


class DavisClip:
    """One clip: frames, and masks by frame stem. Predictions can be scored where only the masks are there.

    Args:
        name: folder name.
        frame_folder: folder of frames.
        mask_folder: folder of masks, one per frame or only the first.
        resaved_size: None, or the (height, width) to which frames and masks are brought as published preprocessing did.
    """

    def __init__(
        self, name: str, frame_folder: Path, mask_folder: Path, resaved_size: tuple[int, int] | None = None
    ) -> None:
        self.name = name
        self._frame_folder, self._mask_folder, self._resaved_size = frame_folder, mask_folder, resaved_size

    def resaved(self, size: tuple[int, int]) -> "DavisClip":
        """The same clip as a copy of frames and masks saved at `size` gives it (`frames.stored_size`)."""
        return DavisClip(self.name, self._frame_folder, self._mask_folder, size)

    @cached_property
    def frames(self) -> FrameSequence:
        """The frames, sorted by number. Raises DataError for an empty or missing folder, or a mask without a frame."""
        files = self.frame_files
        return files if self._resaved_size is None else ResavedFrames(files, self._resaved_size, self.name)

    @cached_property
    def frame_files(self) -> ImageFolder:
        """The same as they lie in the data set."""
        folder = self._frame_folder
        paths = numbered_files(folder, SUFFIXES)
        require_pictures(paths, folder, self.name)
        require_one_each(paths)
        orphans = sorted(set(self._masks) - {path.stem for path in paths})
        if orphans:
            raise DataError(
                f"{self.name}: {len(orphans)} mask(s) have no frame, first {self._masks[orphans[0]]}.",
                f"Restore the missing frames in {folder}.",
            )
        return ImageFolder(paths)

    @cached_property
    def stems(self) -> tuple[str, ...]:
        """Frame names without suffix; of the masks where the frames are not there."""
        if is_folder(self._frame_folder):
            return tuple(path.stem for path in self.frame_files.paths)
        if not self._masks:
            raise DataError(
                f"{self.name}: {self._mask_folder} holds no mask.", "Restore it, or leave the clip out with --clips."
            )
        return tuple(self._masks)

    @cached_property
    def _masks(self) -> dict[str, Path]:
        paths = numbered_files(self._mask_folder, (".png",))
        require_one_each(paths)
        return {path.stem: path for path in paths}

    @cached_property
    def annotation_files(self) -> tuple[Path, ...]:
        """The mask files in frame order."""
        return tuple(self._masks.values())

    @property
    def has_only_first_mask(self) -> bool:
        """True for test sets: predictions can be made but not scored."""
        return len(self._masks) == 1 and len(self.stems) > 1

    @property
    def scored_frames(self) -> range:
        """The official tool leaves out the first and the last annotated frame.

        Source: davisvideochallenge/davis2017-evaluation ac7c43f davis2017/evaluation.py:85-86.
        """
        return range(0) if self.has_only_first_mask else range(1, len(self.stems) - 1)

    @cached_property
    def is_binary(self) -> bool:
        """True for DAVIS-2016 masks: the first holds 255 and otherwise only 0, so 255 is the object and not void."""
        return set(np.unique(self._first_as_stored).tolist()) in ({0, VOID}, {VOID})

    @cached_property
    def num_objects(self) -> int:
        """Largest id of the first mask. Raises DataError where that mask is empty."""
        count = count_objects(self.first)
        if count == 0:
            raise DataError(
                f"{self.name}: the first mask ({self._masks[self.stems[0]]}) holds no object.",
                "Leave the clip out with --clips, or start it at a frame with objects.",
            )
        return count

    @cached_property
    def largest_id(self) -> int:
        """The largest id of any mask of the clip, 0 without objects; reads every mask."""
        masks = (self.annotation(index) for index in range(len(self.stems)))
        return max(int(mask.max(initial=0)) for mask in masks if mask is not None)

    def count_objects(self, rule: str) -> int:
        """Objects that are scored under `score.objects`."""
        return self.num_objects if rule == "first" else self.largest_id

    @cached_property
    def first(self) -> Mask:
        """Ids of the first mask [H, W]."""
        return self._ids(self._first_as_stored)

    def annotation(self, index: int) -> Mask | None:
        """Ids [H, W] of frame `index` with void as background, or None where only the first mask is there."""
        if index == 0:
            return self.first
        if self.has_only_first_mask:
            return None
        return self._ids(self._read(index))

    @property
    def mask_size(self) -> tuple[int, int]:
        """(height, width) of the first mask's file."""
        height, width = self._first_as_stored.shape
        return height, width

    def _ids(self, stored: Mask) -> Mask:
        ids: Mask = stored == VOID if self.is_binary else np.where(stored == VOID, 0, stored)
        return resize_nearest(np.asarray(ids, np.uint8), self._resaved_size or stored.shape)

    @cached_property
    def _first_as_stored(self) -> Mask:
        return read_mask(self._mask_path(0))

    def _read(self, index: int) -> Mask:
        path = self._mask_path(index)
        mask = read_mask(path)
        if mask.shape != self._first_as_stored.shape:
            raise DataError(
                f"{path} is {mask.shape[1]}x{mask.shape[0]}, the first mask is "
                f"{self._first_as_stored.shape[1]}x{self._first_as_stored.shape[0]}.",
                "Bring all masks of a clip to the size of its frames.",
            )
        return mask

    def _mask_path(self, index: int) -> Path:
        stem = self.stems[index]
        if stem not in self._masks:
            raise DataError(
                f"{self.name}: frame {stem} has no mask in {self._mask_folder}.",
                "Restore the mask, or leave the clip out with --clips.",
            )
        return self._masks[stem]


class DavisTask:
    """See `corrkit.tasks.contract.Task`. Clips are `DavisClip`, predictions id masks of the original size."""

    name = "davis"

    def open(self, root: Path, *, split: str, dataset_name: str | None) -> DataSet:
        """Opens a root in DAVIS-2017 or DAVIS-2016 layout. Raises DataError naming what is missing."""
        layout = find_layout(root)
        names, notes = layout.clip_names(split)
        clips = tuple(DavisClip(shown_name(name), layout.frames / name, layout.masks / name) for name in names)
        official = dataset_name is None and _has_official_clips(split, clips)
        return DataSet(
            task=self.name,
            name=dataset_name or ("DAVIS-2017" if official else shown_name(layout.root.name)),
            split=split,
            root=layout.root,
            official=official,
            clips=clips,
            notes=(*layout.notes, *notes, *stray_caches(layout.masks)),
        )

    def resaved(self, clip: DavisClip, protocol: Protocol) -> DavisClip:
        """The clip as the copy gives it that the protocol's published preprocessing wrote."""
        assert isinstance(protocol.frames, DavisFrames)
        size = protocol.frames.stored_size
        return clip.resaved((size[0], size[1])) if size else clip

    def codec(self, clip: DavisClip, geometry: Geometry, protocol: Protocol) -> MaskCodec:
        """The clip's mask codec. Raises DataError for a first mask of another size than the frames."""
        if clip.mask_size != clip.frame_files.size:
            (height, width), (rows, columns) = clip.frame_files.size, clip.mask_size
            raise DataError(
                f"{clip.name}: the first mask is {columns}x{rows}, frame 0 is {width}x{height}.",
                "Use masks of the frames' size.",
            )
        return MaskCodec(clip.first, geometry, protocol.labels, protocol.readout)

    def truth(self, clip: DavisClip, protocol: Protocol) -> Callable[[int], FrameOutlines]:
        """Outlines of the objects of a frame."""

        def outlines(index: int) -> FrameOutlines:
            annotation = clip.annotation(index)
            assert annotation is not None, "only scored frames are asked for"
            return outline_objects(annotation, clip.count_objects(protocol.score.objects))

        return outlines

    def scorer(self, clip: DavisClip, protocol: Protocol, truth: Callable[[int], FrameOutlines]) -> "DavisScorer":
        """J and F of the scored frames."""
        return DavisScorer(clip, truth, clip.count_objects(protocol.score.objects))

    def scores(self, records: Mapping[str, Mapping[str, Any]], protocol: Protocol, *, split: str) -> Scores:
        """The official table: means over objects, not over clips; clips without a scored frame count for nothing."""
        decay = protocol.score.decay
        objects = {clip: object_statistics(record["J"], record["F"], decay=decay) for clip, record in records.items()}
        evidence = self.evidence(records, protocol)
        metrics = table_metrics(objects.values())
        intervals = bootstrap_intervals(evidence.statistics, evidence.estimate)
        per_object = {
            f"{clip}_{position}": (float(row[J_MEAN]), float(row[F_MEAN]))
            for clip, rows in objects.items()
            for position, row in enumerate(rows, start=1)
        }
        return Scores(
            metrics=metrics,
            intervals=dict(zip(METRICS, intervals, strict=True)),
            per_clip={clip: table_metrics([rows]) for clip, rows in objects.items()},
            objects=int(evidence.statistics[:, -1].sum()),
            csvs=davis_csvs(metrics, per_object, split),
            notes=tuple(
                f"{clip} has no scored frame (first, last and unannotated ones are not): it counts for nothing."
                for clip, record in records.items()
                if not record["J"][0]
            ),
        )

    def evidence(self, records: Mapping[str, Mapping[str, Any]], protocol: Protocol) -> Evidence:
        """Sums over the objects of each clip that has a scored frame."""
        decay = protocol.score.decay
        sums = {clip: clip_sums(object_statistics(r["J"], r["F"], decay=decay)) for clip, r in records.items()}
        scored = {clip: row for clip, row in sums.items() if row[-1] > 0}
        statistics = np.array([*scored.values()]).reshape(len(scored), len(METRICS))
        return Evidence(names=METRICS, units=tuple(scored), statistics=statistics, estimate=metrics_of_sums)

    def write_prediction(self, folder: Path, clip: DavisClip, index: int, prediction: Mask) -> None:
        """FOLDER/CLIP/FRAME.png, a palette PNG as the official tool reads it."""
        write_mask(folder / clip.name / f"{clip.stems[index]}.png", prediction)

    def has_predictions(self, folder: Path, clip: DavisClip) -> bool:
        """Whether FOLDER/CLIP is there."""
        return is_folder(folder / clip.name)

    def read_predictions(
        self, folder: Path, clip: DavisClip, *, grid: tuple[int, int] | None = None
    ) -> Iterator[Mask | None]:
        """Id masks of the scored frames, None for the others. Raises DataError naming every missing frame."""
        paths = [folder / clip.name / f"{stem}.png" for stem in clip.stems]
        missing = [paths[index].name for index in clip.scored_frames if not paths[index].is_file()]
        if missing:
            raise DataError(
                f"{folder / clip.name} lacks {len(missing)} of {len(clip.scored_frames)} scored frames: "
                f"{', '.join(missing[:10])}{', ...' if len(missing) > 10 else ''}.",
                "Add them; masks are named like the frames, with .png.",
            )
        for index, path in enumerate(paths):
            yield read_mask(path) if index in clip.scored_frames else None


class DavisScorer:
    """J and F of every object in the scored frames of one clip.

    Args:
        clip: which frames are scored.
        truth: outlines of the objects of a frame.
        num_objects: how many are scored.
    """

    def __init__(self, clip: DavisClip, truth: Callable[[int], FrameOutlines], num_objects: int) -> None:
        self._clip, self._truth = clip, truth
        self._region: list[list[float]] = [[] for _ in range(num_objects)]
        self._contour: list[list[float]] = [[] for _ in range(num_objects)]

    def update(self, index: int, prediction: Mask) -> None:
        """Scores frame `index` where the official tool does. Raises DataError for an id that the clip lacks."""
        if index not in self._clip.scored_frames:
            return
        name = f"{self._clip.name}: the prediction of frame {self._clip.stems[index]}"
        region, contour = region_contour(prediction, self._truth(index), name=name)
        for object_index in range(len(self._region)):
            self._region[object_index].append(float(region[object_index]))
            self._contour[object_index].append(float(contour[object_index]))

    def result(self) -> dict[str, Any]:
        """{"J": [objects][frames], "F": [objects][frames]}."""
        return {"J": self._region, "F": self._contour}


def _has_official_clips(split: str, clips: Sequence[DavisClip]) -> bool:
    """Whether these are the split's own clips, with its frame counts (data_manifests/davis2017.csv)."""
    with manifest("davis2017.csv").open(encoding="utf-8") as file:
        known = {row["name"]: int(row["num_frames"]) for row in csv.DictReader(file) if row["set"] == split}
    if {clip.name for clip in clips} != set(known):
        return False
    try:
        return all(len(clip.frames) == known[clip.name] for clip in clips)
    except DataError:
        return False
