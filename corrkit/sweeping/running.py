"""One sweep: every setting evaluated in one pass, the best chosen, and it and the default reported."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from corrkit.errors import UsageError
from corrkit.evaluation import Result, evaluate_together
from corrkit.metrics.intervals import PairedDifference, holm
from corrkit.passes import Progress
from corrkit.predictors.contract import Predictor
from corrkit.processes.remaining import Watch
from corrkit.processes.workers import Staff
from corrkit.protocols import Protocol
from corrkit.runs.folder import write_summary
from corrkit.runs.pairing import pair_protocols
from corrkit.subject import Subject, constants_of
from corrkit.sweeping.grid import Grid, Values, base_of, grid_of, load_preset
from corrkit.sweeping.splits import Splits, open_splits
from corrkit.task_table import task_facts
from corrkit.tasks import load_task


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A setting and what came of it.

    setting: the protocol. layer: of the network. result: on the clips on which settings are compared. found: the
    leading metric less the default's, None for the default itself and where `why` says that they can't be paired.
    p_holm: p corrected for the number of settings. is_default, is_best: what it is among them.
    """

    setting: Protocol
    layer: str | None
    result: Result
    found: PairedDifference | None = None
    why: str = ""
    p_holm: float | None = None
    is_default: bool = False
    is_best: bool = False

    @property
    def score(self) -> float:
        """The leading metric; NaN where there is none."""
        metric = task_facts(self.setting.task).leading.name
        return self.result.summary["metrics"].get(metric, math.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What a sweep gives.

    grid: its settings. trials: the best first, on the split of `splits.selected`. reported: the default and, where it
    is another one, the best, on that of `splits.reported`; a setting that was chosen on clips that it is reported on
    carries `tuned_on` in its summary.
    """

    grid: Grid
    splits: Splits
    trials: tuple[Trial, ...]
    reported: tuple[Trial, ...]

    @property
    def best(self) -> Trial:
        """The one with the highest score among those that have all clips."""
        return self.trials[0]

    @property
    def results(self) -> list[Result]:
        """Of everything that was evaluated, each once."""
        every = [trial.result for trial in (*self.trials, *self.reported)]
        return list({id(result): result for result in every}.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An opened sweep: settings, and the clips they are evaluated on."""

    grid: Grid
    splits: Splits


def open_sweep(
    task: str,
    values: Values,
    *,
    preset: str | None = None,
    protocol: str | Protocol | None = None,
    overrides: Mapping[str, object] | None = None,
    select_on: str | None = None,
    report_on: str | None = None,
    data: str | Path | None = None,
    clips: Sequence[str] | None = None,
    dataset_name: str | None = None,
    has_layers: bool = False,
) -> Plan:
    """Opens a request, cheapest faults first; see `corrkit.sweep`.

    has_layers: whether several layers of the network are an axis besides `values`.
    """
    if preset is None and not has_layers and not any(values.values()):
        raise UsageError(
            "Nothing is swept.", "Give values of temperature, topk, context, radius, resolution or layers."
        )
    opened, paper = load_task(task), None if preset is None else load_preset(preset, task)
    chosen = base_of(task, protocol, paper, task_facts(task).default_protocol)
    base = constants_of(opened, chosen, overrides or {})
    grid = grid_of(base, values, paper)
    splits = open_splits(
        task,
        base,
        select_on=select_on,
        report_on=report_on,
        data=data,
        clips=clips,
        dataset_name=dataset_name,
    )
    return Plan(grid=grid, splits=splits)


def run_sweep(
    plan: Plan,
    predictors: Sequence[Predictor],
    *,
    out: Path | None,
    staff: Staff,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> Sweep:
    """Evaluates what is not finished in `out`, chooses the best setting and reports it beside the default.

    Args:
        plan: what is swept.
        predictors: one, or one for each layer; the last is the default.
        out: a folder with a run folder for each setting below it; None writes nothing.
        staff: which processes evaluate.
        progress: as for `evaluate_together`.
        watch: see progress.
    """
    has_layers = len(predictors) > 1

    def evaluated(subject: Subject, lanes: "Sequence[_Lane]") -> list[Result]:
        split = re.sub(r"[^\w.@+-]+", "-", subject.dataset.split)
        names = [folder_name(setting, one.report.layer if has_layers else None) for one, setting in lanes]
        return evaluate_together(
            subject,
            lanes,
            outs=[None if out is None else out / split / name for name in names],
            save_predictions=False,
            progress=progress,
            watch=watch,
            staff=staff,
        )

    lanes = [(predictor, setting) for setting in plan.grid.settings for predictor in predictors]
    default = predictors[-1], plan.grid.settings[plan.grid.default]
    results = evaluated(plan.splits.selected, lanes)
    best, *others = sorted(_compared(lanes, results, default), key=_from_best)
    best = replace(best, is_best=True)
    trials = [best, *others]
    chosen = [lane for lane, result in zip(lanes, results, strict=True) if result is best.result or lane == default]
    reported = [trial for trial in trials if trial.is_best or trial.is_default]
    if plan.splits.reported is not plan.splits.selected:
        again = _compared(chosen, evaluated(plan.splits.reported, chosen), default)
        reported = [replace(one, is_best=one.setting == best.setting and one.layer == best.layer) for one in again]
    for trial in reported:
        if plan.splits.tuned_on and trial.is_best and not trial.is_default:
            trial.result.summary["tuned_on"] = plan.splits.tuned_on
            if trial.result.folder is not None and not trial.result.waiting:
                write_summary(trial.result.folder, trial.result.summary)
    return Sweep(grid=plan.grid, splits=plan.splits, trials=tuple(trials), reported=tuple(reported))


_Lane = tuple[Predictor, Protocol]
_LONGEST = 150  # characters of a folder's name


def folder_name(setting: Protocol, layer: str | None) -> str:
    """Of a setting's run folder, the same in every grid: "temperature0.05-topk7", its layer last."""
    parts = [f"{name.rpartition('.')[2]}{_short(value)}" for name, value in setting.overrides.items()]
    whole = "-".join([*(parts or ["published"]), *([f"layer{layer}"] if layer else [])])
    name = re.sub(r"[^\w.@+-]+", "-", whole)
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def _short(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _compared(lanes: Sequence[_Lane], results: Sequence[Result], default: _Lane) -> list[Trial]:
    """A trial for each lane, with its difference to the default; p corrected for their number."""
    reference = next(result for lane, result in zip(lanes, results, strict=True) if lane == default)
    trials = []
    for (predictor, setting), result in zip(lanes, results, strict=True):
        trial = Trial(setting=setting, layer=predictor.report.layer, result=result, is_default=result is reference)
        if not trial.is_default:
            found = pair_protocols((setting, result.statistics), (reference.protocol, reference.statistics))
            trial = replace(trial, why=found) if isinstance(found, str) else replace(trial, found=found)
        trials.append(trial)
    corrected = holm([trial.found.p if trial.found else None for trial in trials])
    return [replace(trial, p_holm=p) for trial, p in zip(trials, corrected, strict=True)]


def _from_best(trial: Trial) -> tuple[int, float, bool]:
    """Falling scores, NaN last; of equal ones the default comes first, others stay as they are.

    Before all that those with most clips: a setting that lost a hard clip is none the better for it.
    """
    score = math.inf if math.isnan(trial.score) else -trial.score
    return -len(trial.result.statistics), score, not trial.is_default
