"""`corrkit convert`: the cleaned backbone of a checkpoint as one safetensors file."""

import argparse

from corrkit.cli.arguments import add_loading_arguments, loading_of
from corrkit.cli.talk import say, show

EXAMPLES = """\
examples:
  corrkit convert checkpoint-799.pth mae.safetensors
  corrkit convert vit.pth vit.safetensors --heads 6

The new file holds the backbone alone and what was recognised; it loads to the same features without any option."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `corrkit convert`."""
    parser.add_argument("file", help="a checkpoint file or folder, demo or hf:OWNER/NAME")
    parser.add_argument("out", help="the new file, *.safetensors")
    add_loading_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Writes the file and names it."""
    from corrkit.backbones.conversion import convert
    from corrkit.tasks.roots import require_outside_data

    require_outside_data(args.out)
    loading = loading_of(args)
    report = convert(args.file, args.out, loading)
    show(str(args.out))
    say(f"{report.system}, {report.architecture}: {report.tensors_used} of {report.tensors_total} tensors written")
    return 0
