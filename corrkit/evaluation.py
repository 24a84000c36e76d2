"""The one pipeline that joins the rooms: data, predictor and protocol in; predictions, scores and a run folder out."""

import functools
import hashlib
import platform
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from corrkit import __version__
from corrkit.backbones.contract import Backbone
from corrkit.backbones.loading import Loading
from corrkit.errors import CorrkitError, RunError, UsageError
from corrkit.inference import exact_inference, standard_defaults
from corrkit.predictor_loading import make_predictor
from corrkit.predictors import Predictor
from corrkit.protocols import DEFAULTS, Protocol, load_protocol, override
from corrkit.runs.folder import Run, default_folder
from corrkit.runs.records import ClipRecord
from corrkit.runs.results import CheckpointFacts, Data, Summary, build_summary
from corrkit.tasks import load_task
from corrkit.tasks.contract import Clip, DataSet, Task, select_clips
from corrkit.tasks.identity import data_identity
from corrkit.tasks.sources import open_data, takes_embedded
from corrkit.tasks.thinned import Thinned

if TYPE_CHECKING:
    import pandas
    import torch

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
    name: str | None = None,
    seed_of: str | None = None,
    progress: Progress | None = None,
    **overrides: Any,
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
        name: in tables and for the leaderboard; None takes it from the model.
        seed_of: name of the method of which the model is one training seed; the leaderboard groups seeds by it.
        progress: called after every frame.
        **overrides: protocol constants by leaf name; any marks the result as modified.

    Returns:
        Summary and table. Clips that can't be evaluated are in `failures`, and the summary is marked partial.

    Raises:
        CorrkitError: for anything that concerns the whole evaluation (data root, checkpoint, protocol, run folder).
    """
    constants = constants_of(load_task(task), protocol, overrides)
    loading = Loading(heads=heads, layer=layer, key=key, window=window, system=system)
    with standard_defaults():
        predictor = make_predictor(model, device=device, loading=loading)
    predictor.declare(name, seed_of)
    (result,) = evaluate_together(
        task,
        [predictor],
        constants,
        outs=[out],
        data=data,
        split=split,
        clips=clips,
        dataset_name=dataset_name,
        save_predictions=save_predictions,
        progress=progress,
    )
    return result


def evaluate_together(
    task: str,
    predictors: Sequence[Predictor],
    constants: Protocol,
    *,
    outs: Sequence[str | Path | None],
    data: str | Path | None = None,
    split: str | None = None,
    clips: Sequence[str] | None = None,
    dataset_name: str | None = None,
    save_predictions: bool = False,
    progress: Progress | None = None,
) -> list[Result]:
    """Evaluates several predictors in lockstep, frame by frame, so that layers of one network share its passes.

    Args and errors as for `evaluate`; `constants` are the protocol with its overrides (`constants_of`); one run folder
    or None in `outs` for each predictor.
    """
    opened_task = load_task(task)
    dataset = open_data(opened_task, data, split, dataset_name)
    chosen = dataset.clips if clips is None else select_clips(dataset, clips)
    if save_predictions and None in outs:
        raise UsageError("Predictions are saved in the run folder, but none was named.", "Give out= as well.")
    for predictor in predictors:
        predictor.require(constants)
    scored_data = described(dataset, chosen)
    runs = [
        None if out is None else _open_run(Path(out), predictor, constants, scored_data, dataset_name)
        for predictor, out in zip(predictors, outs, strict=True)
    ]
    lanes = [Lane(predictor, run) for predictor, run in zip(predictors, runs, strict=True)]
    _evaluate_clips(lanes, chosen, opened_task, constants, save_predictions=save_predictions, progress=progress)
    return [_finish(lane, opened_task, constants, dataset, scored_data) for lane in lanes]


@dataclass(slots=True)
class Lane:
    """One predictor's way through the clips: what is finished, and what failed."""

    predictor: Predictor
    run: Run | None
    records: dict[str, ClipRecord] = field(default_factory=dict)
    failures: dict[str, CorrkitError] = field(default_factory=dict)


def _evaluate_clips(
    lanes: Sequence[Lane],
    clips: Sequence[Clip],
    task: Task,
    protocol: Protocol,
    *,
    save_predictions: bool,
    progress: Progress | None,
) -> None:
    """Fills the lanes, in the order of clips. A clip that any lane lacks is evaluated for all of them."""
    predictors = [lane.predictor for lane in lanes]
    finished = [_finished(lane.run, save_predictions) if lane.run is not None else {} for lane in lanes]
    with exact_inference():
        for clip in clips:
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
                    records = evaluate_clip(predictors, clip, task, protocol, predictions=stages, progress=progress)
                except CorrkitError as error:
                    for lane in lanes:
                        lane.failures[clip.name] = error
                    continue
                for lane, record, stage in zip(lanes, records, stages, strict=True):
                    lane.records[clip.name] = record if lane.run is None else _kept(lane.run, record, stage)


def _finished(run: Run, save_predictions: bool) -> dict[str, ClipRecord]:
    """Records that need no more work; where predictions are wanted, only those of clips whose files are all there."""
    records = {clip: ClipRecord.of(plain) for clip, plain in run.finished.items()}
    return {
        clip: record
        for clip, record in records.items()
        if not save_predictions or run.has_predictions(record.predictions)
    }


def _kept(run: Run, record: ClipRecord, stage: Path | None) -> ClipRecord:
    """The record as it is stored: predictions first, then what claims them."""
    if stage is not None:
        record = replace(record, predictions=run.keep_predictions(stage))
    elif record.clip in run.finished:
        record = replace(record, predictions=run.finished[record.clip]["predictions"])
    run.write_clip(record.clip, record.plain())
    return record


def _finish(lane: Lane, task: Task, constants: Protocol, dataset: DataSet, data: Data) -> Result:
    """Aggregates a lane's records, and closes its run."""
    statistics = {name: record.statistics for name, record in lane.records.items()}
    scores = task.scores(statistics, constants, split=dataset.split)
    predictor, run = lane.predictor, lane.run
    summary = build_summary(
        scores,
        constants,
        checkpoint=_checkpoint(predictor),
        data=data,
        precision="float32",
        device=predictor.device_type,
        layer=predictor.report.layer,
        stride=predictor.stride,
        parameters=predictor.report.parameters,
        versions=_versions(),
        missing=[clip.name for clip in dataset.clips if clip.name not in lane.records],
    )
    if run is not None:
        run.finish(summary, scores.csvs)
    return Result(
        summary=summary,
        failures=lane.failures,
        notes=(*dataset.notes, *predictor.report.notes, *scores.notes, *(() if run is None else _notes(run))),
        csvs=scores.csvs,
        folder=None if run is None else run.folder,
    )


def _notes(run: Run) -> tuple[str, ...]:
    return (*([run.resumed] if run.resumed else []), *run.notes)


def evaluate_clip(
    predictors: Sequence[Predictor],
    clip: Clip,
    task: Task,
    protocol: Protocol,
    *,
    truth: Callable[[int], Any] | None = None,
    predictions: Sequence[Path | None] | None = None,
    progress: Progress | None = None,
    every: int = 1,
) -> list[ClipRecord]:
    """One pass over a clip: predict, score and save frame by frame; a record for each predictor.

    every: takes the frames 0, every, 2 * every, ... only.
    """
    started = time.perf_counter()
    clip = task.resaved(clip, protocol)
    seen = clip if every == 1 else cast(Clip, Thinned(clip, every))
    num_frames = len(seen.frames)
    truth = truth or functools.lru_cache(maxsize=1)(task.truth(clip, protocol))
    scorers = [task.scorer(clip, protocol, truth) for _ in predictors]
    folders = predictions or [None] * len(predictors)
    with ExitStack() as stack:
        streams = [
            stack.enter_context(closing(predictor.predict(seen, task, protocol)))  # type: ignore[type-var]  # generators
            for predictor in predictors
        ]
        for index, predicted in enumerate(zip(*streams, strict=True)):
            for scorer, folder, prediction in zip(scorers, folders, predicted, strict=True):
                if prediction is not None:
                    scorer.update(index * every, prediction)
                    if folder is not None:
                        task.write_prediction(folder, clip, index * every, prediction)
            if progress is not None:
                progress(clip.name, index + 1, num_frames)
    seconds = time.perf_counter() - started
    return [
        ClipRecord(clip=clip.name, frames=num_frames, statistics=scorer.result(), seconds=seconds) for scorer in scorers
    ]


def run_folder(predictor: Predictor, constants: Protocol, *, data: str | Path | None = None, **chosen: Any) -> Path:
    """Where a run goes by default: another place for other settings, so that they don't meet in one folder.

    Args:
        predictor: gives name and digest.
        constants: the protocol; its overrides count by their values, however they were spelled.
        data: the data root, if one was named.
        **chosen: what else was asked of the data (clips, split, dataset_name); None counts as not asked for.
    """
    folder = default_folder(predictor.name, predictor.digest or "unknown", constants.task, constants.name)
    parts = [folder.name]
    if takes_embedded(constants.task, data):
        parts.append("embedded")
    asked = {name: value for name, value in sorted(chosen.items()) if value is not None}
    if asked or constants.overrides:
        settings = repr((asked, dict(constants.overrides)))
        parts.append(hashlib.sha256(settings.encode()).hexdigest()[:8])
    return folder.with_name("-".join(parts))


def constants_of(task: Task, protocol: str | Protocol | None, overrides: Mapping[str, Any]) -> Protocol:
    """A task's protocol, by name or as it is, with overrides. Raises ProtocolError or UsageError."""
    constants = protocol if isinstance(protocol, Protocol) else None
    if constants is None:
        constants = load_protocol(str(protocol or DEFAULTS[task.name]), task.name)
    elif constants.task != task.name:
        raise UsageError(f"{constants.identifier} is no protocol for {task.name}.", "Choose one of the task's own.")
    return override(constants, overrides)


def described(dataset: DataSet, clips: Sequence[Clip]) -> Data:
    """What is scored of an opened data set."""
    return Data(
        name=dataset.name,
        split=dataset.split,
        identity=data_identity(clips),
        origin=dataset.origin,
        complete=len(clips) == len(dataset.clips),
    )


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


def _open_run(folder: Path, predictor: Predictor, protocol: Protocol, data: Data, dataset_name: str | None) -> Run:
    """Creates or resumes the run. Raises RunError for another run's folder."""
    if predictor.digest is None and (folder / "run.json").exists():
        raise RunError(
            f"The run in {folder} can't be resumed: nothing tells whether {predictor.name} is the backbone it had.",
            "Give another folder, or give the backbone a `digest`.",
        )
    return Run.open(folder, _fingerprint(predictor, protocol, data, dataset_name), _circumstances())


def _fingerprint(predictor: Predictor, protocol: Protocol, data: Data, dataset_name: str | None) -> dict[str, Any]:
    """What must be equal for a run to be resumed: not the name of the folder that the data lie in."""
    compared = {key: value for key, value in data.plain().items() if key != "name"}
    return {
        "task": protocol.task,
        "checkpoint": predictor.digest,
        "layer": predictor.report.layer,
        "protocol": protocol.identifier,
        "overrides": dict(protocol.overrides),
        "data": {**compared, "dataset_name": dataset_name},
        "precision": "float32",
        "device": predictor.device_type,
        **_versions(),
    }


def _versions() -> dict[str, str]:
    import torch

    return {"corrkit": __version__, "torch": torch.__version__}


def _circumstances() -> dict[str, Any]:
    """What is recorded but may differ when a run is resumed."""
    import torch

    from corrkit.propagation.probe import products_are_bit_equal

    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "host": platform.node(),
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "products_bit_equal": products_are_bit_equal(),
    }
