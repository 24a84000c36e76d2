"""Finished runs opened for a report: their protocol, their data as they were evaluated, their network."""

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from corrkit.backbones.loading import NO_OPTIONS, Loading
from corrkit.errors import CorrkitError, RunError
from corrkit.files.jsontext import Json
from corrkit.predictors.contract import Predictor
from corrkit.predictors.loading import make_predictor
from corrkit.predictors.propagator import Propagator
from corrkit.protocols import Protocol
from corrkit.report.stories import Reader
from corrkit.runs.comparable import StoredRun, protocol_of
from corrkit.runs.folder import run_document
from corrkit.runs.shapes import mismatches
from corrkit.subject import Subject, open_subject
from corrkit.tasks import load_task
from corrkit.tasks.sources import EMBEDDED

FOREIGN = ("py:", "hf:")
"""Specs that run code or reach the network."""


@dataclass(frozen=True, kw_only=True)
class OpenedRun:
    """A finished run with what its report needs.

    recorded: what run.json holds beside the fingerprint. fingerprint: of the run. subject: its data, opened again; None
    where they aren't to be had or are others now, and `lacking` says why. trusted: whether the network may be code, or
    come from a hub: what a folder of somebody else names must start neither.
    """

    run: StoredRun
    protocol: Protocol
    recorded: Mapping[str, Json]
    fingerprint: Mapping[str, Json]
    subject: Subject | None
    lacking: str = ""
    trusted: bool = False

    @functools.cached_property
    def reader(self) -> Reader:
        """Its clips; none where the data aren't to be had."""
        task = load_task(self.run.task)
        clips = () if self.subject is None else self.subject.clips
        seen = {clip.name: task.resaved(clip, self.protocol) for clip in clips}
        return Reader(run=self.run, task=task, protocol=self.protocol, clips=seen)

    def network(self) -> Propagator:
        """The network that was evaluated, loaded again. Raises CorrkitError where it can't be, or is another now."""
        name = self.run.name
        spec, loading = self._origin()
        if not self.trusted and spec.startswith(FOREIGN):
            raise RunError(
                f"{spec} is code or on a hub, and isn't loaded because a run's folder says so.",
                "Add --trust where the folder is your own.",
            )
        made: Predictor = make_predictor(spec, device="auto", loading=loading)
        if not isinstance(made, Propagator):
            raise RunError(f"{name} has no features.", "Nothing needs to be done.")
        if made.digest != self.run.summary["checkpoint"]["digest"]:
            raise RunError(f"{spec} is no longer what was evaluated.", "Evaluate it again.")
        return made

    def _origin(self) -> tuple[str, Loading]:
        """What the run records of how its network was loaded. Raises RunError where that is nothing, or damaged."""
        recorded = self.recorded.get("model")
        if isinstance(recorded, dict):
            options = {name: value for name, value in recorded.items() if name != "spec"}
            spec = recorded.get("spec")
            if isinstance(spec, str) and not any(mismatches({**asdict(NO_OPTIONS), **options}, Loading, "model")):
                return spec, Loading(**options)
        raise RunError(
            f"{self.run.folder} doesn't say how {self.run.name} can be loaded again.",
            "Evaluate it from a spec to see more.",
        )


def open_run(run: StoredRun, data: str | Path | None, *, trusted: bool = False) -> OpenedRun:
    """Opens a run's data again, and makes sure that they are those of the run.

    Args:
        run: a finished run.
        data: the data root; None takes the one that the run recorded, else what an evaluation would take now.
        trusted: see `OpenedRun`.

    Raises:
        RunError: its protocol isn't known in this version.
    """
    protocol = protocol_of(run)
    if protocol is None:
        raise RunError(
            f"{run.folder} was made under {run.summary['protocol']}, which this version of corrkit lacks.",
            "Evaluate again.",
        )
    document = run_document(run.folder)
    recorded, fingerprint = (_table(document.get(name)) for name in ("recorded", "fingerprint"))
    subject, lacking = None, ""
    try:
        subject = _subject(run, protocol, fingerprint, _root(run, recorded) if data is None else data)
    except CorrkitError as error:
        lacking = error.problem
    return OpenedRun(
        run=run,
        protocol=protocol,
        recorded=recorded,
        fingerprint=fingerprint,
        subject=subject,
        lacking=lacking,
        trusted=trusted,
    )


def _subject(run: StoredRun, protocol: Protocol, fingerprint: Mapping[str, Json], data: str | Path | None) -> Subject:
    """Raises DataError or RunError where the data aren't those of the run."""
    summary = run.summary["data"]
    told = _table(fingerprint.get("data")).get("dataset_name")
    named = None if told is None else str(told)

    def opened(clips: list[str] | None) -> Subject:
        return open_subject(
            run.task, data=data, protocol=protocol, split=summary["split"] or None, clips=clips, dataset_name=named
        )

    everything = opened(None)
    if everything.data.identity == summary["identity"]:
        return everything
    known = {clip.name for clip in everything.clips}
    if set(run.records) <= known:
        chosen = opened(list(run.records))
        if chosen.data.identity == summary["identity"]:
            return chosen
    raise RunError(
        f"The data in {everything.dataset.root} are not those that {run.folder} was evaluated on.",
        "Name the right ones with --data.",
    )


def _root(run: StoredRun, recorded: Mapping[str, Json]) -> str | Path | None:
    """Where the run's data were: the folder that it recorded, or the archive that holds it; the embedded clips."""
    if run.origin == "embedded":
        return EMBEDDED
    root = recorded.get("data")
    if not isinstance(root, str):
        return None
    return next((archive for archive in Path(root).parents if archive.is_file()), Path(root))


def _table(value: Json) -> Mapping[str, Json]:
    """A table of run.json; an empty one where something else stands there."""
    return value if isinstance(value, Mapping) else {}
