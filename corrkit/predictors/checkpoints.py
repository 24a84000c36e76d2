"""Several checkpoints of one evaluation: those of a folder, in order of their steps; a bad one costs itself."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from corrkit.errors import CheckpointError, CorrkitError, UsageError
from corrkit.predictors.contract import Predictor
from corrkit.predictors.loading import Request

_SUFFIXES = frozenset({".pth", ".pt", ".ckpt", ".safetensors", ".bin", ".pyth", ".tar"})
_STEP = re.compile(r"(.*?)(\d+)(\D*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a checkpoint stands in a training run. series: equal for all of one run. step: the number in its name."""

    series: str
    step: int


def place_of(spec: str | Path) -> Place | None:
    """From the last number in a file's or folder's own name, as in checkpoint-0400.pth; None where there is none."""
    path = Path(spec)
    found = _STEP.fullmatch(path.stem if path.suffix in _SUFFIXES else path.name)
    if found is None or not path.exists():
        return None
    return Place(series=f"{path.parent}/{found[1]}#{found[3]}{path.suffix}", step=int(found[2]))


def each_checkpoint(specs: Sequence[str]) -> list[str]:
    """The specs, each once; a folder of training checkpoints becomes its files, and those of one run follow its steps.

    A folder is one of training checkpoints where several of its files or folders are named alike but for a number.
    """
    found = list(dict.fromkeys(one for spec in specs for one in _of_folder(spec)))
    first = {place.series: number for number, spec in reversed([*enumerate(found)]) if (place := place_of(spec))}

    def order(numbered: tuple[int, str]) -> tuple[int, int]:
        place = place_of(numbered[1])
        return (first[place.series], place.step) if place else (numbered[0], 0)

    return [spec for _, spec in sorted(enumerate(found), key=order)]


def _of_folder(spec: str) -> list[str]:
    """The numbered checkpoints in a folder; the spec itself where it is anything else."""
    folder = Path(spec)
    if not folder.is_dir() or (folder / "config.json").exists():
        return [spec]
    series: dict[str, list[str]] = {}
    for entry in folder.iterdir():
        place = place_of(entry)
        is_checkpoint = entry.suffix in _SUFFIXES or (entry.is_dir() and (entry / "config.json").exists())
        if place is not None and is_checkpoint:
            series.setdefault(place.series, []).append(str(entry))
    return sorted(one for several in series.values() if len(several) > 1 for one in several) or [spec]


def open_each(request: Request) -> tuple[Request, list[Predictor], dict[str, CorrkitError]]:
    """Opens all checkpoints of a request.

    Returns:
        The request without those that can't be opened, the predictors of the others, and why each of them can't. A
        single one raises.

    Raises:
        CheckpointError: none can be opened, each told with its reason.
    """
    alone = [replace(request, spec=spec, further=()) for spec in (request.spec, *request.further)]
    if len(alone) == 1:
        return request, request.predictors(), {}
    predictors: list[Predictor] = []
    known: dict[tuple[str, str | None, str | None], str] = {}
    failed: dict[str, CorrkitError] = {}
    for one in alone:
        try:
            made = one.predictors()
        except UsageError:  # about the options, not about the file
            raise
        except CorrkitError as error:
            failed[str(one.spec)] = error
            continue
        for predictor in made:
            key = predictor.name, predictor.digest, predictor.report.layer
            if predictor.digest is not None and known.setdefault(key, str(one.spec)) != str(one.spec):
                failed[str(one.spec)] = CheckpointError(
                    f"{one.spec} holds the same weights under the same name as {known[key]}.", "Leave one of them out."
                )
        if str(one.spec) not in failed:
            predictors += made
    good = [one.spec for one in alone if str(one.spec) not in failed]
    if not good:
        told = " ".join(error.problem for error in failed.values())
        raise CheckpointError(f"None of {len(alone)} checkpoints can be evaluated. {told}", "Correct --ckpt.")
    return replace(request, spec=good[0], further=tuple(good[1:])), predictors, failed
