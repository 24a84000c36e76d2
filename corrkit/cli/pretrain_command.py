"""`corrkit pretrain`: trains a recipe and writes checkpoints that `corrkit eval` reads."""

import argparse
import sys
from typing import TYPE_CHECKING

from corrkit.cli.arguments import assignment

if TYPE_CHECKING:
    from corrkit.training.schema import AnyRecipe

EXAMPLES = """\
examples:
  corrkit pretrain list
  corrkit pretrain siammae --data embedded --out runs/siammae-tiny --scale tiny
  corrkit pretrain siammae --data kinetics/train --out runs/siammae --batch 64 --accumulate 4 --workers 8
  corrkit pretrain siammae --data videos --out runs/joint --set encoder.joint=true --set masks.0.ratio=0.75
  torchrun --nproc-per-node 8 -m corrkit pretrain mae --data photos --out runs/mae --batch 64
  corrkit eval davis --ckpt runs/siammae/checkpoint.pth

Repeating a command goes on where it stopped, with the same losses as an undisturbed run."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `corrkit pretrain`."""
    parser.add_argument("recipe", help="name of a recipe; `list` names them all, `RECIPE --show` prints one")
    parser.add_argument("--data", metavar="FOLDER", help="videos, frame folders, images, or `embedded`")
    parser.add_argument("--out", metavar="DIR", help="folder of the run")
    parser.add_argument("--show", action="store_true", help="print the recipe with what is unverified, and stop")
    parser.add_argument(
        "--scale", metavar="NAME", help="tiny, demo, small, base or large, in place of the recipe's own"
    )
    parser.add_argument(
        "--set", metavar="NAME=VALUE", action="append", default=[], type=assignment, help="override a constant"
    )
    parser.add_argument("--init", metavar="SPEC", help="start from the encoder of any checkpoint")
    parser.add_argument("--batch", type=int, metavar="N", help="clips or images of one pass on one device")
    parser.add_argument("--accumulate", type=int, default=1, metavar="N", help="passes of one step")
    parser.add_argument("--steps", type=int, metavar="N", help="length of the training, in place of the epochs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that decode ahead of each rank; default: what the machine has",
    )
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16"], default="fp32")
    parser.add_argument("--ema", type=float, default=0.0, metavar="M", help="momentum of an average of the encoder")
    parser.add_argument(
        "--parallel",
        choices=["ddp", "fsdp"],
        default="ddp",
        help="what torchrun's processes hold: all, or a share each",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--log-every", type=int, default=10, metavar="N")
    parser.add_argument("--picture-every", type=int, default=500, metavar="N")
    parser.add_argument("--save-every", type=int, default=500, metavar="N")
    parser.add_argument("--eval-every", type=int, default=0, metavar="N", help="0: never")
    parser.add_argument("--eval-tasks", default="davis,vip,jhmdb", metavar="TASK,TASK")
    parser.add_argument("--embedded-clips", type=int, default=300, metavar="N", help="clips rendered for `embedded`")


def run(args: argparse.Namespace) -> int:
    """Trains, and prints the path of the checkpoint."""
    from corrkit.errors import UsageError
    from corrkit.training.recipe import load_recipe, recipe_names

    if args.recipe == "list":
        for name in recipe_names():
            recipe = load_recipe(name)
            print(f"{name:14} {recipe.title}; {recipe.proven}")
        return 0
    recipe = load_recipe(args.recipe, scale=args.scale, changes=dict(args.set))
    if args.show:
        _show(recipe)
        return 0
    if not args.data or not args.out:
        raise UsageError("Training needs --data and --out.", "Give both, or --show to print the recipe.")
    for name, reason in recipe.unverified.items():
        print(f"unverified: {name}: {reason}", file=sys.stderr)
    from corrkit.training.loop import Options, pretrain

    options = Options(
        batch=args.batch,
        accumulate=args.accumulate,
        steps=args.steps,
        seed=args.seed,
        workers=args.workers,
        precision=args.precision,
        average=args.ema,
        parallel=args.parallel,
        device=args.device,
        start_from=args.init,
        log_every=args.log_every,
        picture_every=args.picture_every,
        save_every=args.save_every,
        evaluate_every=args.eval_every,
        tasks=tuple(args.eval_tasks.split(",")),
        embedded_clips=args.embedded_clips,
    )
    print(pretrain(recipe, args.data, args.out, options))
    return 0


def _show(recipe: "AnyRecipe") -> None:
    """Every constant with its dotted name, and what is unverified."""
    from corrkit.training.recipe import leaves

    for name, value in leaves(recipe):
        mark = "  [unverified]" if any(name == key or name.startswith(f"{key}.") for key in recipe.unverified) else ""
        print(f"{name} = {value}{mark}")
