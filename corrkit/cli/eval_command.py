"""`corrkit eval`: from a checkpoint to a results table."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from corrkit.cli.arguments import add_data_arguments, add_output_arguments, data_options, print_json, print_table
from corrkit.errors import CorrkitError, UsageError

if TYPE_CHECKING:
    from corrkit.evaluation import Result
    from corrkit.predictors import Predictor
    from corrkit.runs.results import Summary

EXAMPLES = """\
examples:
  corrkit eval davis --ckpt hog
  corrkit eval davis --ckpt dino_deitsmall16_pretrain.pth --data /data/DAVIS
  corrkit eval davis --ckpt random:vit_small_patch16_224@1 --reference-rows
  corrkit eval all --ckpt dino_deitsmall16_pretrain.pth
  corrkit eval davis --ckpt mae.pth --set radius=20 --set topk=7 --format markdown

--ckpt takes a file or folder, rgb, hog, identity (floor), oracle (ceiling), random:TIMM_NAME[@SEED],
timm:TIMM_NAME=FILE, hf:OWNER/NAME[@REVISION], py:FILE.py:FUNCTION, a.pth+b.pth where a system needs two.
Repeating a command resumes its run. Data: --data, else $CORRKIT_DATA/TASK, else the embedded clips."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `corrkit eval`."""
    parser.add_argument("task", help="davis, vip, jhmdb, or all: every data set under $CORRKIT_DATA, else embedded")
    parser.add_argument("--ckpt", required=True, metavar="SPEC", help="what to evaluate (see below)")
    add_data_arguments(parser)
    parser.add_argument("--heads", type=int, metavar="N", help="attention heads, where the checkpoint can't tell")
    parser.add_argument("--layer", metavar="N", help="layer to evaluate; default: as the system's paper does")
    parser.add_argument("--ckpt-key", metavar="KEY", help="branch of a checkpoint that holds several networks")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--out", metavar="DIR", help="run folder; default runs/CKPT-DIGEST-TASK-PROTOCOL")
    parser.add_argument("--save-predictions", action="store_true", help="write predictions into the run folder")
    parser.add_argument(
        "--submission", metavar="FILE", help="davis: also write a zip for the challenge server (first masks are enough)"
    )
    parser.add_argument("--reference-rows", action="store_true", help="add identity (floor) and oracle (ceiling)")
    add_output_arguments(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")


def run(args: argparse.Namespace) -> int:
    """Evaluates, prints one table, and returns 2 where a clip failed."""
    from corrkit.evaluation import make_predictor

    tasks = _tasks(args)
    predictor = make_predictor(args.ckpt, device=args.device, heads=args.heads, layer=args.layer, key=args.ckpt_key)
    _describe(predictor)
    results, summaries = [], []
    for task in tasks:
        result, references = _evaluate(task, predictor, _folder(args, task, predictor), args)
        results.append(result)
        if args.submission:
            _submit(args, result)
        summaries += [result.summary, *references]
    if args.json:
        print_json([result.summary for result in results])
    else:
        print_table(summaries, args.format)
    return max(_closing_words(result) for result in results)


def _tasks(args: argparse.Namespace) -> list[str]:
    """The tasks to run. "all": those under $CORRKIT_DATA, else every task on the embedded clips."""
    from corrkit.protocols import load_protocol
    from corrkit.tasks import TASKS, load_task
    from corrkit.tasks.sources import environment_root

    if args.submission and args.task != "davis":
        raise UsageError(f"There is no challenge server for {args.task}.", "Use --submission with davis.")
    if args.task != "all":
        return [load_task(args.task).name]
    for option in ("data", "clips", "split", "dataset_name"):
        if getattr(args, option) is not None:
            name = option.replace("_", "-")
            raise UsageError(f"--{name} belongs to one task, not to all.", "Set $CORRKIT_DATA, or name the task.")
    found = [task for task in TASKS if environment_root(task) is not None]
    for task in found or TASKS:
        if args.protocol:
            load_protocol(args.protocol, task)  # fails before any work where a task lacks it
    return found or list(TASKS)


def _folder(args: argparse.Namespace, task: str, predictor: "Predictor") -> Path:
    from corrkit.evaluation import run_folder

    if not args.out:
        return run_folder(predictor, task, args.protocol)
    return Path(args.out) / task if args.task == "all" else Path(args.out)


def _evaluate(
    task: str, predictor: "Predictor", folder: Path, args: argparse.Namespace
) -> "tuple[Result, list[Summary]]":
    """The result, and summaries of the floor and of the ceiling at the predictor's stride where asked for."""
    from corrkit.cli.progress import ClipProgress
    from corrkit.evaluation import evaluate
    from corrkit.predictors import GRID_STRIDE, Identity, Oracle

    common = data_options(args)
    with ClipProgress(quiet=args.quiet, folder=str(folder)) as progress:
        result = evaluate(
            task,
            predictor,
            out=folder,
            save_predictions=args.save_predictions or bool(args.submission),
            progress=progress,
            **common,
        )
        references = (Identity(), Oracle(stride=predictor.stride or GRID_STRIDE)) if args.reference_rows else ()
        rows = [evaluate(task, reference, progress=progress, **common).summary for reference in references]
    return result, rows


def _submit(args: argparse.Namespace, result: "Result") -> None:
    from corrkit.tasks import load_task
    from corrkit.tasks.davis_submission import write_submission
    from corrkit.tasks.sources import open_data

    assert result.folder is not None
    dataset = open_data(load_task(args.task), args.data, args.split, args.dataset_name)
    write_submission(result.folder / "predictions", dataset.clips, Path(args.submission))  # type: ignore[arg-type]  # DAVIS clips
    print(f"submission: {args.submission}", file=sys.stderr)


def _describe(predictor: "Predictor") -> None:
    """What was recognised, before the work starts."""
    report = predictor.report
    stride = f", stride {predictor.stride}" if predictor.stride else ""
    tensors = f", {report.tensors_used} of {report.tensors_total} tensors used" if report.tensors_total else ""
    future = " (sees later frames)" if predictor.mode.sees_future else ""
    print(
        f"{predictor.name}: {report.system}, {report.architecture}, {report.parameters:,} parameters{tensors}{stride}, "
        f"layer {report.layer}, {predictor.mode.kind}{future}, on {predictor.device_type}",
        file=sys.stderr,
    )


def _closing_words(result: "Result") -> int:
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)
    for clip, error in result.failures.items():
        print(f"failed: {clip}: {error}", file=sys.stderr)
    print(f"run: {result.folder}", file=sys.stderr)
    return CorrkitError.exit_code if result.failures else 0
