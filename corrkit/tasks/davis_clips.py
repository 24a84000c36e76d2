"""One clip in DAVIS layout: which objects its masks hold, and what ids can't be or mean for the score."""

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from corrkit.errors import DataError
from corrkit.files.reading import numbered_files
from corrkit.frames.pictures import SUFFIXES
from corrkit.frames.resaved import ResavedFrames
from corrkit.frames.sequence import FrameSequence
from corrkit.manifests.clips import ManifestClip
from corrkit.metrics.davis import LeftOut, scored_frames
from corrkit.palette import VOID
from corrkit.protocols.schema import DavisScore
from corrkit.tasks.clips import some
from corrkit.tasks.faults import RESTORE, Fault
from corrkit.tasks.mask_clips import MaskClip, MaskFacts
from corrkit.tasks.masks import Mask, distinct_values, read_mask, resize_nearest

_BINARY = frozenset({0, VOID})
_MOST_GAPS = 20
"""Grey levels, soft edges and 0/128 leave out more ids than that; the first colour of DAVIS's palette is 38 in grey."""
_MOST_OBJECTS = 100
"""More distinct values in one clip are noise or soft edges, not objects."""

_LATER, _NOT_SCORED = "ids that come later", "objects that the first mask lacks count as background, and are not scored"
_GAPS, _COUNTED = "ids with gaps", "each missing id counts as an object, as in the official tool"
_SAVE_IDS = "Save masks as palette or grey PNG of the ids 0, 1, 2, ..."
_GIVEN, _NO_TRUTH = "masks that share no id", "they give objects where these enter, and are no ground truth to score"


class DavisClip(MaskClip):
    """One clip: frames, and masks by frame stem, of every frame, of some, or of the first alone.

    Masks hold ids, 255 being void; or, where the first holds nothing but 0 and 255, DAVIS-2016's one object as 255.
    """

    _resaved_size: tuple[int, int] | None = None

    def resaved(self, size: tuple[int, int]) -> "DavisClip":
        """The same clip as a copy of frames and masks saved at `size` gives it (`frames.stored_size`)."""
        clip = copy.copy(self)  # with what is known of the files already
        clip._resaved_size = size
        for made_of_pixels in ("frames", "first", "largest_id", "_later_entries"):
            clip.__dict__.pop(made_of_pixels, None)
        return clip

    @cached_property
    def frames(self) -> FrameSequence:
        """The frames in order. Raises DataError as `frame_files` does."""
        files = self.frame_files
        return files if self._resaved_size is None else ResavedFrames(files, self._resaved_size, self.name)

    @cached_property
    def _frame_paths(self) -> tuple[Path, ...]:
        return self._all_frame_paths[len(self._leading_frames) :]

    @cached_property
    def _all_frame_paths(self) -> tuple[Path, ...]:
        return tuple(numbered_files(self.files.frames, SUFFIXES))

    @property
    def _leading_frames(self) -> tuple[Path, ...]:
        """Frames before the first annotated one, where they are no part of the clip."""
        paths = self._all_frame_paths
        if not self.files.leads_in or not any(path.stem in self._masks for path in paths):
            return ()
        return tuple(itertools.takewhile(lambda path: path.stem not in self._masks, paths))

    def scored_frames(self, left_out: LeftOut) -> Sequence[int]:
        """Indices of the annotated frames that count; none where masks only give objects (test sets)."""
        if self._gives_objects_only:
            return []
        annotated = [index for index in range(len(self.stems)) if self.is_annotated(index)]
        return [annotated[position] for position in scored_frames(len(annotated), left_out)]

    @cached_property
    def is_binary(self) -> bool:
        """True for DAVIS-2016 masks: the first holds 255 and otherwise only 0, so 255 is the object and not void."""
        return _is_binary(self._first_values)

    @cached_property
    def num_objects(self) -> int:
        """Largest id of the first mask; an id below it that is missing counts, as in the official tool.

        Raises:
            DataError: where that mask can't be used, or is empty.

        Source: davisvideochallenge/davis2017-evaluation ac7c43f davis2017/davis.py get_all_masks.
        """
        count = _num_objects(self._first_values)
        if count == 0:
            self.check()
        return count

    @cached_property
    def largest_id(self) -> int:
        """The largest id of any mask of the clip, 0 without objects; reads every mask."""
        masks = (self.annotation(index) for index in range(len(self.stems)))
        return max(int(mask.max(initial=0)) for mask in masks if mask is not None)

    def scored_objects(self, rules: DavisScore) -> Mapping[int, int]:
        """Ids of the objects that are scored, ascending, to the index of the frame in which each is given."""
        given = dict.fromkeys(set(distinct_values(self.first)) - {0}, 0)
        if rules.entries == "appearance":
            given |= self._later_entries
        if rules.objects == "present":
            return {identity: given[identity] for identity in sorted(given)}
        largest = self.largest_id if rules.objects == "all" else max(self.num_objects, *given)
        return {identity: given.get(identity, 0) for identity in range(1, largest + 1)}

    def notes_under(self, rules: DavisScore) -> Iterator[tuple[str, str]]:
        """The `notes` that are true under these rules, and what they make of objects that come later."""
        untrue = set()
        if rules.entries == "appearance" or rules.objects == "all":
            untrue.add(f"{_LATER}: {_NOT_SCORED}")
        if rules.objects == "present" or (rules.entries == "appearance" and self._has_all_ids):
            untrue.add(f"{_GAPS}: {_COUNTED}")
        yield from (note for note in self.notes if note[0] not in untrue)
        if rules.entries == "appearance" and self._later_entries:
            shown = [f"id {identity} in {self.stems[index]}" for identity, index in self._later_entries.items()]
            yield "objects that enter later are given there, and scored after that", some(shown, 2)

    @property
    def _has_all_ids(self) -> bool:
        """Whether each id up to the largest occurs in some mask."""
        found = {*distinct_values(self.first), *self._later_entries} - {0}
        return len(found) == max(found, default=0)

    @cached_property
    def _later_entries(self) -> dict[int, int]:
        """Ids that the first mask lacks to the index of the frame whose mask holds them first; reads every mask."""
        later = entering(self.annotation, len(self.stems))
        return {identity: index for index, identities in later.items() for identity in identities}

    @property
    def _gives_objects_only(self) -> bool:
        """Whether no id occurs in two masks, of which there are several: as in the valid set of YouTube-VOS."""
        ids = [facts.ids for facts in self._facts]
        return len(ids) > 1 and all(ids) and len(frozenset[int]().union(*ids)) == sum(map(len, ids))

    @cached_property
    def first(self) -> Mask:
        """Ids of the first mask [H, W]. Raises DataError."""
        first = self.annotation(0)
        if first is None:
            self.check()
            raise DataError(f"{self.name}: the first frame has no mask in {self.files.annotation}.", RESTORE)
        return first

    def annotation(self, index: int) -> Mask | None:
        """Ids [H, W] of frame `index` with void as background, or None where it has no mask."""
        stored = self.stored(index)
        if stored is None:
            return None
        ids = _as_ids(stored, is_binary=self.is_binary)
        return resize_nearest(ids, self._resaved_size or (ids.shape[0], ids.shape[1]))

    @cached_property
    def _first_values(self) -> frozenset[int]:
        stored = self.stored(0)
        return frozenset() if stored is None else frozenset(distinct_values(stored))

    def _missing_mask_faults(self, expected: ManifestClip | None) -> Iterator[Fault]:
        """None where masks only give objects: that is said instead; and frames before the first mask."""
        before = self._group("noted", "frames before the first mask", RESTORE, consequence="they are left out")
        yield from before.extend(self._leading_frames, f"{len(self._leading_frames)} of them").faults()
        if self._gives_objects_only:
            group = self._group("noted", _GIVEN, RESTORE, consequence=_NO_TRUTH)
            yield from group.extend(self.annotation_files).faults()
        else:
            yield from super()._missing_mask_faults(expected)

    def _id_faults(self, first: MaskFacts, expected: ManifestClip | None) -> Iterator[Fault]:
        kind = list(self._kind_faults(first))
        yield from kind or self._value_faults(first, expected)

    def _kind_faults(self, first: MaskFacts) -> Iterator[Fault]:
        """Masks of another kind than the first, and values that are no ids."""
        mixed = self._group(
            "damaged", "mask of another kind than the first", "Bring all masks of a clip to one kind.", stops=True
        )
        for facts in self._facts[1:]:
            if _is_binary(first.values) and not facts.values <= _BINARY:
                mixed.add(facts.path, f"it holds {some(sorted(facts.values))}, the first mask 0 and {VOID}")
            elif VOID not in first.values and VOID in facts.values and not facts.ids:
                mixed.add(facts.path, f"it holds {VOID} and no id, the first mask {some(sorted(first.ids))}")
        yield from mixed.faults()
        ids = frozenset[int]().union(*(facts.ids for facts in self._facts))
        highest = max(ids, default=0)
        if _are_no_ids(ids):
            strange = self._group("damaged", "mask with values that are no ids", _SAVE_IDS, stops=True)
            found = f"the clip's masks hold {len(ids)} values up to {highest}: grey levels or soft edges"
            yield from strange.extend([f.path for f in self._facts if highest in f.ids][:1], found).faults()

    def _value_faults(self, first: MaskFacts, expected: ManifestClip | None) -> Iterator[Fault]:
        """A first mask without object or background, ids with gaps, and ids that come later."""
        what, remedy = "mask with wrong ids", RESTORE
        refused = self._group("damaged", what, remedy, stops=True)
        num_objects = _num_objects(first.values)
        lacking = _lacking(first.values)
        if lacking:
            refused.add(first.path, lacking)
        yield from refused.faults()
        gaps = sorted(set(range(1, num_objects)) - first.ids) if first.ids else []
        gapped = self._group(
            "damaged",
            _GAPS,
            "Number the objects 1, 2, 3, ..., or say --set objects=present.",
            consequence=_COUNTED,
        )
        if gaps:
            gapped.add(first.path, f"holds id {some(sorted(first.ids))}, but not {some(gaps)}")
        yield from gapped.faults()
        if not gaps and num_objects and expected and expected.num_objects not in {None, num_objects}:
            binary = " (0 and 255 are DAVIS-2016's masks)" if _is_binary(first.values) else ""
            other = self._group("damaged", what, remedy)
            other.add(first.path, f"holds {num_objects} objects, expected {expected.num_objects}{binary}")
            yield from other.faults()
        later = self._group("damaged" if expected else "noted", _LATER, RESTORE, consequence=_NOT_SCORED)
        for facts in self._facts[1:]:
            beyond = sorted(identity for identity in facts.ids if identity > num_objects)
            if beyond and not _is_binary(first.values):
                later.add(facts.path, f"holds id {some(beyond)}, the first mask {some(sorted(first.ids))}")
        yield from later.faults()


def entering(annotation: Callable[[int], Mask | None], num_frames: int) -> dict[int, list[int]]:
    """Index of each frame after the first whose mask holds ids that no mask before it holds, to these ids."""
    known, found = {0}, {}
    for index in range(num_frames):
        mask = annotation(index)
        new = [] if mask is None else sorted(set(distinct_values(mask)) - known)
        known.update(new)
        if new and index:
            found[index] = new
    return found


def read_first_mask(path: Path) -> Mask:
    """Ids [H, W] of a first mask that lies in no data set, by the rules of a clip's: 255 is void, or the one object.

    Raises:
        DataError: as a clip's first mask does: no object, no background, values that are no ids, a lossy format.
    """
    stored = read_mask(path)
    values = frozenset(distinct_values(stored))
    ids = values - {0, VOID}
    if _are_no_ids(ids):
        found = f"{path} holds {len(ids)} values up to {max(ids)}: grey levels or soft edges, no ids."
        raise DataError(found, _SAVE_IDS)
    lacking = _lacking(values)
    if lacking:
        raise DataError(f"{path} can't be used: {lacking}.", _SAVE_IDS)
    return _as_ids(stored, is_binary=_is_binary(values))


def _as_ids(stored: Mask, *, is_binary: bool) -> Mask:
    """Ids of a stored mask, void as background; 255 is the object where masks are binary."""
    return np.asarray(stored == VOID if is_binary else np.where(stored == VOID, 0, stored), np.uint8)


def _are_no_ids(ids: frozenset[int]) -> bool:
    """Whether these values, without 0 and void, are grey levels, soft edges or noise."""
    return max(ids, default=0) - len(ids) > _MOST_GAPS or len(ids) > _MOST_OBJECTS


def _lacking(first: frozenset[int]) -> str:
    """What a first mask of these stored values lacks to be used; "" for nothing."""
    if _num_objects(first) == 0:
        return "the first mask is empty: it holds no object to propagate"
    return "" if 0 in first else "no pixel of the first mask has id 0, the background"


def _is_binary(first: frozenset[int]) -> bool:
    return VOID in first and first <= _BINARY


def _num_objects(values: frozenset[int]) -> int:
    """Objects of a first mask by its values as stored: its largest id, or one where it holds nothing but 0 and 255."""
    return max(values - {VOID}, default=0) or int(VOID in values)
