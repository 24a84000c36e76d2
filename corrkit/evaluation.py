"""The one pipeline that joins the rooms: data, predictor and protocol in; predictions, scores and a run folder out."""

import io
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from corrkit.backbones.contract import Backbone
from corrkit.backbones.loading import Loading
from corrkit.backbones.precision import precision_of
from corrkit.errors import CorrkitError, UsageError
from corrkit.files.jsontext import Json
from corrkit.inference import exact_inference, standard_defaults, training_state_untouched
from corrkit.lanes import Lane, open_run, versions
from corrkit.listening import listening
from corrkit.passes import Progress
from corrkit.predictors.contract import Predictor
from corrkit.predictors.loading import Request, make_predictor
from corrkit.processes.remaining import Remaining, Watch
from corrkit.processes.workers import ALONE, Staff
from corrkit.protocols import Protocol
from corrkit.runs.folder import FILLED, Run
from corrkit.runs.result_html import summary_html
from corrkit.runs.results import CheckpointFacts, Summary, build_summary
from corrkit.runs.tables import results_table
from corrkit.subject import Subject, open_subject
from corrkit.tasks.roots import require_outside_data

if TYPE_CHECKING:
    import pandas
    import torch
    from PIL import Image


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Result:
    """What an evaluation gives: `summary` is the one results format; `failures` maps a clip to why it has no score.

    protocol: as it was used. statistics: clip to what it adds to the scores (`Scorer.result()`). notes: what was
    ignored or odd about data and checkpoint. csvs: the task's official files, name to text.
    waiting: clips that are other processes' share and not finished; only without any is the run's summary written.
    """

    summary: Summary
    protocol: Protocol
    statistics: Mapping[str, Mapping[str, Json]]
    failures: Mapping[str, CorrkitError] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    csvs: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    waiting: tuple[str, ...] = ()

    @property
    def table(self) -> "pandas.DataFrame":
        """One row per metric with `value`, `low` and `high` (95 % interval), fractions between 0 and 1."""
        import pandas

        intervals = self.summary["intervals"]
        rows = [
            (name, value, *(intervals.get(name) or (None, None))) for name, value in self.summary["metrics"].items()
        ]
        return pandas.DataFrame(rows, columns=["metric", "value", "low", "high"]).set_index("metric")

    def report(self, out: str | Path = "report.html", *, figures: str | Path | None = None) -> Path:
        """Writes a report (see `corrkit.report`) on the run, and returns where it is.

        Args:
            out: the HTML file.
            figures: a folder for the figures as PNG.

        Raises:
            UsageError: the evaluation has no run folder.
        """
        if self.folder is None:
            raise UsageError("Nothing of this result was written, so there is nothing to report on.", "Give out=.")
        write = pkgutil.resolve_name("corrkit.report:write_report")
        write([self.folder], Path(out), figures=None if figures is None else Path(figures), trusted=True)
        return Path(out)

    def figures(self) -> "dict[str, Image.Image]":
        """Pictures of the run, to be logged or shown (see `corrkit.report.stills`), by name.

        Raises:
            UsageError: the evaluation has no run folder.
        """
        if self.folder is None:
            raise UsageError("Nothing of this result was written, so there is nothing to draw.", "Give out=.")
        found: dict[str, Image.Image] = pkgutil.resolve_name("corrkit.report:stills")(self.folder)
        return found

    def __repr__(self) -> str:
        """The table, as the command line prints it."""
        return results_table([self.summary]).rstrip("\n")

    def _repr_html_(self) -> str:
        """In a notebook: the table, its intervals drawn, the clips, and the worst of them as a picture."""
        return summary_html(self.summary, self._worst_clip("WEBP"))

    def _repr_png_(self) -> bytes | None:
        """The worst clip, truth above prediction; None where no predictions are kept."""
        return self._worst_clip("PNG")

    def _worst_clip(self, form: str) -> bytes | None:
        """Its strip as a file of that form; None where there is none, or the run or its data have been moved."""
        if self.folder is None or self.waiting:
            return None
        try:
            worst = self.figures().get("worst-strip")
        except CorrkitError:
            return None
        buffer = io.BytesIO()
        if worst is not None:
            worst.save(buffer, form)
        return buffer.getvalue() or None


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
    save_predictions: bool | None = None,
    heads: int | None = None,
    layer: int | str | None = None,
    key: str | None = None,
    window: int | None = None,
    system: str | None = None,
    layout: str | Path | None = None,
    name: str | None = None,
    seed_of: str | None = None,
    precision: str = "fp32",
    workers: int | None = 1,
    progress: Progress | None = None,
    **overrides: object,
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
        save_predictions: None keeps the predictions of clips that are evaluated now in the run folder, in the task's
            own compressed files, and evaluates clips again whose predictions there are damaged; True also those that
            were finished without; False writes none.
        heads: attention heads of a checkpoint that can't tell.
        layer: layer of a checkpoint; None takes the system's default.
        key: branch of a checkpoint that holds several networks.
        window: frames that a video network sees at a time; None: each frame on its own.
        system: name of a checkpoint's system, where the file fits several.
        layout: path of a layout file (TOML), for a checkpoint in names that corrkit doesn't know.
        name: in tables and for the leaderboard; None takes it from the model.
        seed_of: name of the method of which the model is one training seed; the leaderboard groups seeds by it.
        precision: of the network's products: "fp32", in which results are published, "tf32", "bf16" or "fp16", as far
            as the device has them. Marked in every table.
        workers: processes that evaluate, for a spec; None takes as many as pay. Above 1, a script of yours needs its
            `if __name__ == "__main__":`, as for any use of `multiprocessing`.
        progress: called after every frame. What it raises is said once, and costs nothing.
        **overrides: protocol constants by leaf name; any marks the result as modified.

    Returns:
        Summary and table. Clips that can't be evaluated are in `failures`, and the summary is marked partial.

    Raises:
        CorrkitError: for anything that concerns the whole evaluation (data root, checkpoint, protocol, run folder).
    """
    if save_predictions and out is None:
        raise UsageError("Predictions are saved in the run folder, but none was named.", "Give out= as well.")
    loading = Loading(heads=heads, layer=layer, key=key, window=window, system=system, layout=layout)
    products = precision_of(precision)
    spec = model if isinstance(model, str | Path) else None
    request = None
    if spec is not None:
        request = Request(spec=spec, device=device, loading=loading, precision=products, name=name, seed_of=seed_of)
    staff = Staff(request=request, workers=workers)
    subject = open_subject(
        task, data=data, protocol=protocol, overrides=overrides, split=split, clips=clips, dataset_name=dataset_name
    )
    with standard_defaults():
        predictor = make_predictor(model, device=device, loading=loading, precision=products)
        predictor.declare(name, seed_of)
    (result,) = evaluate_together(
        subject,
        [(predictor, subject.protocol)],
        outs=[out],
        save_predictions=save_predictions,
        progress=progress,
        staff=staff,
    )
    return result


def evaluate_together(
    subject: Subject,
    lanes: Sequence[tuple[Predictor, Protocol]],
    *,
    outs: Sequence[str | Path | None],
    save_predictions: bool | None = None,
    progress: Progress | None = None,
    watch: Watch | None = None,
    staff: Staff = ALONE,
) -> list[Result]:
    """Evaluates several predictors, or one under several protocols, in lockstep, frame by frame.

    Frames are decoded once, and encoded once by each network for each distinct input (`predictors.together`); every
    number is that of an evaluation by itself.

    Args:
        subject: what is evaluated on.
        lanes: predictors, each with the protocol that it works and is scored by.
        outs: a run folder or None for each lane.
        save_predictions: as for `evaluate`, of the lanes that have a run folder.
        progress: as for `evaluate`.
        watch: told how far the evaluation is.
        staff: which processes evaluate, and which shares of the clips; a share needs a run folder.

    Raises:
        CorrkitError: as `evaluate`.
    """
    progress, watch = listening(progress, "progress"), listening(watch, "watch")
    for out in outs:
        if out is not None:
            require_outside_data(out, subject.dataset.root, parts=FILLED)
    for predictor, protocol in lanes:
        predictor.require(protocol)
    opened = [
        Lane(predictor, protocol, None if out is None else open_run(Path(out), predictor, protocol, subject))
        for (predictor, protocol), out in zip(lanes, outs, strict=True)
    ]
    _evaluate_clips(opened, subject, save_predictions=save_predictions, progress=progress, watch=watch, staff=staff)
    return [_finish(lane, subject) for lane in opened]


def _evaluate_clips(
    lanes: Sequence[Lane],
    subject: Subject,
    *,
    save_predictions: bool | None,
    progress: Progress | None,
    watch: Watch | None,
    staff: Staff,
) -> None:
    """Fills the lanes with this process's shares; each clip is evaluated for the lanes that lack it."""
    pairs = [(lane.predictor, lane.protocol) for lane in lanes]
    taken_over: list[set[str]] = []
    for share in staff.shares:
        for lane in lanes:
            lane.take_over(save_predictions)
        taken_over = taken_over or [set(lane.records) for lane in lanes]
        remaining = Remaining(lanes, subject, share.of(subject.clips), save_predictions, set.intersection(*taken_over))
        live = [lane.predictor.live for lane in lanes]
        with training_state_untouched(*live), exact_inference(), remaining:
            remaining.tell(watch)
            for errand, outcomes in staff.outcomes(pairs, subject.task, remaining.clips, remaining.errand, progress):
                remaining.keep(errand, outcomes)
                remaining.tell(watch)
    for lane in lanes:
        if not share.is_whole:
            lane.take_over(save_predictions=False)
        lane.put_in_order(clip.name for clip in subject.clips)


def _finish(lane: Lane, subject: Subject) -> Result:
    """Aggregates a lane's records, and closes its run unless other processes still have clips of it."""
    statistics = {name: record.statistics for name, record in lane.records.items()}
    scores = subject.task.scores(statistics, lane.protocol, split=subject.dataset.split)
    predictor, run = lane.predictor, lane.run
    summary = build_summary(
        scores,
        lane.protocol,
        checkpoint=_checkpoint(predictor, lane.protocol),
        data=subject.data,
        precision=predictor.precision,
        device=predictor.device_type,
        layer=predictor.report.layer,
        stride=predictor.stride,
        parameters=predictor.report.parameters,
        versions=versions(),
        missing=subject.missing(lane.records),
    )
    waiting = [clip.name for clip in subject.clips if clip.name not in lane.records and clip.name not in lane.failures]
    if run is not None and not waiting:
        run.finish(summary, scores.csvs)
    return Result(
        summary=summary,
        protocol=lane.protocol,
        statistics=statistics,
        failures=lane.failures,
        notes=(
            *subject.dataset.notes,
            *predictor.notes_under(lane.protocol),
            *scores.notes,
            *_shrunk(lane),
            *(() if run is None else _notes(run)),
        ),
        csvs=scores.csvs,
        folder=None if run is None else run.folder,
        waiting=tuple(waiting),
    )


def _shrunk(lane: Lane) -> tuple[str, ...]:
    """Batches of other sizes give other last bits, on some machines."""
    sizes = [record.frames_at_a_time for record in lane.records.values() if record.frames_at_a_time]
    if not sizes:
        return ()
    return (f"memory ran out: of {len(sizes)} clip(s) as few as {min(sizes)} frame(s) at a time were encoded",)


def _notes(run: Run) -> tuple[str, ...]:
    return (*([run.resumed] if run.resumed else []), *run.notes)


def _checkpoint(predictor: Predictor, protocol: Protocol) -> CheckpointFacts:
    report, mode = predictor.report, predictor.mode_under(protocol)
    return CheckpointFacts(
        spec=predictor.name,
        digest=predictor.digest,
        system=report.system,
        architecture=report.architecture,
        mode=mode.kind,
        sees_future=mode.sees_future,
        pretraining=report.pretraining,
        seed_of=predictor.seed_of,
    )
