"""`corrkit eval`: from a checkpoint to a results table."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from corrkit.cli.arguments import add_data_arguments, add_output_arguments, data_options, print_result
from corrkit.errors import CorrkitError

if TYPE_CHECKING:
    from corrkit.cli.progress import ClipProgress
    from corrkit.evaluation import Result
    from corrkit.predictors import Predictor
    from corrkit.runs.results import Summary

EXAMPLES = """\
examples:
  corrkit eval davis --ckpt hog
  corrkit eval davis --ckpt dino_deitsmall16_pretrain.pth --data /data/DAVIS
  corrkit eval davis --ckpt random:vit_small_patch16_224@1 --reference-rows
  corrkit eval davis --ckpt mae.pth --set radius=20 --set topk=7 --format markdown

--ckpt takes a file or folder, rgb, hog, identity (floor), oracle (ceiling), random:TIMM_NAME[@SEED],
timm:TIMM_NAME=FILE, hf:OWNER/NAME[@REVISION], py:FILE.py:FUNCTION, a.pth+b.pth where a system needs two.
Repeating a command resumes its run. Data: --data, else $CORRKIT_DATA/TASK, else the embedded clips."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `corrkit eval`."""
    parser.add_argument("task", help="davis, vip or jhmdb")
    parser.add_argument("--ckpt", required=True, metavar="SPEC", help="what to evaluate (see below)")
    add_data_arguments(parser)
    parser.add_argument("--heads", type=int, metavar="N", help="attention heads, where the checkpoint can't tell")
    parser.add_argument("--layer", metavar="N", help="layer to evaluate; default: as the system's paper does")
    parser.add_argument("--ckpt-key", metavar="KEY", help="branch of a checkpoint that holds several networks")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--out", metavar="DIR", help="run folder; default runs/CKPT-DIGEST-TASK-PROTOCOL")
    parser.add_argument("--save-predictions", action="store_true", help="write predictions into the run folder")
    parser.add_argument("--reference-rows", action="store_true", help="add identity (floor) and oracle (ceiling)")
    add_output_arguments(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")


def run(args: argparse.Namespace) -> int:
    """Evaluates, prints the table, and returns 2 where a clip failed."""
    from corrkit.cli.progress import ClipProgress
    from corrkit.evaluation import evaluate, make_predictor, run_folder

    predictor = make_predictor(args.ckpt, device=args.device, heads=args.heads, layer=args.layer, key=args.ckpt_key)
    folder = args.out or run_folder(predictor, args.task, args.protocol)
    common = data_options(args)
    _describe(predictor)
    with ClipProgress(quiet=args.quiet, folder=str(folder)) as progress:
        result = evaluate(
            args.task, predictor, out=folder, save_predictions=args.save_predictions, progress=progress, **common
        )
        references = _references(args.task, predictor, common, progress) if args.reference_rows else []
    print_result([result.summary, *references], args)
    return _closing_words(result)


def _references(task: str, predictor: "Predictor", common: dict[str, Any], progress: "ClipProgress") -> "list[Summary]":
    """Summaries of the floor, and of the ceiling at the predictor's stride."""
    from corrkit.evaluation import evaluate
    from corrkit.predictors import GRID_STRIDE, Identity, Oracle

    oracle = Oracle(stride=predictor.stride or GRID_STRIDE)
    return [evaluate(task, reference, progress=progress, **common).summary for reference in (Identity(), oracle)]


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
