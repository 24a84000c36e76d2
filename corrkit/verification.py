"""Published numbers reproduced: a public checkpoint evaluated as its numbers were, and what was found attested."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from corrkit.datasets.download import Progress as DownloadProgress
from corrkit.datasets.download import download
from corrkit.datasets.sources import SourceFile
from corrkit.errors import CheckpointError, DataError, UsageError
from corrkit.evaluation import Result, evaluate_together
from corrkit.files.atomic import write_atomic
from corrkit.files.jsontext import to_json
from corrkit.manifests.published import PublicCheckpoint, PublishedNumber, published_numbers
from corrkit.passes import Progress
from corrkit.predictors.contract import Predictor
from corrkit.predictors.loading import make_predictor
from corrkit.runs.attestations import Attestation, AttestedNumber, Identified
from corrkit.runs.published import Beside, comparable
from corrkit.subject import Subject, open_subject

SCHEMES = ("https",)
"""Weights come over an encrypted connection or not at all."""

_SHA256_DIGITS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One evaluation that numbers of a checkpoint rest on. changes: overrides of the protocol."""

    task: str
    protocol: str
    changes: Mapping[str, str]
    numbers: tuple[PublishedNumber, ...]

    @property
    def folder(self) -> str:
        """A name of its own for its run folder."""
        return "-".join([self.task, self.protocol, *(f"{name}={value}" for name, value in self.changes.items())])


def cases_of(checkpoint: PublicCheckpoint) -> list[Case]:
    """The evaluations that a checkpoint's numbers need: one for each task, protocol and overrides."""
    found: dict[tuple[str, str, str], list[PublishedNumber]] = {}
    for number in published_numbers():
        if number.checkpoint == checkpoint.name and number.protocol and not number.other_data:
            found.setdefault((number.task, number.protocol, number.overrides), []).append(number)
    return [
        Case(task=task, protocol=protocol, changes=numbers[0].changes, numbers=tuple(numbers))
        for (task, protocol, _), numbers in found.items()
    ]


def fetch(
    checkpoint: PublicCheckpoint, folder: Path, progress: DownloadProgress = lambda name, done, total: None
) -> Path:
    """Downloads a checkpoint from its authors' address, resumed and checked as `download` does.

    Raises:
        UsageError: no address is known, or one that isn't https.
        DataError: as `download`.
    """
    if not checkpoint.url:
        raise UsageError(
            f"No address is known from which {checkpoint.name} could be downloaded.",
            f"Get the file from {checkpoint.page} and name it with --ckpt.",
        )
    if urlsplit(checkpoint.url).scheme not in SCHEMES:
        raise UsageError(f"{checkpoint.url} is not https.", "Get the file yourself and name it with --ckpt.")
    whole = checkpoint.sha256 if len(checkpoint.sha256) == _SHA256_DIGITS else None
    file = SourceFile(url=checkpoint.url, source=checkpoint.source, size=checkpoint.size, sha256=whole)
    return download(file, folder, progress)


def verify(
    checkpoint: PublicCheckpoint,
    path: Path,
    data: Mapping[str, Path],
    out: Path,
    *,
    fetched: bool = False,
    device: str = "auto",
    by: str = "",
    progress: Progress | None = None,
) -> Attestation:
    """Evaluates a file under every protocol for which the checkpoint's numbers are published, and compares.

    Args:
        checkpoint: what the file is said to be.
        path: the file.
        data: task to data root; numbers of other tasks are left out.
        out: folder of the runs, which are resumed, and of attestation.json.
        fetched: whether the file came from the checkpoint's own address.
        device: as for `corrkit.evaluate`.
        by: who attests it.
        progress: called after every frame.

    Raises:
        CheckpointError: the file doesn't load, or its digest is another than the published one's.
        DataError: data that aren't the benchmark's own, or a clip that can't be evaluated.
        UsageError: no number is published for these tasks.
    """
    cases = [case for case in cases_of(checkpoint) if case.task in data]
    if not cases:
        tasks = ", ".join(dict.fromkeys(case.task for case in cases_of(checkpoint))) or "any task"
        raise UsageError(f"There are no data of {tasks} to verify {checkpoint.name} on.", "Name them with --data.")
    subjects = [_official(case, data[case.task]) for case in cases]
    predictor = make_predictor(path, device=device)
    identified = _identified(checkpoint, predictor, path, fetched=fetched)
    results = [
        _evaluated(predictor, subject, out / case.folder, progress)
        for case, subject in zip(cases, subjects, strict=True)
    ]
    first = results[0].summary
    attestation: Attestation = {
        "checkpoint": checkpoint.name,
        "digest": predictor.digest or "",
        "identified": identified,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "by": by,
        "device": first["device"],
        "precision": first["precision"],
        "versions": first["versions"],
        "numbers": [
            _attested(beside, result)
            for result in results
            for beside in comparable(result.summary)
            if beside.number.checkpoint == checkpoint.name
        ],
    }
    write_atomic(out / "attestation.json", to_json(attestation))
    return attestation


def _official(case: Case, root: Path) -> Subject:
    """The case's data, opened. Raises DataError where published numbers are not of them."""
    subject = open_subject(case.task, data=root, protocol=case.protocol, overrides=case.changes)
    if subject.dataset.origin != "official":
        raise DataError(
            f"{root} is not {case.numbers[0].dataset} {subject.dataset.split}, which the published numbers are of.",
            f"`corrkit data check {case.task} --data {root}` says what differs.",
        )
    return subject


def _identified(checkpoint: PublicCheckpoint, predictor: Predictor, path: Path, *, fetched: bool) -> Identified:
    if checkpoint.is_identified_by(predictor.digest):
        return "digest"
    if checkpoint.sha256:
        raise CheckpointError(
            f"{path} has sha256 {predictor.digest}, that of {checkpoint.name} begins with {checkpoint.sha256}.",
            f"Get the file from {checkpoint.url or checkpoint.page}.",
        )
    return "fetched" if fetched else "by hand"


def _evaluated(predictor: Predictor, subject: Subject, out: Path, progress: Progress | None) -> Result:
    (result,) = evaluate_together(subject, [(predictor, subject.protocol)], outs=[out], progress=progress)
    for clip, error in result.failures.items():
        raise DataError(f"{clip} can't be evaluated, so that no number can be compared: {error.problem}", error.remedy)
    return result


def _attested(beside: Beside, result: Result) -> AttestedNumber:
    number, summary = beside.number, result.summary
    return {
        "task": number.task,
        "protocol": summary["protocol"],
        "overrides": dict(summary["modified"]),
        "metric": number.metric,
        "published": number.per_cent,
        "value": beside.value,
        "tolerance": number.tolerance or 0.0,
        "within": beside.is_within,
        "source": number.source,
        "data": f"{summary['data']['name']} {summary['data']['split']}",
        "data_identity": summary["data"]["identity"],
    }
