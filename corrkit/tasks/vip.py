"""VIP (and any folder in its layout): 20 classes of body parts, scored by the data set's mean IoU."""

import csv
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from corrkit.errors import DataError
from corrkit.files.jsontext import Json
from corrkit.files.reading import is_folder
from corrkit.manifests import manifest
from corrkit.manifests.clips import ManifestClip, official_clips
from corrkit.metrics.confusion import NUM_CLASSES, Rule, class_areas, class_iou, joint_counts, mean_iou
from corrkit.metrics.intervals import bootstrap_intervals
from corrkit.palette import VOID
from corrkit.protocols import Protocol
from corrkit.tasks.clips import UNFOLLOWED, ClipFiles, are_official, clip_folder, collected_notes, some
from corrkit.tasks.contract import DataSet, Evidence, Geometry, Notes, Scores, Task, refuse_options
from corrkit.tasks.faults import RESTORE, Fault
from corrkit.tasks.first_frame import mask_notes
from corrkit.tasks.mask_clips import MaskClip, MaskFacts, is_regular, surplus_notes
from corrkit.tasks.masks import Mask, MaskCodec, PaletteOrder, resize_nearest, write_mask
from corrkit.tasks.roots import shown_name, stray_caches
from corrkit.tasks.vip_layout import VipLayout, find_layout


class VipClip(MaskClip):
    """One clip: frames, and label PNGs by frame stem, at least of the first frame."""

    def annotation(self, index: int) -> Mask | None:
        """Ids [H, W] of frame `index` with void as background, or None where it has no label."""
        stored = self.stored(index)
        return None if stored is None else np.where(stored == VOID, np.uint8(0), stored)

    @property
    def first_classes(self) -> list[int]:
        """Ids of the first label, background and void left out."""
        return sorted(self._facts[0].ids) if self._facts else []

    @property
    def num_objects(self) -> int:
        """How many classes the first label holds."""
        return len(self.first_classes)

    def _id_faults(self, first: MaskFacts, expected: ManifestClip | None) -> Iterator[Fault]:
        """Ids that are no class, and a first label without a class or without background."""
        remedy = f"Store class ids as palette or grey PNG; {VOID} marks pixels that are not scored."
        beyond = self._group("damaged", "mask with wrong ids", remedy, stops=True)
        for facts in self._facts:
            ids = sorted(identity for identity in facts.ids if identity >= NUM_CLASSES)
            if ids:
                beyond.add(facts.path, f"holds id {some(ids)}; the classes are 0 to {NUM_CLASSES - 1}")
        if not first.ids:
            beyond.add(first.path, "the first label holds no class to propagate")
        yield from beyond.faults()
        if 0 not in first.values:
            what, meaning = "no pixel of the first label has id 0", "its palette may be re-ordered"
            yield from self._group("noted", what, remedy, consequence=meaning).extend([first.path]).faults()

    def _missing_mask_faults(self, expected: ManifestClip | None) -> Iterator[Fault]:
        """A note where not every n-th frame is labelled, as VIP labels them."""
        stems = self._expected_stems(expected)
        labelled = [index for index, stem in enumerate(stems) if stem in self._masks]
        if len(labelled) > 1 and not is_regular(labelled, len(stems)):
            group = self._group(
                "noted", "labels at irregular steps", RESTORE, consequence="frames without a label are not scored"
            )
            yield from group.extend(self.annotation_files, f"{len(labelled)} of {len(stems)} frames").faults()


class VipTask:
    """See `corrkit.tasks.contract.Task`. Splits: "val" and others of lists/*_videos.txt, or a list file."""

    name = "vip"
    tree = VipLayout.tree

    def layout(self, root: Path) -> VipLayout:
        """The layout at `root` or below it. Raises DataError with the expected tree."""
        return find_layout(root)

    def clip(self, files: ClipFiles, root: Path, official: ManifestClip | None = None) -> VipClip:
        """The clip that lies in `files`."""
        return VipClip(files, root, official)

    def open(self, root: Path, *, split: str, dataset_name: str | None) -> DataSet[VipClip]:
        """Opens a root in VIP layout. Raises DataError naming what is missing."""
        layout = self.layout(root)
        files, notes = layout.clips(split)
        known = {} if dataset_name else {clip.clip: clip for clip in official_clips(self.name, split)}
        clips = tuple(self.clip(one, layout.root, known.get(one.name)) for one in files)
        official = are_official(clips, known)
        return DataSet(
            task=self.name,
            name=dataset_name or ("VIP" if official else shown_name(layout.root.name)),
            split=split,
            root=layout.root,
            official=official,
            clips=clips,
            notes=(*layout.notes, *notes, *stray_caches([layout.labels])),
        )

    def resaved(self, clip: VipClip, protocol: Protocol) -> VipClip:
        """The clip itself: no published code saved this data set again."""
        return clip

    def given(self, clip: VipClip, protocol: Protocol) -> dict[int, Mask]:
        """The first label."""
        return {0: _first(clip)}

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
        return VipScorer(clip, truth, protocol.score.counting)

    def scores(self, records: Mapping[str, Mapping[str, Json]], protocol: Protocol, *, split: str) -> Scores:
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
            notes=collected_notes(records),
        )

    def evidence(self, records: Mapping[str, Mapping[str, Json]], protocol: Protocol) -> Evidence:
        """Areas [clips, 3, C] of each class."""
        rules = protocol.score
        areas = [class_areas(np.array(record["counts"]), rule=rules.counting) for record in records.values()]
        statistics = np.array(areas, np.int64).reshape(-1, 3, NUM_CLASSES)  # also where no clip could be evaluated

        def metrics_of(sums: NDArray[np.int64]) -> NDArray[np.float64]:  # [..., 3, C] to [..., 1 + C]
            iou = class_iou(sums)
            return np.concatenate([mean_iou(iou, background=rules.background)[..., None], iou], axis=-1)

        names = ("mIoU", *(f"IoU/{name}" for name in class_names()))
        return Evidence(names=names, units=tuple(records), statistics=statistics, estimate=metrics_of)

    def write_prediction(self, folder: Path, clip: VipClip, index: int, prediction: Mask) -> None:
        """FOLDER/CLIP/FRAME.png, a palette PNG of class ids."""
        write_mask(folder / clip.name / f"{clip.stems[index]}.png", prediction)

    def predictions(self, folder: Path, options: Mapping[str, object]) -> "VipPredictions":
        """FOLDER/CLIP/FRAME.png. Raises UsageError for any option."""
        refuse_options(self.name, options)
        return VipPredictions(folder)


@dataclass(frozen=True, slots=True)
class VipPredictions:
    """Masks below `folder`."""

    folder: Path

    def holds(self, clip: VipClip) -> bool:
        """Whether FOLDER/CLIP is there."""
        return is_folder(clip_folder(self.folder, clip))

    def read(self, clip: VipClip, protocol: Protocol) -> Generator[Mask | None, None, Notes]:
        """Id masks of the labelled frames, None for the others; brought to the labels' size by Pillow's nearest.

        Files are FOLDER/CLIP/FRAME.png, or FRAME_mask.png as CropMAE writes them.

        Raises:
            DataError: naming the missing frames and what is there instead, or a mask of another aspect ratio.

        Source: ajabri/videowalk 047f3f4 code/eval/eval_vip.py:107-109.
        """
        folder = clip_folder(self.folder, clip)
        paths = [_prediction(folder, stem) for stem in clip.stems]
        missing = [stem for index, stem in enumerate(clip.stems) if clip.is_annotated(index) and paths[index] is None]
        if missing:
            found = sorted(path.name for path in folder.iterdir())[:3]
            raise DataError(
                f"{folder} lacks {len(missing)} of {len(clip.annotation_files)} labelled frames: "
                f"{', '.join(missing[:10])}{', ...' if len(missing) > 10 else ''}. "
                f"It holds {', '.join(found) or 'nothing'}.",
                "Name predictions like the frames, FRAME.png or FRAME_mask.png.",
            )
        order = PaletteOrder()
        first: Notes = []
        for index, path in enumerate(paths):
            if path is None or not clip.is_annotated(index):
                yield None
            else:
                ids = _to_size(order.read(path), clip.frames.size, path)
                given = clip.annotation(0) if index == 0 else None
                first = first if given is None else mask_notes(ids, given)
                yield ids
        return [*first, *surplus_notes(folder, [name for stem in clip.stems for name in (stem, f"{stem}_mask")])]


class VipScorer:
    """Joint counts of true and predicted ids of one clip.

    Args:
        clip: what is scored.
        truth: ids of a frame, None where it is not scored.
        counting: the protocol's rule.
    """

    def __init__(self, clip: VipClip, truth: Callable[[int], Mask | None], counting: Rule) -> None:
        self._clip, self._truth, self._counting = clip, truth, counting
        self._counts = np.zeros((NUM_CLASSES + 2, NUM_CLASSES + 2), np.int64)
        self._frames, self._later = 0, 0

    def takes(self, index: int) -> bool:
        """See `corrkit.tasks.contract.Scorer`."""
        return self._clip.is_annotated(index)

    def update(self, index: int, prediction: Mask) -> None:
        """Counts frame `index` where it is scored.

        Raises:
            DataError: for ids with which the published code of the rule "confusion" stops: above 20, and 20 where the
                truth is 19 (ajabri/videowalk 047f3f4 code/eval/eval_vip.py:63-65).
        """
        truth = self._truth(index)
        if truth is None:
            return
        counts = joint_counts(truth, prediction)
        stops = counts[:NUM_CLASSES, NUM_CLASSES + 1].sum() + counts[NUM_CLASSES - 1, NUM_CLASSES]
        if self._counting == "confusion" and stops:
            raise DataError(
                f"{self._clip.name}: the prediction of frame {self._clip.stems[index]} holds ids above the last class, "
                f"{NUM_CLASSES - 1}, the largest {prediction.max()}.",
                "Predict a class for every pixel; the published script stops here, too.",
            )
        self._counts += counts
        self._frames += 1
        self._later += index > 0

    def result(self) -> dict[str, Json]:
        """{"counts": [C + 2][C + 2] (row = truth), "scored_frames": how many, "notes": what is odd, if anything}."""
        notes = [list(note) for note in (*self._clip.notes, *self._notes())]
        return {
            "counts": self._counts.tolist(),
            "scored_frames": self._frames,
            **({"notes": notes} if notes else {}),
        }

    def _notes(self) -> Iterator[tuple[str, str]]:
        if not self._later:
            yield UNFOLLOWED, ""
        beyond = int(self._counts[:, NUM_CLASSES:].sum())
        if beyond:
            yield (
                f"predicted ids above the last class, {NUM_CLASSES - 1}, count as the protocol's published script "
                "counts them",
                f"{beyond} pixels",
            )
        predicted, true = self._counts.sum(axis=0), self._counts.sum(axis=1)
        lost = [class_names()[k] for k in self._clip.first_classes if true[k] > predicted[k] == 0]
        if lost:
            yield "classes of the first label that no prediction holds score 0", some(lost)


@cache
def class_names() -> tuple[str, ...]:
    """VIP's 20 classes in the order of their ids (data_manifests/vip_classes.csv)."""
    with manifest("vip_classes.csv").open(encoding="utf-8") as file:
        return tuple(row["name"] for row in csv.DictReader(file))


def _first(clip: VipClip) -> Mask:
    annotation = clip.annotation(0)
    assert annotation is not None, "the first frame of a VipClip is labelled"
    return annotation


def _to_size(ids: Mask, size: tuple[int, int], path: Path) -> Mask:
    """A prediction at the labels' size; smaller and larger ones must have their aspect ratio, rounded to pixels."""
    (height, width), (rows, columns) = size, ids.shape
    if abs(rows * width - columns * height) >= max(width, height):
        raise DataError(
            f"{path} is {columns}x{rows}, of another aspect ratio than the labels' {width}x{height}.",
            "Bring predictions to the frames' size, undoing what cut, turned or stretched them.",
        )
    return resize_nearest(ids, size)


def _prediction(folder: Path, stem: str) -> Path | None:
    return next((path for name in (stem, f"{stem}_mask") if (path := folder / f"{name}.png").is_file()), None)


if TYPE_CHECKING:
    _: Task[VipClip, Mask, Mask | None] = VipTask()
