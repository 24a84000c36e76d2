"""`corrkit pretrain`: trains a recipe and writes checkpoints that `corrkit eval` reads."""

import argparse
from typing import TYPE_CHECKING

from corrkit.cli.arguments import assignment, names
from corrkit.cli.talk import show

if TYPE_CHECKING:
    from corrkit.training.schema import AnyRecipe

EXAMPLES = """\
examples:
  corrkit pretrain list
  corrkit pretrain siammae --data embedded --out runs/siammae-tiny --scale tiny
  corrkit pretrain siammae --data kinetics/train --out runs/siammae --batch 64 --accumulate 4 --workers 8
  corrkit pretrain siammae --data videos --out runs/joint --set encoder.joint=true --set masks.0.ratio=0.75
  torchrun --nproc-per-node 8 -m corrkit pretrain mae --data photos --out runs/mae --batch 64
  corrkit pretrain mine.toml --data clips.csv --out runs/mine --resume-with optimiser.clip=1
  corrkit eval davis --ckpt runs/siammae/checkpoint.pth

Repeating a command goes on where it stopped, with the same losses as an undisturbed run. SIGTERM and SIGUSR1 end it
after the step it is in, with a checkpoint and exit code 0."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `corrkit pretrain`."""
    add = parser.add_argument
    add(
        "recipe",
        help="name of a recipe, or a TOML file that extends one; `list` names them, `RECIPE --show` prints one",
    )
    add("--data", metavar="PATH", help="folder of videos, frame folders or images, a list file, or `embedded`")
    add("--out", metavar="DIR", help="folder of the run")
    add("--show", action="store_true", help="print the recipe with what is unverified, and stop")
    add("--scale", metavar="NAME", help="tiny, demo, small, base or large, in place of the recipe's own")
    add("--set", metavar="NAME=VALUE", action="append", default=[], type=assignment, help="override a constant")
    add("--init", metavar="SPEC", help="start from the encoder of any checkpoint")
    add("--heads", type=int, metavar="N", help="attention heads of that checkpoint, where it can't tell")
    add("--batch", type=int, metavar="N", help="clips or images of one pass on one device")
    add("--accumulate", type=int, default=1, metavar="N", help="passes of one step")
    add("--steps", type=int, metavar="N", help="length of the training, in place of the epochs")
    add("--seed", type=int, default=0)
    add("--workers", type=int, metavar="N", help="processes that decode for each rank; default: what the machine has")
    add("--precision", choices=["fp32", "bf16", "fp16"], default="fp32")
    add("--ema", type=float, default=0.0, metavar="M", help="momentum of an average of the encoder")
    add(
        "--parallel",
        choices=["ddp", "fsdp"],
        default="ddp",
        help="what torchrun's processes hold: all, or a share each",
    )
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--keep", type=int, default=1, metavar="N", help="checkpoints that are kept, the last included")
    add(
        "--resume-with",
        metavar="NAME[=VALUE]",
        action="append",
        default=[],
        help="go on with a change: optimiser.rate, optimiser.clip, precision, steps, ranks, versions, device",
    )
    add("--damaged", type=float, default=0.01, metavar="SHARE", help="of the clips that may turn out unreadable")
    add("--log", choices=["tensorboard", "wandb", "trackio"], help="where else numbers go than to log.csv")
    add("--log-every", type=int, default=10, metavar="N")
    add("--picture-every", type=int, default=500, metavar="N")
    add("--save-every", type=int, default=500, metavar="N")
    add("--eval-every", type=int, default=0, metavar="N", help="0: never")
    add("--eval-tasks", metavar="TASK,TASK", help="default: all that clips come with")
    add("--embedded-clips", type=int, default=300, metavar="N", help="clips rendered for `embedded`")


def run(args: argparse.Namespace) -> int:
    """Trains, and prints the path of the checkpoint."""
    from corrkit.errors import CorrkitError, UsageError
    from corrkit.processes.ranks import rank_and_count
    from corrkit.task_table import embedded_tasks
    from corrkit.training.recipe import load_recipe, recipe_names

    if args.recipe == "list":
        for name in recipe_names():
            recipe = load_recipe(name)
            print(f"{name:14} {recipe.title}; {recipe.proven}")
        return 0
    recipe = load_recipe(args.recipe, scale=args.scale, changes={**dict(args.set), **_changes(args)})
    if args.show:
        _show(recipe)
        return 0
    if not args.data or not args.out:
        raise UsageError("Training needs --data and --out.", "Give both, or --show to print the recipe.")
    from corrkit.tasks.roots import require_outside_data
    from corrkit.training.loop import pretrain
    from corrkit.training.options import Options
    from corrkit.training.reporting import FILLED

    require_outside_data(args.out, args.data, parts=FILLED)

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
        heads=args.heads,
        resume_with=tuple(given.partition("=")[0] for given in args.resume_with),
        keep=args.keep,
        damaged=args.damaged,
        log=args.log,
        log_every=args.log_every,
        picture_every=args.picture_every,
        save_every=args.save_every,
        evaluate_every=args.eval_every,
        tasks=embedded_tasks() if args.eval_tasks is None else tuple(names(args.eval_tasks)),
        embedded_clips=args.embedded_clips,
    )
    rank, _ = rank_and_count() or (0, 1)
    try:
        path = pretrain(recipe, args.data, args.out, options)
    except CorrkitError as error:
        if rank == 0:
            raise
        raise type(error)(f"Rank {rank}: {error.problem}", error.remedy) from error
    if rank == 0:
        show(str(path))
    return 0


def _changes(args: argparse.Namespace) -> dict[str, str]:
    """Constants that --resume-with changes; options that it changes are put in their place."""
    constants = {}
    for name, is_given, value in (given.partition("=") for given in args.resume_with):
        if is_given and name in ("precision", "steps"):
            setattr(args, name, int(value) if value.isdecimal() else value)
        elif is_given:
            constants[name] = value
    return constants


def _show(recipe: "AnyRecipe") -> None:
    """Every constant with its dotted name, and what is unverified."""
    from corrkit.files.jsontext import as_plain, leaves

    for name, value in leaves(as_plain(recipe)):
        mark = "  [unverified]" if any(name == key or name.startswith(f"{key}.") for key in recipe.unverified) else ""
        show(f"{name} = {value}{mark}")
