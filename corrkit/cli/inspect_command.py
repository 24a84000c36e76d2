"""`corrkit inspect`: what a checkpoint is, and why."""

import argparse
import json
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from corrkit.cli.arguments import add_loading_arguments, loading_of
from corrkit.cli.talk import show

if TYPE_CHECKING:
    from corrkit.backbones.inspection import Inspection

EXAMPLES = """\
examples:
  corrkit inspect checkpoint-799.pth
  corrkit inspect vit.safetensors --heads 6 --json
  corrkit inspect ours.pth --suggest ours.toml      names of your own: a proposal for --layout

Loads the file as eval would, evaluates nothing, and prints every decision with what it rests on."""

_PROVEN = {
    "golden": "equal to the published code on a small file",
    "source": "follows the published source; not compared with its output",
    "unknown": "not compared with published code",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `corrkit inspect`."""
    parser.add_argument("file", help="a checkpoint, or any other spec that eval takes")
    add_loading_arguments(parser, "layer")
    parser.add_argument("--suggest", metavar="FILE", help="write a proposal for --layout, for what looks like a ViT")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(args: argparse.Namespace) -> int:
    """Prints what was found out."""
    from corrkit.backbones.inspection import inspect

    if args.suggest:
        return _suggest(args)
    loading = loading_of(args)
    found = inspect(args.file, loading)
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        show(*_lines(found))
    return 0


def _suggest(args: argparse.Namespace) -> int:
    """Writes the proposal, and prints what was found and how to go on."""
    from corrkit.backbones.loading import open_spec
    from corrkit.checkpoints.suggestion import propose
    from corrkit.errors import UsageError
    from corrkit.files.atomic import write_atomic
    from corrkit.tasks.roots import require_outside_data

    given = [f"--{name}" for name in ("heads", "layer", "system", "layout", "json") if getattr(args, name)]
    if given:
        raise UsageError(f"--suggest takes no {' and no '.join(given)}.", "Leave these options out.")
    target = Path(args.suggest)
    if target.suffix != ".toml" or target.exists():
        wrong = "exists already" if target.exists() else "isn't named *.toml"
        raise UsageError(f"{target} {wrong}.", "Name a new file, *.toml.")
    require_outside_data(target)
    proposal = propose(open_spec(args.file), args.ckpt_key)
    write_atomic(target, proposal.text)
    command = shlex.join(["corrkit", "inspect", args.file, "--layout", str(target)])
    show(f"{args.file}: {proposal.sentence}", f"Check {target}, then: {command}")
    return 0


def _lines(found: "Inspection") -> list[str]:
    mode = str(found["mode"]["kind"]) + (", sees later frames" if found["mode"]["sees_future"] else "")
    size = "any size" if found["multiple"] == 1 else f"sides in multiples of {found['multiple']}"
    lines = [
        found["file"],
        f"  system        {found['system']}: {found['title']}",
        f"  proven        {_PROVEN[found['proven']]}" + (f" ({found['source']})" if found["source"] else ""),
        f"  architecture  {found['architecture']}, {found['parameters']:,} parameters",
        f"  features      stride {found['stride']}, layer {found['layer']}, {mode}, {size}, {_positions(found)}",
        f"  input         mean {_numbers(found['mean'])}, std {_numbers(found['std'])}",
    ]
    if found["tensors_total"]:
        lines.append(f"  tensors       {found['tensors_used']} of {found['tensors_total']} used")
    lines += _section("decisions", found["evidence"].items())
    lines += _section("left out", ((item["group"], item["reason"]) for item in found["dropped"]))
    lines += _section("notes", (("", note) for note in found["notes"]))
    return [*lines, "  evaluate", f"    {found['command']}"]


def _positions(found: "Inspection") -> str:
    return "no positions" if found["position"] == "none" else f"{found['position']} positions"


def _numbers(values: list[float]) -> str:
    return " ".join(f"{value:.4g}" for value in values)


def _section(title: str, items: Iterable[tuple[str, str]]) -> list[str]:
    rows = list(items)
    width = max((len(name) for name, _ in rows), default=0)
    lines = [f"    {name.ljust(width)}  {text}" if width else f"    {text}" for name, text in rows]
    return [f"  {title}", *lines] if rows else []
