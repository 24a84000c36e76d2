"""VIP (and any folder in its layout): 20 classes of body parts, scored by the data set's mean IoU."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from corrkit.errors import DataError
from corrkit.frames.files import is_folder, numbered_files, require_one_each
from corrkit.frames.pictures import SUFFIXES, require_pictures
from corrkit.frames.sequence import ImageFolder
from corrkit.manifests import manifest
from corrkit.metrics.confusion import NUM_CLASSES, VOID, class_areas, class_iou, joint_counts, mean_iou
from corrkit.metrics.intervals import bootstrap_intervals
from corrkit.protocols import Protocol
from corrkit.tasks.contract import DataSet, Evidence, Geometry, Scores
from corrkit.tasks.masks import Mask, MaskCodec, read_mask, resize_nearest, write_mask
from corrkit.tasks.roots import shown_name, stray_caches
from corrkit.tasks.vip_layout import find_layout


class VipClip:
    """One clip: frames, and label PNGs by frame stem. Frames without a label are propagated through, not scored.

    Args:
        name: folder name.
        frame_folder: folder of frames.
        label_folder: folder of labels, at least of the first frame.
    """

    def __init__(self, name: str, frame_folder: Path, label_folder: Path) -> None:
        self.name = name
        self._frame_folder, self._label_folder = frame_folder, label_folder

    @cached_property
    def frames(self) -> ImageFolder:
        """The frames, sorted by number. Raises DataError for a missing or empty folder, or a label without a frame."""
        folder = self._frame_folder
        paths = numbered_files(folder, SUFFIXES)
        require_pictures(paths, folder, self.name)
        require_one_each(paths)
        orphans = sorted(set(self._labels) - {path.stem for path in paths})
        if orphans:
            raise DataError(
                f"{self.name}: {len(orphans)} label(s) have no frame, first {self._labels[orphans[0]]}.",
                f"Restore the missing frames in {folder}.",
            )
        if paths[0].stem not in self._labels:
            raise DataError(
                f"{self.name}: the first frame {paths[0]} has no label in {self._label_folder}.",
                "Start the clip at a labelled frame, or leave it out with --clips.",
            )
        return ImageFolder(paths)

    @cached_property
    def stems(self) -> tuple[str, ...]:
        """Frame names without suffix."""
        return tuple(path.stem for path in self.frames.paths)

    @cached_property
    def _labels(self) -> dict[str, Path]:
        paths = numbered_files(self._label_folder, (".png",))
        require_one_each(paths)
        return {path.stem: path for path in paths}

    @cached_property
    def annotation_files(self) -> tuple[Path, ...]:
        """The label files in frame order."""
        return tuple(self._labels.values())

    def is_annotated(self, index: int) -> bool:
        """Whether frame `index` has a label."""
        return self.stems[index] in self._labels

    def annotation(self, index: int) -> Mask | None:
        """Ids [H, W] of frame `index` with void as background, or None where it has no label."""
        stored = self.stored(index)
        return None if stored is None else np.where(stored == VOID, np.uint8(0), stored)

    def stored(self, index: int) -> Mask | None:
        """Ids [H, W] as the file has them, void (255) included. Raises DataError for other ids beyond the classes."""
        if not self.is_annotated(index):
            return None
        path = self._labels[self.stems[index]]
        ids = read_mask(path)
        if ids.shape != self.frames.size:
            (height, width), (rows, columns) = self.frames.size, ids.shape
            raise DataError(
                f"{path} is {columns}x{rows}, the frames are {width}x{height}.", "Use labels of the frames' size."
            )
        beyond = np.flatnonzero(np.bincount(ids.ravel(), minlength=256)[NUM_CLASSES:VOID]) + NUM_CLASSES
        if len(beyond):
            raise DataError(
                f"{path} holds id {', '.join(map(str, beyond[:5]))}; VIP's classes are 0 to {NUM_CLASSES - 1}.",
                f"Store class ids as palette or grey PNG; {VOID} marks pixels that are not scored.",
            )
        return ids


class VipTask:
    """See `corrkit.tasks.contract.Task`. Splits: "val" and others of lists/*_videos.txt, or a list file."""

    name = "vip"

    def open(self, root: Path, *, split: str, dataset_name: str | None) -> DataSet:
        """Opens a root in VIP layout. Raises DataError naming what is missing."""
        layout = find_layout(root)
        names, notes = layout.clip_names(split)
        clips = tuple(VipClip(shown_name(name), layout.frames / name, layout.labels / name) for name in names)
        official = dataset_name is None and _has_official_clips(split, names)
        return DataSet(
            task=self.name,
            name=dataset_name or ("VIP" if official else shown_name(layout.root.name)),
            split=split,
            root=layout.root,
            official=official,
            clips=clips,
            notes=(*layout.notes, *notes, *stray_caches(layout.labels)),
        )

    def resaved(self, clip: VipClip, protocol: Protocol) -> VipClip:
        """The clip itself: no published code saved this data set again."""
        return clip

    def codec(self, clip: VipClip, geometry: Geometry, protocol: Protocol) -> MaskCodec:
        """The clip's label codec."""
        return MaskCodec(_first(clip), geometry, protocol.labels, protocol.readout)

    def truth(self, clip: VipClip, protocol: Protocol) -> Callable[[int], Mask | None]:
        """Ids of a frame, void included; None for a frame that is not scored."""
        first_scored = 0 if protocol.score.score_first else 1

        def ids(index: int) -> Mask | None:
            return clip.stored(index) if index >= first_scored else None

        return ids

    def scorer(self, clip: VipClip, protocol: Protocol, truth: Callable[[int], Mask | None]) -> "VipScorer":
        """Joint counts of true and predicted ids over the scored frames."""
        return VipScorer(truth)

    def scores(self, records: Mapping[str, Mapping[str, Any]], protocol: Protocol, *, split: str) -> Scores:
        """IoU of each class over the pixels of all clips together, and their mean."""
        evidence = self.evidence(records, protocol)
        names, areas = evidence.names, evidence.statistics
        values = dict(zip(names, evidence.estimate(areas.sum(axis=0)).tolist(), strict=True))
        if protocol.score.rounding == "percent-2":
            values["mIoU"] = round(values["mIoU"] * 100, 2) / 100
        per_clip = evidence.estimate(areas)[:, 0].tolist()
        return Scores(
            metrics=values,
            intervals=dict(zip(names, bootstrap_intervals(areas, evidence.estimate), strict=True)),
            per_clip={clip: {"mIoU": value} for clip, value in zip(records, per_clip, strict=True)},
            objects=int(np.isfinite(class_iou(areas.sum(axis=0))).sum()),
        )

    def evidence(self, records: Mapping[str, Mapping[str, Any]], protocol: Protocol) -> Evidence:
        """Areas [clips, 3, C] of each class."""
        rules = protocol.score
        areas = [class_areas(np.array(record["counts"]), rule=rules.counting) for record in records.values()]
        statistics = np.array(areas, np.int64).reshape(-1, 3, NUM_CLASSES)  # also where no clip could be evaluated

        def metrics_of(sums: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:  # [..., 3, C] to [..., 1 + C]
            iou = class_iou(sums)
            return np.concatenate([mean_iou(iou, background=rules.background)[..., None], iou], axis=-1)

        names = ("mIoU", *(f"IoU/{name}" for name in class_names()))
        return Evidence(names=names, units=tuple(records), statistics=statistics, estimate=metrics_of)

    def write_prediction(self, folder: Path, clip: VipClip, index: int, prediction: Mask) -> None:
        """FOLDER/CLIP/FRAME.png, a palette PNG of class ids."""
        write_mask(folder / clip.name / f"{clip.stems[index]}.png", prediction)

    def has_predictions(self, folder: Path, clip: VipClip) -> bool:
        """Whether FOLDER/CLIP is there."""
        return is_folder(folder / clip.name)

    def read_predictions(
        self, folder: Path, clip: VipClip, *, grid: tuple[int, int] | None = None
    ) -> Iterator[Mask | None]:
        """Id masks of the labelled frames, None for the others; brought to the labels' size by Pillow's nearest.

        Files are FOLDER/CLIP/FRAME.png, or FRAME_mask.png as CropMAE writes them.

        Raises:
            DataError: naming the missing frames and what is there instead.

        Source: ajabri/videowalk 047f3f4 code/eval/eval_vip.py:107-109.
        """
        paths = [_prediction(folder / clip.name, stem) for stem in clip.stems]
        missing = [stem for index, stem in enumerate(clip.stems) if clip.is_annotated(index) and paths[index] is None]
        if missing:
            found = sorted(path.name for path in (folder / clip.name).iterdir())[:3]
            raise DataError(
                f"{folder / clip.name} lacks {len(missing)} of {len(clip.annotation_files)} labelled frames: "
                f"{', '.join(missing[:10])}{', ...' if len(missing) > 10 else ''}. "
                f"It holds {', '.join(found) or 'nothing'}.",
                "Name predictions like the frames, FRAME.png or FRAME_mask.png.",
            )
        for index, path in enumerate(paths):
            if path is None or not clip.is_annotated(index):
                yield None
            else:
                yield resize_nearest(read_mask(path), clip.frames.size)


class VipScorer:
    """Joint counts of true and predicted ids of one clip.

    Args:
        truth: ids of a frame, None where it is not scored.
    """

    def __init__(self, truth: Callable[[int], Mask | None]) -> None:
        self._truth = truth
        self._counts = np.zeros((NUM_CLASSES + 2, NUM_CLASSES + 2), np.int64)
        self._frames = 0

    def update(self, index: int, prediction: Mask) -> None:
        """Counts frame `index` where it is scored."""
        truth = self._truth(index)
        if truth is not None:
            self._counts += joint_counts(truth, prediction)
            self._frames += 1

    def result(self) -> dict[str, Any]:
        """{"counts": [C + 2][C + 2] (row = truth), "scored_frames": how many}."""
        return {"counts": self._counts.tolist(), "scored_frames": self._frames}


@cache
def class_names() -> tuple[str, ...]:
    """VIP's 20 classes in the order of their ids (data_manifests/vip_classes.csv)."""
    with manifest("vip_classes.csv").open(encoding="utf-8") as file:
        return tuple(row["name"] for row in csv.DictReader(file))


def _first(clip: VipClip) -> Mask:
    annotation = clip.annotation(0)
    assert annotation is not None, "the first frame of a VipClip is labelled"
    return annotation


def _prediction(folder: Path, stem: str) -> Path | None:
    return next((path for name in (stem, f"{stem}_mask") if (path := folder / f"{name}.png").is_file()), None)


def _has_official_clips(split: str, names: Sequence[str]) -> bool:
    """Whether these are the 50 validation clips (data_manifests/vip_val.csv); frame counts are not public."""
    with manifest("vip_val.csv").open(encoding="utf-8") as file:
        known = {row["clip"] for row in csv.DictReader(file)}
    return split == "val" and set(names) == known
