"""`corrkit convert`: the cleaned backbone of a checkpoint as one safetensors file."""

import argparse

from corrkit.cli.talk import say

EXAMPLES = """\
examples:
  corrkit convert checkpoint-799.pth mae.safetensors
  corrkit convert vit.pth vit.safetensors --heads 6

The new file holds the backbone alone and what was recognised; it loads to the same features without any option."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `corrkit convert`."""
    parser.add_argument("file", help="a checkpoint file or folder, demo or hf:OWNER/NAME")
    parser.add_argument("out", help="the new file, *.safetensors")
    parser.add_argument("--heads", type=int, metavar="N", help="attention heads, where the checkpoint can't tell")
    parser.add_argument("--ckpt-key", metavar="KEY", help="branch of a checkpoint that holds several networks")
    parser.add_argument("--system", metavar="NAME", help="system of the checkpoint, where its names fit several")
    parser.add_argument("--layout", metavar="FILE", help="names and rules of a network of your own (TOML)")


def run(args: argparse.Namespace) -> int:
    """Writes the file and names it."""
    from corrkit.backbones.conversion import convert
    from corrkit.backbones.loading import Loading
    from corrkit.tasks.roots import require_outside_data

    require_outside_data(args.out)
    loading = Loading(heads=args.heads, key=args.ckpt_key, system=args.system, layout=args.layout)
    report = convert(args.file, args.out, loading)
    print(args.out)
    say(f"{report.system}, {report.architecture}: {report.tensors_used} of {report.tensors_total} tensors written")
    return 0
