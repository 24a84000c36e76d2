"""A predictor's way through the clips: where its run goes, what must be equal to resume it, what is finished."""

import hashlib
import platform
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from corrkit import __version__
from corrkit.errors import CorrkitError, RunError
from corrkit.predictors.contract import Predictor
from corrkit.protocols import Protocol
from corrkit.runs.agreement import usable_record
from corrkit.runs.folder import Run, default_folder, kept_predictions
from corrkit.runs.records import ClipRecord
from corrkit.subject import Subject
from corrkit.tasks.sources import takes_embedded


@dataclass(slots=True)
class Lane:
    """One predictor's way through the clips under one protocol: what is finished, and what failed."""

    predictor: Predictor
    protocol: Protocol
    run: Run | None
    records: dict[str, ClipRecord] = field(default_factory=dict)
    failures: dict[str, CorrkitError] = field(default_factory=dict)

    def keep(self, record: ClipRecord, stage: Path | None) -> None:
        """Takes a clip's record, and into the run, where there is one: predictions first, then what claims them."""
        run = self.run
        if stage is not None:
            assert run is not None, "predictions are saved in a run"
            record = replace(record, predictions=run.keep_predictions(stage))
        elif run is not None and record.clip in run.finished:
            record = replace(record, predictions=ClipRecord.of(run.finished[record.clip]).predictions)
        if run is not None:
            run.write_clip(record.clip, record.plain())
        self.records[record.clip] = record
        self.failures.pop(record.clip, None)

    def take_over(self, save_predictions: bool | None) -> None:
        """Takes the records that its run holds by now, whoever wrote them.

        Args:
            save_predictions: True takes only those with all their predictions; None leaves those whose predictions are
                damaged, and takes those without any; False looks at none.
        """
        if self.run is None:
            return
        self.run.reread()
        for name, plain in self.run.finished.items():
            if name in self.records:
                continue
            try:
                record = usable_record(name, plain, self.protocol)
            except ValueError as error:
                self.run.note(f"{self.run.folder} has a record of {name} that can't be taken: {error}.", name)
                continue
            kept = "" if save_predictions is False else kept_predictions(self.run.predictions, record.predictions)
            if kept == "damaged" and not save_predictions:
                self.run.note(f"{self.run.predictions} holds other predictions of {name} than were saved.", name)
            elif kept == "whole" or not save_predictions:
                self.records[name] = record

    def put_in_order(self, clips: Iterable[str]) -> None:
        """Sums over clips depend on their order in the last bit: that of the data set, whoever was done first."""
        names = list(clips)
        self.records = {name: self.records[name] for name in names if name in self.records}
        self.failures = {name: self.failures[name] for name in names if name in self.failures}


def run_folder(predictor: Predictor, constants: Protocol, *, data: str | Path | None = None, **chosen: object) -> Path:
    """Where a run goes by default: another place for other settings, so that they don't meet in one folder.

    Args:
        predictor: gives name and digest.
        constants: the protocol; its overrides count by their values, however they were spelled.
        data: the data root, if one was named.
        **chosen: what else was asked of the data (clips, split, dataset_name); None counts as not asked for.
    """
    protocol = "-".join(part for part in (constants.name, constants.digest) if part)
    folder = default_folder(predictor.name, predictor.digest or "unknown", constants.task, protocol)
    parts = [folder.name]
    if takes_embedded(constants.task, data):
        parts.append("embedded")
    if predictor.precision != "float32":
        chosen = {**chosen, "precision": predictor.precision}
    asked = {name: value for name, value in sorted(chosen.items()) if value is not None}
    if asked or constants.overrides:
        settings = repr((asked, dict(constants.overrides)))
        parts.append(hashlib.sha256(settings.encode()).hexdigest()[:8])
    return folder.with_name("-".join(parts))


def open_run(folder: Path, predictor: Predictor, protocol: Protocol, subject: Subject) -> Run:
    """Creates or resumes the run. Raises RunError for another run's folder."""
    if predictor.digest is None and (folder / "run.json").exists():
        raise RunError(
            f"The run in {folder} can't be resumed: nothing tells whether {predictor.name} is the backbone it had.",
            "Give another folder, or give the backbone a `digest`.",
        )
    return Run.open(folder, _fingerprint(predictor, protocol, subject), _circumstances(predictor, subject))


def _fingerprint(predictor: Predictor, protocol: Protocol, subject: Subject) -> dict[str, object]:
    """What must be equal for a run to be resumed: not the name of the folder that the data lie in, and what it says."""
    named = ("name", "author_split")
    compared = {key: value for key, value in subject.data.plain().items() if key not in named}
    return {
        "task": protocol.task,
        "checkpoint": predictor.digest,
        "layer": predictor.report.layer,
        "protocol": protocol.identifier,
        "overrides": dict(protocol.overrides),
        "data": {**compared, "dataset_name": subject.dataset_name},
        "precision": predictor.precision,
        "device": predictor.device_type,
        **versions(),
    }


def versions() -> dict[str, str]:
    """Of what numbers depend on."""
    import torch

    return {"corrkit": __version__, "torch": torch.__version__}


def _program() -> str:
    """This process's, as it can be called again: torchrun starts `python -m corrkit`."""
    path = Path(sys.argv[0])
    return path.parent.name if path.name == "__main__.py" else path.name


def _circumstances(predictor: Predictor, subject: Subject) -> dict[str, object]:
    """What is recorded but may differ when a run is resumed; "model" and "data" say where a report finds them."""
    import torch

    from corrkit.propagation.probe import products_are_bit_equal

    return {
        "command": shlex.join([_program(), *sys.argv[1:]]),
        "model": None if predictor.origin is None else dict(predictor.origin),
        "data": str(subject.dataset.root),
        "host": platform.node(),
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "products_bit_equal": products_are_bit_equal(),
    }
