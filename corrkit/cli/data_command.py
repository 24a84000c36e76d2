"""`corrkit data`: checks, describes or downloads a copy of a data set."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from corrkit.cli.talk import agreed, say, show
from corrkit.errors import UsageError
from corrkit.task_table import task_facts, task_names
from corrkit.text import one_line

if TYPE_CHECKING:
    from corrkit.datasets.checking import DataCheck
    from corrkit.datasets.sources import Source, SourceFile
    from corrkit.manifests.clips import ManifestClip
    from corrkit.tasks.faults import Fault

EXAMPLES = """\
examples:
  corrkit data check davis --data DAVIS               the official clips of val; exit 1 if something is wrong
  corrkit data check davis --data DAVIS.zip --split train
  corrkit data check vip --data mine --dataset-name mine    data of your own: against its own lists
  corrkit data manifest mine --out mine.csv           what a copy holds, with sha256, for --manifest later
  corrkit data get davis --to data --print            only the addresses"""

_SHOWN_FILES = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Actions of `corrkit data` and their options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="check | manifest | get")
    check = actions.add_parser("check", help="say what of a copy is missing, damaged or surplus", allow_abbrev=False)
    check.add_argument("task", choices=task_names())
    check.add_argument("--data", metavar="ROOT", help="folder, .zip or .tar; default $CORRKIT_DATA/TASK")
    check.add_argument("--split", help="default: the task's (davis: val, vip: val, jhmdb: split1)")
    expected = check.add_mutually_exclusive_group()
    expected.add_argument("--manifest", type=Path, metavar="FILE", help="compare with this, not the official clips")
    expected.add_argument("--dataset-name", metavar="NAME", help="data of your own: only its own lists are compared")
    check.add_argument("--json", action="store_true", help="print one JSON object, with every file named")

    manifest = actions.add_parser("manifest", help="write a manifest (CSV) of a sound copy", allow_abbrev=False)
    manifest.add_argument("data", metavar="ROOT", help="folder, .zip or .tar")
    manifest.add_argument("--task", choices=task_names(), help="layout; default: found out")
    manifest.add_argument("--split", help="default: the task's")
    manifest.add_argument("--out", type=Path, metavar="FILE", help="default: stdout")

    get = actions.add_parser("get", help="download a data set from where its makers offer it", allow_abbrev=False)
    get.add_argument("task", choices=task_names())
    get.add_argument("--to", type=Path, metavar="DIR", help="folder for archives and data; made if missing")
    get.add_argument("--split", help="only what this split needs")
    get.add_argument("--print", action="store_true", dest="only_print", help="only name the addresses")
    get.add_argument("--yes", action="store_true", help="download without asking")
    get.add_argument("--sources", type=Path, metavar="FILE", help="another list of addresses (a mirror), as TOML")


def run(args: argparse.Namespace) -> int:
    """Runs the action."""
    if args.action == "check":
        return _check(args)
    return _manifest(args) if args.action == "manifest" else _get(args)


def _check(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from corrkit.datasets.checking import DataCheck, expected_tree
    from corrkit.tasks.sources import environment_root, open_data_root

    data = args.data or environment_root(args.task)
    if data is None:
        raise UsageError("There is no data root to check.", f"Name it with --data, or set $CORRKIT_DATA ({args.task}).")
    split, expected = _expected(args, task_facts(args.task).default_split)
    check = DataCheck(args.task, open_data_root(data), split=split, expected=expected)
    if not args.json:
        show(*expected_tree(args.task, one_line(split), expected).split("\n"))
    faults: list[Fault] = []
    with tqdm(disable=None, leave=False, unit="clip", dynamic_ncols=True, file=sys.stderr) as bar:

        def progress(clip: str, done: int, total: int) -> None:
            bar.total = total
            bar.set_postfix_str(one_line(clip), refresh=False)
            bar.update(done - bar.n)

        for fault in check.faults(progress):
            if not args.json:
                with bar.external_write_mode(file=sys.stdout):
                    _print_fault(fault, faults[-1] if faults else None)
            faults.append(fault)
    if args.json:
        _print_json(args, split, check, faults)
    else:
        show(_verdict(check, faults))
    for note in check.notes:
        say(f"note: {note}")
    return 1 if faults else 0


def _expected(args: argparse.Namespace, default_split: str) -> "tuple[str, Sequence[ManifestClip]]":
    from corrkit.manifests.clips import official_clips, read_manifest

    split = args.split or default_split
    if args.dataset_name:
        return split, ()
    if args.manifest is None:
        return split, official_clips(args.task, split)
    clips = read_manifest(args.manifest)
    splits = list(dict.fromkeys(clip.split for clip in clips))
    if args.split is None and len(splits) == 1:
        split = splits[0]
    if split not in splits:
        raise UsageError(f"{args.manifest} has no split {split!r}.", f"It has {', '.join(splits)}.")
    return split, [clip for clip in clips if clip.split == split]


def _print_fault(fault: "Fault", previous: "Fault | None") -> None:
    """One line; what to do follows where it isn't what the fault before said."""
    where = f"{fault.clip}: " if fault.clip else ""
    files = ", ".join(fault.files[:_SHOWN_FILES])
    count = f" ({len(fault.files)} files)" if len(fault.files) > 1 else ""
    more = ", ..." if len(fault.files) > _SHOWN_FILES else ""
    show(f"{fault.kind:8} {where}{fault.problem}{count}{': ' if files else ''}{files}{more}")
    if fault.remedy and (previous is None or previous.remedy != fault.remedy):
        show(f"         {fault.remedy}")


def _verdict(check: "DataCheck", faults: "Sequence[Fault]") -> str:
    read = f"{check.num_clips} clip(s), {check.num_frames} frame(s) read"
    if not faults:
        return f"fine: {read}, nothing missing, damaged or surplus."
    kinds = [fault.kind for fault in faults]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    return f"not fine: {read}, {len(faults)} fault(s): {counts}."


def _print_json(args: argparse.Namespace, split: str, check: "DataCheck", faults: "Sequence[Fault]") -> None:
    import json
    from dataclasses import asdict

    content = {
        "task": args.task,
        "split": split,
        "fine": not faults,
        "clips": check.num_clips,
        "frames": check.num_frames,
        "faults": [{**asdict(fault), "problem": fault.problem} for fault in faults],
        "notes": check.notes,
    }
    print(json.dumps(content, indent=2))


def _manifest(args: argparse.Namespace) -> int:
    from corrkit.datasets.describing import describe, detect_task
    from corrkit.files.atomic import write_atomic
    from corrkit.manifests.clips import manifest_text
    from corrkit.tasks.roots import require_outside_data
    from corrkit.tasks.sources import open_data_root

    if args.out:
        require_outside_data(args.out, args.data)
    root = open_data_root(args.data)
    task = args.task or detect_task(root)
    text = manifest_text(describe(task, root, split=args.split or task_facts(task).default_split))
    if args.out:
        write_atomic(args.out, text)
    elif text.replace("\n", "").isprintable():
        sys.stdout.write(text)
    else:
        raise UsageError(
            f"{args.data} has names with characters that could steer a terminal.", "Write the manifest with --out FILE."
        )
    return 0


def _get(args: argparse.Namespace) -> int:
    from corrkit.datasets.sources import read_source

    source = read_source(args.task, args.sources)
    files = source.files_for(args.split)
    if args.only_print:
        show(*([file.url for file in files] or [source.page]))
        return 0
    say(*_offer(source, files))
    if not files:
        raise UsageError(f"{source.title} has no address that could be downloaded from.", source.by_hand)
    if args.to is None:
        raise UsageError("There is no folder to download to.", "Name it with --to DIR.")
    if not args.yes and not agreed(args.to):
        return UsageError.exit_code
    try:
        for file in files:
            _get_one(file, args.to)
    except KeyboardInterrupt:
        say(f"What has arrived is kept in {args.to}. Repeat the command to go on.")
        raise
    show(str(args.to))
    say(f"Check it: corrkit data check {args.task} --data {args.to}")
    return 0


def _offer(source: "Source", files: "Sequence[SourceFile]") -> list[str]:
    unverified = "" if source.licence_verified else " [not verified]"
    lines = [source.title, f"  page:    {source.page}", f"  licence: {source.licence}{unverified}"]
    for file in files:
        size = f"{file.size / 1e6:,.1f} MB" if file.size else "size not known"
        digest = "sha256 known" if file.sha256 else "md5 known" if file.md5 else "digest not known"
        lines.append(f"  file:    {file.url} ({size}, {digest}; {file.source})")
    return lines


def _get_one(file: "SourceFile", folder: Path) -> None:
    from tqdm import tqdm

    from corrkit.datasets.download import download
    from corrkit.datasets.unpacking import unpack

    with tqdm(disable=None, leave=False, unit="B", unit_scale=True, dynamic_ncols=True, file=sys.stderr) as bar:

        def progress(name: str, done: int, total: int | None) -> None:
            bar.total = total
            bar.set_description_str(one_line(name), refresh=False)
            bar.update(done - bar.n)

        archive = download(file, folder, progress)
    num_files, differing = unpack(archive, folder)
    say(f"{archive}: {num_files} files unpacked")
    for path in differing:
        say(f"note: {path} was there already and differs: it was kept.")
