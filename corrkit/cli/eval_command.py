"""`corrkit eval`: from a checkpoint to a results table."""

import argparse
import hashlib
import pkgutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from corrkit.cli.against import compared, references_of, require_alike
from corrkit.cli.arguments import (
    add_data_arguments,
    add_device_argument,
    add_limit_argument,
    add_loading_arguments,
    add_output_arguments,
    add_table_arguments,
    data_options,
    judged,
    loading_of,
    names,
    opened_subject,
    print_comparisons,
    print_json,
    print_protocols,
    print_table,
    protocol_names,
    resolutions,
)
from corrkit.cli.eval_words import closing_words, describe, failures, left_to_others, not_opened
from corrkit.cli.talk import say
from corrkit.errors import CorrkitError, UsageError

if TYPE_CHECKING:
    from corrkit.evaluation import Result
    from corrkit.predictors.contract import Predictor
    from corrkit.predictors.loading import Request
    from corrkit.processes.shares import Share
    from corrkit.processes.workers import Staff
    from corrkit.protocols import Protocol
    from corrkit.runs.protocol_rows import ProtocolRow
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
  corrkit eval davis --ckpt mae.pth --protocol dino,cropmae,dinov3-M
  corrkit eval davis --ckpt runs/pretrained/checkpoint-*.pth

--ckpt takes a file or folder, demo, rgb, hog, identity (floor), oracle (ceiling), random:TIMM_NAME[@SEED],
timm:TIMM_NAME=FILE, hf:OWNER/NAME[@REVISION], py:FILE.py:FUNCTION, a.pth+b.pth where a system needs two. Of several, or
a folder of training checkpoints, each has its own run, and a curve over their steps is drawn.
Repeating a command resumes its run. Data: --data, else $CORRKIT_DATA/TASK, else the embedded clips."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `corrkit eval`."""
    parser.add_argument(
        "task",
        nargs="?",
        metavar="TASK",
        help="davis, vip, jhmdb, or all: every data set under $CORRKIT_DATA, else embedded",
    )
    parser.add_argument(
        "--ckpt", required=True, nargs="+", metavar="SPEC", help="what to evaluate (see below), several in one pass"
    )
    add_data_arguments(parser)
    parser.add_argument(
        "--resolution",
        metavar="N|HxW,...",
        type=resolutions,
        help="sizes of the network's input: --set size=[...] for each",
    )
    add_loading_arguments(parser, "layer", "window")
    parser.add_argument("--layers", metavar="N,N|all", type=names, help="several layers in one pass of the network")
    parser.add_argument("--name", help="of the checkpoint in tables; default: its file's or folder's")
    parser.add_argument("--seed-of", metavar="METHOD", help="the checkpoint is one training seed of this method")
    add_device_argument(parser)
    parser.add_argument(
        "--precision",
        choices=["fp32", "tf32", "bf16", "fp16"],
        default="fp32",
        help="of the network's products; fp32 is how results are published, all else is marked",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes that evaluate; default: as many as pay")
    parser.add_argument(
        "--shard", metavar="i/n", help="only the i-th of n shares of the clips; under torchrun the rank's"
    )
    parser.add_argument("--out", metavar="DIR", help="run folder; default runs/CKPT-DIGEST-TASK-PROTOCOL")
    keeping = parser.add_mutually_exclusive_group()
    keeping.add_argument(
        "--save-predictions",
        action="store_true",
        default=None,
        help="evaluate clips again that were finished without predictions; those of new ones are kept in any case",
    )
    keeping.add_argument(
        "--no-keep", dest="save_predictions", action="store_false", help="don't keep predictions in the run folder"
    )
    parser.add_argument(
        "--submission", metavar="FILE", help="davis: also write a zip for the challenge server (first masks are enough)"
    )
    parser.add_argument(
        "--reference-rows", action="store_true", help="add floor and ceilings (identity, oracle, true matches)"
    )
    parser.add_argument(
        "--against", type=Path, metavar="RUN", help="also compare with this finished run, as compare does"
    )
    add_limit_argument(parser)
    add_output_arguments(parser)
    add_table_arguments(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")


def run(args: argparse.Namespace) -> int:
    """Evaluates, prints one table; returns 2 where a clip failed, 1 where a difference is below --fail-below."""
    from corrkit.predictors.checkpoints import open_each
    from corrkit.processes.ranks import rank_and_count
    from corrkit.processes.workers import Staff
    from corrkit.runs.tables import require_metrics
    from corrkit.tasks.roots import require_outside_data

    _find_task(args)
    share = _share(args)
    tasks = _tasks(args)
    require_metrics(args.columns, tasks)
    against = references_of(args, tasks)
    if args.submission:
        require_outside_data(args.submission, args.data)
    request = _request(args)
    staff = Staff(request=request, workers=1 if rank_and_count() else args.workers, shares=[share])
    request, predictors, unopened = open_each(request)
    staff = replace(staff, request=request)
    rank, _ = rank_and_count() or (0, 1)
    args.quiet = args.quiet or rank > 0
    described: set[str] = set()
    results, rows, comparisons, code = [], [], [], not_opened(unopened)
    shown: list[Summary] = []
    is_left = rank > 0
    for task in tasks:
        try:
            protocols = _protocols(args, task)
            for words in dict.fromkeys(w for one in predictors if rank == 0 for w in describe(one, protocols)):
                if words not in described:
                    say(words)
                described.add(words)
            subject = opened_subject(args, task, protocols[0])
            if against:
                require_alike(subject, against[task])
            found, references = _evaluate(subject, protocols, staff, predictors, args)
        except CorrkitError as error:
            if args.task != "all" or rank_and_count():  # ranks wait for each other at the end of every task
                raise
            say(*f"failed: {task}: {error}".split("\n"))  # the finished tasks keep their rows
            code = error.exit_code
            continue
        if rank > 0 or left_to_others(found):
            is_left = True
            code = max([code, *(failures(result) for result in found)])
            continue
        results += found
        if len(args.ckpt) > 1:
            _draw(found, predictors, args)
        shown += [result.summary for result in (*found, *references)]
        rows += _rows([*found, *references]) if len(protocols) > 1 else []
        try:
            comparisons += compared(found, against[task]) if against else []
        except CorrkitError as error:
            say(*f"failed: {error}".split("\n"))  # the results are there all the same
            code = error.exit_code
    if is_left and not shown:
        return code  # another process prints it
    if args.json:
        print_json(shown, comparisons if against else None, rows)
    elif rows:
        print_protocols(rows, args.format)
    elif shown:
        print_table(shown, args)
    if not args.json:
        print_comparisons(comparisons, args.format)
    if args.submission and results:
        _submit(subject, results[0], Path(args.submission))
    closing = [closing_words(result, _origin(args)) for result in results]
    return max([code, judged(comparisons, args.fail_below), *closing])


def _find_task(args: argparse.Namespace) -> None:
    """The task may be the last word of all: --ckpt takes whatever follows it. Raises UsageError without a task."""
    from corrkit.task_table import task_names

    if args.task is None and len(args.ckpt) > 1 and args.ckpt[-1] in {*task_names(), "all"}:
        args.task = args.ckpt.pop()
    if args.task is None:
        tasks = ", ".join(task_names())
        raise UsageError("No task is named.", f"Give {tasks} or all in front of --ckpt, or as the last word.")


def _share(args: argparse.Namespace) -> "Share":
    """Of --shard; under torchrun ranks divide the clips. Refused is what shares exclude."""
    from corrkit.processes.ranks import rank_and_count
    from corrkit.processes.shares import Share

    if args.shard and rank_and_count():
        raise UsageError("Under torchrun each rank has its own share of the clips.", "Leave --shard out.")
    if args.reference_rows and (args.shard or rank_and_count()):
        raise UsageError("Reference rows are in no run folder where shares could meet.", "Leave --reference-rows out.")
    return Share.read(args.shard or "1/1")


def _protocols(args: argparse.Namespace, task: str) -> "list[Protocol]":
    """Each protocol of --protocol at each size of --resolution, with the overrides of --set."""
    from corrkit.subject import constants_of
    from corrkit.tasks import load_task

    overrides = dict(args.set)
    if args.resolution and "size" in {name.rpartition(".")[2] for name in overrides}:
        raise UsageError("--resolution is short for --set size=[...], which is there as well.", "Use one of them.")
    sizes = [{"size": size} for size in args.resolution or ()] or [{}]
    protocols = [
        constants_of(load_task(task), name, {**overrides, **size})
        for name in protocol_names(args.protocol)
        for size in sizes
    ]
    for number, protocol in enumerate(protocols):
        if protocol in protocols[:number]:
            raise UsageError(f"{protocol.identifier} is asked for twice.", "Name each protocol and each size once.")
    if len(protocols) > 1 and args.submission:
        raise UsageError("--submission is one protocol's predictions, several were named.", "Name one protocol.")
    if len({protocol.identifier for protocol in protocols}) > 1 and args.against:
        raise UsageError(
            "--against is a run of one protocol, several were named.",
            "Leave it out: the table compares each protocol with the first.",
        )
    return protocols


def _rows(results: "Sequence[Result]") -> "list[ProtocolRow]":
    """Results of one task under several protocols, each compared with the first of its method."""
    from corrkit.runs.protocol_rows import ProtocolRow, compared_with_first

    return compared_with_first(
        [ProtocolRow(summary=one.summary, protocol=one.protocol, statistics=one.statistics) for one in results]
    )


def _request(args: argparse.Namespace) -> "Request":
    """One predictor for each checkpoint, or one for each layer of --layers."""
    from corrkit.backbones.precision import SHORT
    from corrkit.predictors.checkpoints import each_checkpoint
    from corrkit.predictors.loading import Request
    from corrkit.processes.ranks import device_of_rank

    loading = loading_of(args)
    for option in ("submission", "name", "seed_of"):
        if args.layers is not None and getattr(args, option) is not None:
            raise UsageError(f"--layers and --{option.replace('_', '-')} exclude each other.", "Use one of them.")
    layers = None if args.layers is None else tuple(args.layers)
    args.ckpt = each_checkpoint(args.ckpt)
    if len(args.ckpt) > 1 and (args.name is not None or args.submission):
        raise UsageError("--name and --submission are for one checkpoint, several were named.", "Name one of them.")
    return Request(
        spec=args.ckpt[0],
        further=tuple(args.ckpt[1:]),
        device=device_of_rank(args.device),
        loading=loading,
        precision=SHORT[args.precision],
        layers=layers,
        name=args.name,
        seed_of=args.seed_of,
    )


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
        for protocol in protocol_names(args.protocol):
            if protocol is not None:
                load_protocol(protocol, task)  # fails before any work where a task lacks it
    return tasks


def _folders(args: argparse.Namespace, lanes: "Sequence[tuple[Predictor, Protocol]]") -> list[Path]:
    """The run folder of each lane; below --out one for each protocol, checkpoint and layer, where there are several."""
    from corrkit.lanes import run_folder

    if not args.out:
        return [run_folder(predictor, protocol, **data_options(args)) for predictor, protocol in lanes]
    protocols = list(dict.fromkeys(id(protocol) for _, protocol in lanes))
    folders = []
    for predictor, protocol in lanes:
        folder = Path(args.out) / protocol.task if args.task == "all" else Path(args.out)
        if len(protocols) > 1:
            folder /= run_folder(predictor, protocol, **data_options(args)).name.rpartition(f"-{protocol.task}-")[2]
        if len(args.ckpt) > 1:
            folder /= f"{predictor.name}-{(predictor.digest or 'unknown')[:8]}"
        elif args.layers is not None:
            folder /= predictor.name
        folders.append(folder)
    return folders


def _evaluate(
    subject: "Subject",
    protocols: "Sequence[Protocol]",
    staff: "Staff",
    predictors: "Sequence[Predictor]",
    args: argparse.Namespace,
) -> "tuple[list[Result], list[Result]]":
    """The results of each predictor under each protocol; and of the reference rows, where asked for."""
    from corrkit.cli.progress import ClipProgress
    from corrkit.evaluation import evaluate_together
    from corrkit.predictors.references import reference_predictors
    from corrkit.processes.ranks import evaluated_by_all, rank_and_count

    lanes = [(predictor, protocol) for protocol in protocols for predictor in predictors]
    folders: list[Path | None] = [*_folders(args, lanes)]
    references = [
        (reference, protocol)
        for reference in (reference_predictors(predictors) if args.reference_rows else ())
        for protocol in protocols
    ]
    with ClipProgress(quiet=args.quiet, folders=[folder for folder in folders if folder]) as progress:

        def evaluate(shares: "Iterable[Share]") -> "list[Result]":
            return evaluate_together(
                subject,
                [*lanes, *references],
                outs=[*folders, *[None] * len(references)],
                save_predictions=True if args.submission else args.save_predictions,
                progress=progress,
                watch=progress.watch,
                staff=replace(staff, shares=shares),
            )

        rank = rank_and_count()
        results = evaluated_by_all(*rank, evaluate) if rank else evaluate(staff.shares)
    return results[: len(lanes)], results[len(lanes) :]


def _draw(results: "Sequence[Result]", predictors: "Sequence[Predictor]", args: argparse.Namespace) -> None:
    """A curve over the steps of each training run among the checkpoints, where there are several of one."""
    from corrkit.report.training_curve import training_curve, write_curve

    specs = [str(dict(predictor.origin or {}).get("spec", "")) for predictor in predictors]
    curve = training_curve(specs * (len(results) // len(predictors)), results)
    if curve is not None:
        asked = repr((specs, [(result.summary["protocol"], result.summary["modified"]) for result in results]))
        name = f"curve-{results[0].summary['task']}-{hashlib.sha256(asked.encode()).hexdigest()[:8]}"
        say(f"curve: {write_curve(curve, Path(args.out or 'runs'), name)}")


def _submit(subject: "Subject", result: "Result", file: Path) -> None:
    from corrkit.task_table import task_facts

    place = task_facts(subject.task.name).submission
    assert result.folder is not None, "predictions are saved for a submission"
    assert place is not None, "checked before the work starts"
    pkgutil.resolve_name(place)(result.folder / "predictions", subject.dataset.clips, file)
    say(f"submission: {file}")


def _origin(args: argparse.Namespace) -> str:
    """The spec of a checkpoint of the hub; "" where an option makes another network of it."""
    options = (args.heads, args.layer, args.layers, args.window, args.ckpt_key, args.system, args.layout)
    return "" if len(args.ckpt) > 1 or any(option is not None for option in options) else str(args.ckpt[0])
