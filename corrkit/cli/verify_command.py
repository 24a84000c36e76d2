"""`corrkit verify`: are the published numbers of a public checkpoint reproduced here?"""

import argparse
import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from corrkit.cli.arguments import add_device_argument
from corrkit.cli.talk import agreed, say

if TYPE_CHECKING:
    from corrkit.manifests.published import PublicCheckpoint
    from corrkit.runs.attestations import Attestation

EXAMPLES = """\
examples:
  corrkit verify                                         the checkpoints, their numbers and protocols
  corrkit verify dino-vits16 --ckpt dino_deitsmall16_pretrain.pth
  corrkit verify dino-vits16 --fetch weights --yes       from its authors' address
  corrkit verify t-core-vits16-k400 --fetch weights --task davis --data DAVIS

Data: $CORRKIT_DATA/TASK for each task, or --task with --data; they must be the benchmark's own. The exit code is 0
where all numbers are within the row's tolerance, else 1. OUT/attestation.json can be offered to corrkit's repository:
data_manifests/attestations/README.md."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `corrkit verify`."""
    parser.add_argument("row", nargs="?", metavar="ROW", help="a checkpoint's name; without it all are listed")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--ckpt", metavar="FILE", help="the checkpoint's file, which you have")
    source.add_argument("--fetch", type=Path, metavar="DIR", help="download it to this folder (asks first)")
    parser.add_argument("--yes", action="store_true", help="download without asking")
    parser.add_argument("--task", help="only this task's numbers")
    parser.add_argument("--data", metavar="ROOT", help="data of --task; default $CORRKIT_DATA/TASK")
    add_device_argument(parser)
    parser.add_argument("--by", metavar="NAME", default="", help="who attests it")
    parser.add_argument("--out", metavar="DIR", help="folder for runs and attestation.json; default verify/ROW")
    parser.add_argument("--json", action="store_true", help="print the attestation (without ROW: the list) as JSON")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")


def run(args: argparse.Namespace) -> int:
    """Verifies, prints one line a number, and returns 1 where one is outside its tolerance."""
    from corrkit.cli.progress import ClipProgress
    from corrkit.errors import UsageError
    from corrkit.files.jsontext import to_json
    from corrkit.manifests.published import public_checkpoint
    from corrkit.tasks.roots import require_outside_data
    from corrkit.verification import verify

    if args.row is None:
        if args.ckpt or args.fetch:
            raise UsageError("A file was named, but no checkpoint that it is to be.", "Name its row: `corrkit verify`.")
        return _list(as_json=args.json)
    checkpoint = public_checkpoint(args.row)
    data = _data(args, checkpoint)
    out = Path(args.out or f"verify/{checkpoint.name}")
    for target in (out, *([args.fetch] if args.fetch else [])):
        require_outside_data(target, *data.values())
    if args.ckpt is None and args.fetch is None:
        raise UsageError(f"No file of {checkpoint.name} was named.", "Name it with --ckpt, or get it with --fetch.")
    path = Path(args.ckpt) if args.ckpt else _fetched(checkpoint, args)
    if path is None:
        return UsageError.exit_code
    with ClipProgress(quiet=args.quiet) as progress:
        attestation = verify(
            checkpoint,
            path,
            data,
            out,
            fetched=args.fetch is not None,
            device=args.device,
            by=args.by,
            progress=progress,
        )
    print(to_json(attestation) if args.json else _text(attestation), end="")
    say(f"attestation: {out / 'attestation.json'}")
    return 0 if all(number["within"] for number in attestation["numbers"]) else 1


def _data(args: argparse.Namespace, checkpoint: "PublicCheckpoint") -> dict[str, Path]:
    """Data root by task, for the tasks of the checkpoint's numbers whose data are at hand; says which are not."""
    from corrkit.errors import UsageError
    from corrkit.task_table import task_facts
    from corrkit.tasks.sources import ENVIRONMENT, environment_root
    from corrkit.verification import cases_of

    wanted = list(dict.fromkeys(case.task for case in cases_of(checkpoint)))
    if args.data and args.task is None:
        raise UsageError("--data belongs to one task.", f"Add --task ({', '.join(wanted)}), or set ${ENVIRONMENT}.")
    if args.task is not None and task_facts(args.task).name not in wanted:
        raise UsageError(f"No {args.task} number of {checkpoint.name} is known.", f"There are: {', '.join(wanted)}.")
    found = {}
    for task in [args.task] if args.task else wanted:
        root = args.data or environment_root(task)
        if root is None:
            say(f"{task} is left out: no data. Set ${ENVIRONMENT}, or name them with --task {task} --data ROOT.")
        else:
            found[task] = Path(root)
    return found


def _fetched(checkpoint: "PublicCheckpoint", args: argparse.Namespace) -> Path | None:
    """The file, downloaded; None where the user doesn't want that."""
    from tqdm import tqdm

    from corrkit.verification import fetch

    size = f"{checkpoint.size / 1e6:,.1f} MB" if checkpoint.size else "size not known"
    digest = f"sha256 {checkpoint.sha256}" if checkpoint.sha256 else "digest not known"
    say(f"{checkpoint.name}: {checkpoint.url or 'no address'} ({size}, {digest}; {checkpoint.source})")
    if checkpoint.url and not args.yes and not agreed(args.fetch):
        return None
    with tqdm(disable=None, leave=False, unit="B", unit_scale=True, dynamic_ncols=True, file=sys.stderr) as bar:

        def progress(name: str, done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return fetch(checkpoint, args.fetch, progress)


def _text(attestation: "Attestation") -> str:
    """A line for each number, and how the file is known."""
    from corrkit.runs.fitting import Cell
    from corrkit.runs.layout import Table, render

    head = ("Protocol", "Metric", "Published", "Here", "Difference", "Tolerance", "")
    rows = tuple(
        tuple(
            Cell(text=text)
            for text in (
                " ".join([n["protocol"], *(f"{name}={value}" for name, value in n["overrides"].items())]),
                n["metric"],
                f"{n['published']:.1f}",
                f"{n['value']:.2f}",
                f"{n['value'] - n['published']:+.2f}",
                f"{n['tolerance']:g}",
                "reproduced" if n["within"] else "NOT reproduced",
            )
        )
        for n in attestation["numbers"]
    )
    known = {
        "digest": "The file's sha256 is the published one.",
        "fetched": "The file came from its authors' address; no digest of it is published.",
        "by hand": "That the file is this checkpoint is the user's word: no digest of it is published.",
    }[attestation["identified"]]
    table = Table(title=attestation["checkpoint"], head=head, rows=rows, notes=(("", f"Per cent. {known}"),))
    return render(table, "text", shutil.get_terminal_size().columns)


def _list(*, as_json: bool) -> int:
    """All checkpoints with their numbers, folded at the terminal's width."""
    from dataclasses import asdict

    from corrkit.files.jsontext import to_json
    from corrkit.manifests.published import public_checkpoints
    from corrkit.verification import cases_of

    checkpoints = public_checkpoints()
    if as_json:
        print(to_json([asdict(checkpoint) for checkpoint in checkpoints]), end="")
        return 0
    width, columns = max(len(checkpoint.name) for checkpoint in checkpoints), shutil.get_terminal_size().columns
    for checkpoint in checkpoints:
        numbers = [
            f"{case.task}/{case.protocol} {number.metric} {number.printed}"
            for case in cases_of(checkpoint)
            for number in case.numbers
        ]
        mark = "" if checkpoint.url else " (to be fetched by hand)"
        line = f"{checkpoint.name.ljust(width)}  {', '.join(numbers)}{mark}"
        print(*textwrap.wrap(line, columns, subsequent_indent=" " * (width + 2), break_on_hyphens=False), sep="\n")
    return 0
