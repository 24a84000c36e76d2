"""`corrkit sweep`: many settings of one checkpoint in one pass, the best chosen and honestly reported."""

import argparse
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from corrkit.cli.arguments import (
    add_device_argument,
    add_loading_arguments,
    add_output_arguments,
    assignment,
    loading_of,
    names,
    resolutions,
)
from corrkit.cli.eval_words import describe
from corrkit.cli.talk import say
from corrkit.errors import CorrkitError, UsageError
from corrkit.text import one_line

if TYPE_CHECKING:
    from corrkit.predictors.contract import Predictor
    from corrkit.predictors.loading import Request
    from corrkit.sweeping.running import Plan, Sweep

EXAMPLES = """\
examples:
  corrkit sweep davis --ckpt hog --temperature 0.05,0.1,0.2 --topk 5,7,10
  corrkit sweep davis --ckpt mae.pth --data DAVIS --context 4,7,15 --radius 8,12,none --layers 8,10,12
  corrkit sweep davis --ckpt dinov3.pth --data DAVIS --preset dinov3-table27
  corrkit sweep vip --ckpt mae.pth --data VIP --topk 5,10 --select-on val --report-on val

All combinations are tried in one pass: one decoding, one encoding for each size, one matching for each window. The best
setting is chosen on the training split and reported on the default split, beside the default setting. One that is
chosen on the clips that it is reported on is marked tuned-on-SPLIT. Repeating a command resumes it; so does a wider
grid with the same --out."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `corrkit sweep`."""
    parser.add_argument("task", help="davis, vip or jhmdb")
    parser.add_argument("--ckpt", required=True, metavar="SPEC", help="what to evaluate, as for eval")
    axes = parser.add_argument_group("axes", "values separated by commas; at least one axis, or a preset")
    axes.add_argument("--temperature", metavar="T,T", type=numbers(float), help="divisors of the similarities")
    axes.add_argument("--topk", metavar="K,K", type=numbers(int), help="neighbours kept")
    axes.add_argument("--context", metavar="N,N", type=numbers(int), help="preceding frames in the queue")
    axes.add_argument("--radius", metavar="R,R|none", type=radii, help="reach of the window in cells; none: no window")
    axes.add_argument(
        "--resolution",
        metavar="N|HxW,...",
        type=resolutions,
        help="sizes of the network's input: --set size=[...] for each",
    )
    axes.add_argument("--layers", metavar="N,N|all", type=names, help="several layers in one pass of the network")
    axes.add_argument("--preset", metavar="NAME", help="a paper's grid: dinov3-table27 or vjepa2.1-c3")
    parser.add_argument("--data", metavar="ROOT", help="data root; default $CORRKIT_DATA/TASK, else the embedded clips")
    parser.add_argument("--select-on", metavar="SPLIT", help="where the best is chosen; default train, if it is there")
    parser.add_argument("--report-on", metavar="SPLIT", help="where it is reported; default: the task's (davis: val)")
    parser.add_argument("--clips", metavar="NAME,NAME", type=names, help="only these clips")
    parser.add_argument("--dataset-name", metavar="NAME", help="name of a data set of your own in the task's layout")
    parser.add_argument("--protocol", metavar="NAME", help="as published (see corrkit protocols); eval takes several")
    parser.add_argument(
        "--set", metavar="NAME=VALUE", action="append", default=[], type=assignment, help="override a constant"
    )
    add_loading_arguments(parser)
    add_device_argument(parser)
    parser.add_argument("--workers", type=int, metavar="N", help="processes that evaluate; default: as many as pay")
    parser.add_argument("--out", metavar="DIR", help="folder; default runs/CKPT-DIGEST-TASK-PROTOCOL-sweep")
    add_output_arguments(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")


def run(args: argparse.Namespace) -> int:
    """Sweeps, prints the tables; returns 2 where a clip failed."""
    from corrkit.cli.progress import ClipProgress
    from corrkit.processes.ranks import rank_and_count
    from corrkit.processes.workers import Staff
    from corrkit.sweeping.files import write_sweep
    from corrkit.sweeping.running import run_sweep
    from corrkit.tasks.roots import require_outside_data

    if rank_and_count():
        raise UsageError("torchrun divides the clips of eval, not of sweep.", "Start it alone, with --workers.")
    plan = _plan(args)
    request = _request(args)
    predictors = request.predictors()
    for words in describe(predictors[-1], [plan.grid.settings[plan.grid.default]]):
        say(words)
    out = Path(args.out) if args.out else _default_folder(args, plan, predictors[-1])
    require_outside_data(out, plan.splits.selected.dataset.root)
    count = len(plan.grid.settings) * len(predictors)
    say(f"{count} settings on {plan.splits.selected.dataset.split}, in {out}")
    with ClipProgress(quiet=args.quiet) as progress:
        sweep = run_sweep(
            plan,
            predictors,
            out=out,
            staff=Staff(request=request, workers=args.workers),
            progress=progress,
            watch=progress.watch,
        )
    write_sweep(sweep, out)
    _print(sweep, args)
    return _closing_words(sweep, out)


def numbers(kind: Callable[[str], float]) -> "Callable[[str], list[float]]":
    """A converter of numbers that are separated by commas."""

    def convert(text: str) -> list[float]:
        try:
            return [kind(part) for part in names(text) or [text]]
        except ValueError:
            words = "whole numbers" if kind is int else "numbers"
            raise argparse.ArgumentTypeError(f"{text!r} is no list of {words}") from None

    return convert


def radii(text: str) -> list[float | str]:
    """Numbers and "none", separated by commas."""
    return [part if part == "none" else numbers(float)(part)[0] for part in names(text) or [text]]


def _plan(args: argparse.Namespace) -> "Plan":
    from corrkit.sweeping.running import open_sweep

    overrides = dict(args.set)
    axes = {"temperature": args.temperature, "topk": args.topk, "context": args.context, "radius": args.radius}
    values = {**axes, "size": args.resolution}
    for axis, given in values.items():
        if given and axis in {name.rpartition(".")[2] for name in overrides}:
            raise UsageError(f"{axis} is swept, and set to one value by --set as well.", "Use one of them.")
    return open_sweep(
        args.task,
        {axis: given or () for axis, given in values.items()},
        preset=args.preset,
        protocol=args.protocol,
        overrides=overrides,
        select_on=args.select_on,
        report_on=args.report_on,
        data=args.data,
        clips=args.clips,
        dataset_name=args.dataset_name,
        has_layers=args.layers is not None,
    )


def _request(args: argparse.Namespace) -> "Request":
    from corrkit.predictors.loading import Request

    loading = loading_of(args)
    layers = None if args.layers is None else tuple(args.layers)
    return Request(spec=args.ckpt, device=args.device, loading=loading, layers=layers)


def _default_folder(args: argparse.Namespace, plan: "Plan", predictor: "Predictor") -> Path:
    """The same for every grid, so that a wider one goes on where this one ends."""
    from corrkit.lanes import run_folder

    base = plan.grid.settings[plan.grid.default]
    folder = run_folder(predictor, base, data=args.data, clips=args.clips, dataset_name=args.dataset_name)
    return folder.with_name(f"{folder.name}-sweep")


def _print(sweep: "Sweep", args: argparse.Namespace) -> None:
    import shutil

    from corrkit.files.jsontext import to_json
    from corrkit.sweeping.table import sweep_plain, sweep_text

    if args.json:
        print(to_json(sweep_plain(sweep)))
    else:
        print(sweep_text(sweep, args.format, shutil.get_terminal_size().columns), end="")


def _closing_words(sweep: "Sweep", out: Path) -> int:
    """Notes, failures, where everything is; the exit code."""
    notes = [note for result in sweep.results for note in result.notes]
    for note in dict.fromkeys(note for note in notes if " is resumed: " not in note):
        say(f"note: {note}")
    resumed = sum(" is resumed: " in note for note in notes)
    if resumed:
        say(f"note: {resumed} run folders are resumed")
    failed = Counter((clip, str(error)) for result in sweep.results for clip, error in result.failures.items())
    for (clip, error), count in failed.items():
        say(*f"failed: {one_line(clip)}, {count} settings: {error}".split("\n"))
    say(f"sweep: {out} (sweep.csv, sweep.svg, sweep.png, sweep.json, and a run folder for each setting)")
    return CorrkitError.exit_code if failed else 0
