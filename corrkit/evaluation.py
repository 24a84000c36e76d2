"""The one pipeline that joins the rooms: data, predictor and protocol in; predictions, scores and a run folder out."""

import functools
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from corrkit.backbones.contract import Backbone
from corrkit.backbones.loading import Loading
from corrkit.errors import CorrkitError, UsageError
from corrkit.files.jsontext import Json
from corrkit.inference import exact_inference, standard_defaults
from corrkit.lanes import Lane, finished_clips, kept, open_run, versions
from corrkit.predictors.contract import Predictor
from corrkit.predictors.loading import make_predictor
from corrkit.protocols import Protocol
from corrkit.runs.folder import Run
from corrkit.runs.records import ClipRecord
from corrkit.runs.results import CheckpointFacts, Summary, build_summary
from corrkit.subject import Subject, open_subject
from corrkit.tasks.contract import ClipT, Label, Notes, Task, Truth
from corrkit.tasks.roots import require_outside_data
from corrkit.tasks.thinned import thinned

if TYPE_CHECKING:
    import pandas
    import torch

    from corrkit.backbones.layers import SharedLayer

Progress = Callable[[str, int, int], None]
"""Called after every frame with the clip's name, frames done, and frames of the clip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What an evaluation gives: `summary` is the one results format; `failures` maps a clip to why it has no score.

    notes: what was ignored or odd about data and checkpoint. csvs: the task's official files, name to text.
    """

    summary: Summary
    failures: Mapping[str, CorrkitError] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    csvs: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def table(self) -> "pandas.DataFrame":
        """One row per metric with `value`, `low` and `high` (95 % interval), fractions between 0 and 1."""
        import pandas

        intervals = self.summary["intervals"]
        rows = [
            (name, value, *(intervals.get(name) or (None, None))) for name, value in self.summary["metrics"].items()
        ]
        return pandas.DataFrame(rows, columns=["metric", "value", "low", "high"]).set_index("metric")


def evaluate(
    task: str,
    model: "str | Path | Backbone | torch.nn.Module | Predictor",
    *,
    data: str | Path | None = None,
    protocol: str | Protocol | None = None,
    out: str | Path | None = None,
    split: str | None = None,
    clips: Sequence[str] | None = None,
    dataset_name: str | None = None,
    device: str = "auto",
    save_predictions: bool = False,
    heads: int | None = None,
    layer: int | str | None = None,
    key: str | None = None,
    window: int | None = None,
    system: str | None = None,
    layout: str | Path | None = None,
    name: str | None = None,
    seed_of: str | None = None,
    progress: Progress | None = None,
    **overrides: Json,
) -> Result:
    """Evaluates a checkpoint or a live backbone on one task.

    Args:
        task: "davis", "vip" or "jhmdb".
        model: a spec (path, "demo", "rgb", "hog", "identity", "oracle", "random:NAME", ...), a backbone, or a module
            that `corrkit.wrap` understands; also a predictor made by `make_predictor`.
        data: the data root; None takes $CORRKIT_DATA/<task>, else the embedded clips.
        protocol: name or constants; None takes the task's default.
        out: run folder, created or resumed; None writes nothing.
        split: None takes the task's default split.
        clips: names of the clips to evaluate; None takes all. A subset marks the result partial.
        dataset_name: name of a data set of one's own in the task's layout.
        device: "auto" (CUDA where there is one, else CPU), "cpu", "cuda", "cuda:1", "mps".
        save_predictions: also write predictions into the run folder.
        heads: attention heads of a checkpoint that can't tell.
        layer: layer of a checkpoint; None takes the system's default.
        key: branch of a checkpoint that holds several networks.
        window: frames that a video network sees at a time; None: each frame on its own.
        system: name of a checkpoint's system, where the file fits several.
        layout: path of a layout file (TOML), for a checkpoint in names that corrkit doesn't know.
        name: in tables and for the leaderboard; None takes it from the model.
        seed_of: name of the method of which the model is one training seed; the leaderboard groups seeds by it.
        progress: called after every frame.
        **overrides: protocol constants by leaf name; any marks the result as modified.

    Returns:
        Summary and table. Clips that can't be evaluated are in `failures`, and the summary is marked partial.

    Raises:
        CorrkitError: for anything that concerns the whole evaluation (data root, checkpoint, protocol, run folder).
    """
    subject = open_subject(
        task, data=data, protocol=protocol, overrides=overrides, split=split, clips=clips, dataset_name=dataset_name
    )
    loading = Loading(heads=heads, layer=layer, key=key, window=window, system=system, layout=layout)
    with standard_defaults():
        predictor = make_predictor(model, device=device, loading=loading)
    predictor.declare(name, seed_of)
    (result,) = evaluate_together(
        subject,
        [(predictor, subject.protocol)],
        outs=[out],
        save_predictions=save_predictions,
        progress=progress,
    )
    return result


def evaluate_together(
    subject: Subject,
    lanes: Sequence[tuple[Predictor, Protocol]],
    *,
    outs: Sequence[str | Path | None],
    save_predictions: bool = False,
    progress: Progress | None = None,
) -> list[Result]:
    """Evaluates several predictors in lockstep, frame by frame, so that layers of one network share its passes.

    Args:
        subject: what is evaluated on.
        lanes: predictors, each with the protocol that it works and is scored by.
        outs: a run folder or None for each lane.
        save_predictions: as for `evaluate`.
        progress: as for `evaluate`.

    Raises:
        CorrkitError: as `evaluate`.
    """
    for out in outs:
        if out is not None:
            require_outside_data(out, subject.dataset.root)
    if save_predictions and None in outs:
        raise UsageError("Predictions are saved in the run folder, but none was named.", "Give out= as well.")
    for predictor, protocol in lanes:
        predictor.require(protocol)
    _require_one_input(lanes)
    opened = [
        Lane(predictor, protocol, None if out is None else open_run(Path(out), predictor, protocol, subject))
        for (predictor, protocol), out in zip(lanes, outs, strict=True)
    ]
    _evaluate_clips(opened, subject, save_predictions=save_predictions, progress=progress)
    return [_finish(lane, subject) for lane in opened]


def _require_one_input(lanes: Sequence[tuple[Predictor, Protocol]]) -> None:
    """Raises UsageError where layers share a pass of their network and their protocols may show it other frames."""
    passes: dict[int, Protocol] = {}
    for predictor, protocol in lanes:
        layer = predictor.shared
        if layer is not None and passes.setdefault(id(layer.shared), protocol) != protocol:
            raise UsageError(
                f"{predictor.name} shares the pass of other layers, which are evaluated under another protocol.",
                "Evaluate layers that were loaded together under one protocol at a time.",
            )


def _evaluate_clips(
    lanes: Sequence[Lane], subject: Subject, *, save_predictions: bool, progress: Progress | None
) -> None:
    """Fills the lanes, in the order of clips. A clip that any lane lacks is evaluated for all of them."""
    pairs = [(lane.predictor, lane.protocol) for lane in lanes]
    finished = [finished_clips(lane.run, save_predictions) if lane.run is not None else {} for lane in lanes]
    with exact_inference():
        for clip in subject.clips:
            if all(clip.name in done for done in finished):
                for lane, done in zip(lanes, finished, strict=True):
                    lane.records[clip.name] = done[clip.name]
                continue
            with ExitStack() as stack:
                stages = [
                    stack.enter_context(lane.run.staging()) if lane.run is not None and save_predictions else None
                    for lane in lanes
                ]
                try:
                    records = evaluate_clip(pairs, clip, subject.task, predictions=stages, progress=progress)
                except CorrkitError as error:
                    for lane in lanes:
                        lane.failures[clip.name] = error
                    continue
                for lane, record, stage in zip(lanes, records, stages, strict=True):
                    lane.records[clip.name] = record if lane.run is None else kept(lane.run, record, stage)


def _finish(lane: Lane, subject: Subject) -> Result:
    """Aggregates a lane's records, and closes its run."""
    statistics = {name: record.statistics for name, record in lane.records.items()}
    scores = subject.task.scores(statistics, lane.protocol, split=subject.dataset.split)
    predictor, run = lane.predictor, lane.run
    summary = build_summary(
        scores,
        lane.protocol,
        checkpoint=_checkpoint(predictor),
        data=subject.data,
        precision="float32",
        device=predictor.device_type,
        layer=predictor.report.layer,
        stride=predictor.stride,
        parameters=predictor.report.parameters,
        versions=versions(),
        missing=subject.missing(lane.records),
    )
    if run is not None:
        run.finish(summary, scores.csvs)
    return Result(
        summary=summary,
        failures=lane.failures,
        notes=(*subject.dataset.notes, *predictor.report.notes, *scores.notes, *(() if run is None else _notes(run))),
        csvs=scores.csvs,
        folder=None if run is None else run.folder,
    )


def _notes(run: Run) -> tuple[str, ...]:
    return (*([run.resumed] if run.resumed else []), *run.notes)


def evaluate_clip(
    lanes: Sequence[tuple[Predictor, Protocol]],
    clip: ClipT,
    task: Task[ClipT, Label, Truth],
    *,
    truth: Callable[[int], Truth] | None = None,
    predictions: Sequence[Path | None] | None = None,
    progress: Progress | None = None,
    every: int = 1,
) -> list[ClipRecord]:
    """One pass over a clip: predict, score and save frame by frame; a record for each lane.

    Args:
        lanes: predictors, each with its protocol.
        clip: of the task's data.
        task: of all the protocols.
        truth: `Task.truth` of the clip under the protocol of all lanes, where the caller keeps it.
        predictions: the folder for each lane's predictions, or None.
        progress: called after every frame.
        every: takes the frames 0, every, 2 * every, ... only.
    """
    started = time.perf_counter()
    clip.check()
    num_frames = -(-len(clip.frames) // every)
    prepared = _prepared(lanes, clip, task, truth)
    scorers = [task.scorer(seen, protocol, true) for (_, protocol), (seen, true) in zip(lanes, prepared, strict=True)]
    folders = predictions or [None] * len(lanes)
    notes: list[list[tuple[str, str]]] = [[] for _ in lanes]
    with ExitStack() as stack:
        for layers in _passes(lanes):
            stack.enter_context(layers[0].shared.lockstep(layers))
        streams = []
        for (predictor, protocol), (seen, _) in zip(lanes, prepared, strict=True):
            stream = predictor.predict(thinned(seen, every), task, protocol)
            streams.append(stack.enter_context(closing(stream)))
        heard = [noting(stream, found) for stream, found in zip(streams, notes, strict=True)]
        for index, predicted in enumerate(zip(*heard, strict=True)):
            for scorer, folder, prediction in zip(scorers, folders, predicted, strict=True):
                if prediction is not None:
                    scorer.update(index * every, prediction)
                    if folder is not None:
                        task.write_prediction(folder, clip, index * every, prediction)
            if progress is not None:
                progress(clip.name, index + 1, num_frames)
    seconds = time.perf_counter() - started
    return [
        ClipRecord(clip=clip.name, frames=num_frames, statistics=with_notes(scorer.result(), found), seconds=seconds)
        for scorer, found in zip(scorers, notes, strict=True)
    ]


def noting(
    stream: Generator[Label | None, None, Notes], notes: list[tuple[str, str]]
) -> Generator[Label | None, None, None]:
    """The predictions; at their end `notes` takes what is odd about them."""
    notes.extend((yield from stream))


def with_notes(statistics: dict[str, Json], notes: Notes) -> dict[str, Json]:
    """A scorer's result with what its predictor noted behind its own notes."""
    return {**statistics, "notes": [*statistics.get("notes", ()), *map(list, notes)]} if notes else statistics


def _passes(lanes: Sequence[tuple[Predictor, Protocol]]) -> "list[list[SharedLayer]]":
    """The layers among the lanes, by the pass of the network that they share."""
    found: dict[int, list[SharedLayer]] = {}
    for predictor, _ in lanes:
        if predictor.shared is not None:
            found.setdefault(id(predictor.shared.shared), []).append(predictor.shared)
    return list(found.values())


def _prepared(
    lanes: Sequence[tuple[Predictor, Protocol]],
    clip: ClipT,
    task: Task[ClipT, Label, Truth],
    truth: Callable[[int], Truth] | None,
) -> list[tuple[ClipT, Callable[[int], Truth]]]:
    """The clip as each lane's protocol sees it, with its `Task.truth`; lanes under one protocol share them.

    Truth that isn't kept by the caller is kept for the latest frame.
    """
    made: list[tuple[Protocol, ClipT, Callable[[int], Truth]]] = []
    found: list[tuple[ClipT, Callable[[int], Truth]]] = []
    for _, protocol in lanes:
        known = next((entry for entry in made if entry[0] == protocol), None)
        if known is None:
            seen = task.resaved(clip, protocol)
            known = protocol, seen, truth or functools.lru_cache(maxsize=1)(task.truth(seen, protocol))
            made.append(known)
        found.append(known[1:])
    return found


def _checkpoint(predictor: Predictor) -> CheckpointFacts:
    report = predictor.report
    return CheckpointFacts(
        spec=predictor.name,
        digest=predictor.digest,
        system=report.system,
        architecture=report.architecture,
        mode=predictor.mode.kind,
        sees_future=predictor.mode.sees_future,
        pretraining=report.pretraining,
        seed_of=predictor.seed_of,
    )
