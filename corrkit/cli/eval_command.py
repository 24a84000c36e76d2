"""`corrkit eval`: from a checkpoint to a results table."""

import argparse
import pkgutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from corrkit.cli.arguments import (
    add_data_arguments,
    add_limit_argument,
    add_output_arguments,
    data_options,
    judged,
    names,
    opened_subject,
    print_comparisons,
    print_json,
    print_table,
    resolution,
)
from corrkit.cli.talk import say
from corrkit.errors import CorrkitError, UsageError

if TYPE_CHECKING:
    from corrkit.evaluation import Result
    from corrkit.predictors.contract import Predictor
    from corrkit.protocols import Protocol
    from corrkit.runs.comparable import StoredRun
    from corrkit.runs.comparison import Comparison
    from corrkit.runs.results import Summary
    from corrkit.subject import Subject

EXAMPLES = """\
examples:
  corrkit eval davis --ckpt hog
  corrkit eval davis --ckpt dino_deitsmall16_pretrain.pth --data /data/DAVIS
  corrkit eval davis --ckpt random:vit_small_patch16_224@1 --reference-rows
  corrkit eval all --ckpt dino_deitsmall16_pretrain.pth
  corrkit eval davis --ckpt mae.pth --set radius=20 --set topk=7 --format markdown
  corrkit eval davis --ckpt new.pth --against runs/old --fail-below -0.5

--ckpt takes a file or folder, demo, rgb, hog, identity (floor), oracle (ceiling), random:TIMM_NAME[@SEED],
timm:TIMM_NAME=FILE, hf:OWNER/NAME[@REVISION], py:FILE.py:FUNCTION, a.pth+b.pth where a system needs two.
Repeating a command resumes its run. Data: --data, else $CORRKIT_DATA/TASK, else the embedded clips."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `corrkit eval`."""
    parser.add_argument("task", help="davis, vip, jhmdb, or all: every data set under $CORRKIT_DATA, else embedded")
    parser.add_argument("--ckpt", required=True, metavar="SPEC", help="what to evaluate (see below)")
    add_data_arguments(parser)
    parser.add_argument(
        "--resolution", metavar="N|HxW", dest="set", action="append", type=resolution, help="short for --set size=[...]"
    )
    parser.add_argument("--heads", type=int, metavar="N", help="attention heads, where the checkpoint can't tell")
    parser.add_argument("--layer", metavar="N", help="layer to evaluate; default: as the system's paper does")
    parser.add_argument("--layers", metavar="N,N|all", type=names, help="several layers in one pass of the network")
    parser.add_argument("--window", type=int, metavar="N", help="frames that a video network sees at a time")
    parser.add_argument("--ckpt-key", metavar="KEY", help="branch of a checkpoint that holds several networks")
    parser.add_argument("--name", help="of the checkpoint in tables; default: its file's or folder's")
    parser.add_argument("--seed-of", metavar="METHOD", help="the checkpoint is one training seed of this method")
    parser.add_argument("--system", metavar="NAME", help="system of the checkpoint, where its names fit several")
    parser.add_argument("--layout", metavar="FILE", help="names and rules of a network of your own (TOML)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--out", metavar="DIR", help="run folder; default runs/CKPT-DIGEST-TASK-PROTOCOL")
    parser.add_argument("--save-predictions", action="store_true", help="write predictions into the run folder")
    parser.add_argument(
        "--submission", metavar="FILE", help="davis: also write a zip for the challenge server (first masks are enough)"
    )
    parser.add_argument("--reference-rows", action="store_true", help="add identity (floor) and oracle (ceiling)")
    parser.add_argument(
        "--against", type=Path, metavar="RUN", help="also compare with this finished run, as compare does"
    )
    add_limit_argument(parser)
    add_output_arguments(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")


def run(args: argparse.Namespace) -> int:
    """Evaluates, prints one table; returns 2 where a clip failed, 1 where a difference is below --fail-below."""
    from corrkit.tasks.roots import require_outside_data

    tasks = _tasks(args)
    against = _against(args, tasks)
    if args.submission:
        require_outside_data(args.submission, args.data)
    predictors = _predictors(args)
    for predictor in predictors:
        _describe(predictor)
    results, summaries, comparisons, code = [], [], [], 0
    for task in tasks:
        try:
            subject = opened_subject(args, task)
            if against:
                _require_alike(subject, against[task])
            found, references = _evaluate(subject, predictors, args)
        except CorrkitError as error:
            if args.task != "all":
                raise
            say(f"failed: {task}: {error}")  # the finished tasks keep their rows
            code = error.exit_code
            continue
        results += found
        summaries += [*(result.summary for result in found), *references]
        try:
            comparisons += _compared(found, against[task]) if against else []
        except CorrkitError as error:
            say(f"failed: {error}")  # the results are there all the same
            code = error.exit_code
    if args.json:
        print_json(summaries, comparisons if against else None)
    elif summaries:
        print_table(summaries, args.format)
        print_comparisons(comparisons, args.format)
    if args.submission:
        _submit(subject, results[0], Path(args.submission))
    closing = [_closing_words(result, _origin(args)) for result in results]
    return max([code, judged(comparisons, args.fail_below), *closing])


def _predictors(args: argparse.Namespace) -> "list[Predictor]":
    """One predictor, or one for each layer of --layers."""
    from corrkit.backbones.loading import Loading
    from corrkit.predictors.loading import layer_predictors, make_predictor

    loading = Loading(
        heads=args.heads,
        layer=args.layer,
        key=args.ckpt_key,
        window=args.window,
        system=args.system,
        layout=args.layout,
    )
    if args.layers is None:
        predictor = make_predictor(args.ckpt, device=args.device, loading=loading)
        predictor.declare(args.name, args.seed_of)
        return [predictor]
    for option in ("submission", "name", "seed_of"):
        if getattr(args, option) is not None:
            raise UsageError(f"--layers and --{option.replace('_', '-')} exclude each other.", "Use one of them.")
    return layer_predictors(args.ckpt, args.layers, device=args.device, loading=loading)


def _tasks(args: argparse.Namespace) -> list[str]:
    """The tasks to run. "all": those under $CORRKIT_DATA, else every task on the embedded clips."""
    from corrkit.protocols import load_protocol
    from corrkit.task_table import task_facts, task_names
    from corrkit.tasks.sources import environment_root

    facts = None if args.task == "all" else task_facts(args.task)
    if args.submission and (facts is None or facts.submission is None):
        served = ", ".join(name for name in task_names() if task_facts(name).submission)
        raise UsageError(f"There is no challenge server for {args.task}.", f"Use --submission with {served}.")
    if facts is not None:
        return [facts.name]
    for option in ("data", "clips", "split", "dataset_name"):
        if getattr(args, option) is not None:
            name = option.replace("_", "-")
            raise UsageError(f"--{name} belongs to one task, not to all.", "Set $CORRKIT_DATA, or name the task.")
    found = [task for task in task_names() if environment_root(task) is not None]
    tasks = found or [task for task in task_names() if task_facts(task).embedded]
    for task in tasks:
        if args.protocol:
            load_protocol(args.protocol, task)  # fails before any work where a task lacks it
    return tasks


def _against(args: argparse.Namespace, tasks: Sequence[str]) -> "dict[str, StoredRun]":
    """The runs of --against by task, one for each task that is evaluated; {} without that option."""
    from corrkit.runs.comparison import runs_by_task

    if args.against is None:
        if args.fail_below is not None:
            raise UsageError("--fail-below limits a difference, but nothing is compared.", "Add --against RUN.")
        return {}
    found = runs_by_task(args.against)
    for task in tasks:
        if task not in found:
            raise UsageError(
                f"{args.against} holds runs of {', '.join(found)}, none of {task}.", "Name one of that task."
            )
    return found


def _require_alike(subject: "Subject", reference: "StoredRun") -> None:
    """Refuses a reference of another protocol or other data before the work starts."""
    from corrkit.runs.comparison import require_alike

    column = subject.protocol.identifier, subject.data.split, subject.data.identity
    require_alike("This evaluation", column, None, reference)


def _compared(results: "Sequence[Result]", reference: "StoredRun") -> "list[Comparison]":
    """The finished runs of one task against the reference."""
    from corrkit.runs.comparable import read_runs
    from corrkit.runs.comparison import compare_with

    runs, _ = read_runs([result.folder for result in results if result.folder is not None])
    return compare_with(reference, runs)


def _folders(args: argparse.Namespace, protocol: "Protocol", predictors: "Sequence[Predictor]") -> list[Path]:
    from corrkit.lanes import run_folder

    if not args.out:
        return [run_folder(predictor, protocol, **data_options(args)) for predictor in predictors]
    folder = Path(args.out) / protocol.task if args.task == "all" else Path(args.out)
    return [folder] if args.layers is None else [folder / predictor.name for predictor in predictors]


def _evaluate(
    subject: "Subject", predictors: "Sequence[Predictor]", args: argparse.Namespace
) -> "tuple[list[Result], list[Summary]]":
    """The results, and summaries of the floor and of the ceiling at the predictors' stride where asked for."""
    from corrkit.cli.progress import ClipProgress
    from corrkit.evaluation import evaluate_together
    from corrkit.predictors.references import GRID_STRIDE, Identity, Oracle

    protocol = subject.protocol
    folders = _folders(args, protocol, predictors)
    with ClipProgress(quiet=args.quiet, folders=folders) as progress:
        results = evaluate_together(
            subject,
            [(predictor, protocol) for predictor in predictors],
            outs=folders,
            save_predictions=args.save_predictions or bool(args.submission),
            progress=progress,
        )
        rows = []
        for reference in (Identity(), Oracle(predictors[0].stride or GRID_STRIDE)) if args.reference_rows else ():
            (result,) = evaluate_together(subject, [(reference, protocol)], outs=[None], progress=progress)
            rows.append(result.summary)
    return results, rows


def _submit(subject: "Subject", result: "Result", file: Path) -> None:
    from corrkit.task_table import task_facts

    place = task_facts(subject.task.name).submission
    assert result.folder is not None, "predictions are saved for a submission"
    assert place is not None, "checked before the work starts"
    pkgutil.resolve_name(place)(result.folder / "predictions", subject.dataset.clips, file)
    say(f"submission: {file}")


def _describe(predictor: "Predictor") -> None:
    """What was recognised, before the work starts."""
    report = predictor.report
    stride = f", stride {predictor.stride}" if predictor.stride else ""
    tensors = f", {report.tensors_used} of {report.tensors_total} tensors used" if report.tensors_total else ""
    future = " (sees later frames)" if predictor.mode.sees_future else ""
    say(
        f"{predictor.name}: {report.system}, {report.architecture}, {report.parameters:,} parameters{tensors}{stride}, "
        f"layer {report.layer}, {predictor.mode.kind}{future}, on {predictor.device_type}"
    )
    branch = dict(report.evidence).get("branch", "")
    if "not '" in branch:
        say(f"branch {branch}; --ckpt-key takes another one")


def _origin(args: argparse.Namespace) -> str:
    """The spec of a checkpoint of the hub; "" where an option makes another network of it."""
    options = (args.heads, args.layer, args.layers, args.window, args.ckpt_key, args.system, args.layout)
    return "" if any(option is not None for option in options) else args.ckpt


def _closing_words(result: "Result", origin: str) -> int:
    from corrkit.runs.published import beside_published

    for beside in beside_published(result.summary, origin):
        say(beside.sentence())
    for note in result.notes:
        say(f"note: {note}")
    for clip, error in result.failures.items():
        say(f"failed: {clip}: {error}")
    say(f"run: {result.folder}")
    return CorrkitError.exit_code if result.failures else 0
