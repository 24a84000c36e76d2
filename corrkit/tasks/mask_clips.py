"""Clips whose annotations are id masks, one PNG for each annotated frame (DAVIS, VIP)."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from corrkit.errors import DataError
from corrkit.files.reading import is_folder, numbered_files
from corrkit.manifests.clips import ManifestClip
from corrkit.palette import VOID
from corrkit.tasks.clips import ImageClip, dangles, some
from corrkit.tasks.contract import Notes
from corrkit.tasks.faults import RESTORE, Fault
from corrkit.tasks.masks import (
    KEEP_PALETTE,
    Colour,
    Mask,
    PaletteOrder,
    colours_of,
    distinct_values,
    read_mask,
    read_mask_and_palette,
)


@dataclass(frozen=True, slots=True)
class MaskFacts:
    """What a mask file holds: size (height, width), its distinct values as stored, and their colours, if any."""

    path: Path
    size: tuple[int, int]
    values: frozenset[int]
    colours: Mapping[int, Colour]

    @property
    def ids(self) -> frozenset[int]:
        """Values that are neither background nor void."""
        return self.values - {0, VOID}


class MaskClip(ImageClip):
    """Frames, and id masks by frame stem. Frames without a mask are propagated through, not scored.

    Predictions can be scored where only the masks are there.
    """

    annotation_suffixes = (".png",)

    @cached_property
    def stems(self) -> tuple[str, ...]:
        """Frame names without suffix; of the masks where the frames are not there. Raises DataError where none is."""
        if is_folder(self.files.frames):
            return tuple(path.stem for path in self.frame_files.paths)
        if not self._masks:
            raise DataError(
                f"{self.name}: {self.files.annotation} holds no mask.",
                "Restore it, or leave the clip out with --clips.",
            )
        return tuple(self._masks)

    @cached_property
    def annotation_files(self) -> tuple[Path, ...]:
        """The mask files in frame order."""
        return tuple(self._masks.values())

    @property
    def num_annotated(self) -> int:
        """How many frames have a mask."""
        return len(self._masks)

    def is_annotated(self, index: int) -> bool:
        """Whether frame `index` has a mask."""
        return self.stems[index] in self._masks

    @abstractmethod
    def annotation(self, index: int) -> Mask | None:
        """Ids [H, W] of frame `index` with void as background, or None where it has no mask."""

    def stored(self, index: int) -> Mask | None:
        """Values [H, W] of the mask of frame `index` as the file has them, or None where it has none."""
        return read_mask(self._masks[self.stems[index]]) if self.is_annotated(index) else None

    @cached_property
    def _mask_paths(self) -> tuple[Path, ...]:
        return tuple(numbered_files(self.files.annotation, self.annotation_suffixes))

    @cached_property
    def _masks(self) -> dict[str, Path]:
        return {path.stem: path for path in self._mask_paths}

    @cached_property
    def _survey(self) -> dict[Path, MaskFacts | DataError]:
        """What every mask holds, in frame order, or why it can't be read; links to nothing left out."""
        found: dict[Path, MaskFacts | DataError] = {}
        for path in self._masks.values():
            if dangles(path):
                continue
            try:
                mask, palette = read_mask_and_palette(path)
            except DataError as error:
                found[path] = error
            else:
                values = frozenset(distinct_values(mask))
                size = (mask.shape[0], mask.shape[1])
                found[path] = MaskFacts(path, size, values, colours_of(values, palette))
        return found

    @cached_property
    def _facts(self) -> tuple[MaskFacts, ...]:
        return tuple(facts for facts in self._survey.values() if isinstance(facts, MaskFacts))

    def _placement_faults(self, expected: ManifestClip | None) -> Iterator[Fault]:
        """Two files of one frame, masks without a frame, and a first frame without a mask."""
        yield from super()._placement_faults(expected)
        yield from self._twice(self._mask_paths).faults()
        stems = self._expected_stems(expected)
        if not stems:
            return
        known = set(stems)
        orphans = [path for stem, path in self._masks.items() if stem not in known and not dangles(path)]
        remedy = f"Restore the frames in {self.files.frames}."
        yield from self._group("missing", "mask without a frame", remedy, stops=True).extend(orphans).faults()
        if stems[0] not in self._masks:
            remedy = "Start the clip at an annotated frame, or leave it out with --clips."
            first = self._group("missing", "mask missing", remedy, stops=True)
            first.add(self.files.annotation / f"{stems[0]}.png", "the first frame has none")
            yield from first.faults()

    def _annotation_faults(self, expected: ManifestClip | None) -> Iterator[Fault]:
        """Masks that can't be read, differ from the frames in size, hold wrong ids, or are missing."""
        errors = {path: found for path, found in self._survey.items() if isinstance(found, DataError)}
        if errors:
            remedy = next(iter(errors.values())).remedy
            unreadable = self._group("damaged", "mask that can't be used", remedy, stops=True)
            for path, error in errors.items():
                unreadable.add(path, error.problem.removeprefix(f"{path} ").rstrip("."))
            yield from unreadable.faults()
        yield from self._size_faults()
        if self._facts and self._facts[0].path == self.annotation_files[0]:
            yield from self._palette_faults()
            yield from self._id_faults(self._facts[0], expected)
        yield from self._missing_mask_faults(expected)

    def _size_faults(self) -> Iterator[Fault]:
        remedy = "Use masks of the frames' size."
        misfits = self._group("damaged", "mask of another size than the frames", remedy, stops=True)
        size = self._size()
        for facts in self._facts:
            if size is not None and facts.size != size:
                misfits.add(facts.path, f"{facts.size[1]}x{facts.size[0]}, the frames are {size[1]}x{size[0]}")
        yield from misfits.faults()

    def _size(self) -> tuple[int, int] | None:
        """Of the frames, else of the first mask; None where nothing can be read."""
        try:
            return self.frame_files.size
        except DataError:
            return self._facts[0].size if self._facts else None

    def _palette_faults(self) -> Iterator[Fault]:
        """Masks that give a colour to another id than the masks before."""
        differing = self._group("damaged", "mask with a re-ordered palette", KEEP_PALETTE, stops=True)
        order = PaletteOrder()
        for facts in self._facts:
            breach = order.breach(facts.colours, facts.path.name)
            if breach:
                differing.add(facts.path, breach)
        yield from differing.faults()

    @abstractmethod
    def _id_faults(self, first: MaskFacts, expected: ManifestClip | None) -> Iterator[Fault]:
        """What the ids of the masks can't be, or what they mean for the score."""

    def _missing_mask_faults(self, expected: ManifestClip | None) -> Iterator[Fault]:
        """Frames without a mask, where the clip is not one of those that have a first mask alone."""
        stems = self._expected_stems(expected)
        lacking = [stem for stem in stems[1:] if stem not in self._masks]
        if not lacking or (len(self._masks) < 2 and (expected is None or expected.num_annotations == 1)):
            return
        annotated = [index for index, stem in enumerate(stems) if stem in self._masks]
        detail = f"{len(lacking)} of {len(stems)}, first {lacking[0]}"
        group = self._group(
            "noted" if expected is None and is_regular(annotated, len(stems)) else "missing",
            "mask missing",
            RESTORE,
            consequence="frames without a mask are propagated through and not scored",
        )
        yield from group.extend([self.files.annotation / f"{stem}.png" for stem in lacking], detail).faults()


def surplus_notes(folder: Path, stems: Iterable[str]) -> Notes:
    """A note on predictions of no frame: those of a method that counts frames from 1 are shifted by one."""
    known = set(stems)
    beyond = [path.name for path in numbered_files(folder, (".png",)) if path.stem not in known]
    return [("predictions of no frame are ignored", some(beyond, 2))] if beyond else []


def is_regular(annotated: Sequence[int], num_frames: int) -> bool:
    """Whether every n-th frame from the first on is annotated, to the clip's end."""
    steps = set(np.diff(annotated).tolist())
    return len(steps) == 1 and num_frames - 1 - annotated[-1] < next(iter(steps)) and annotated[0] == 0
