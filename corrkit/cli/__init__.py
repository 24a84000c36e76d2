"""The command line: one module per command, imported only when that command runs.

stdout carries the result, stderr the talk. Exit codes: 0 done, 1 a check failed, 2 the user can mend it, 70 our bug,
130 interrupted.
"""

import argparse
import contextlib
import errno
import importlib
import io
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from corrkit import __version__
from corrkit.cli.talk import say, talk_costs_nothing
from corrkit.errors import LESS_MEMORY, CorrkitError, closest, is_out_of_memory
from corrkit.memory import refuse_what_is_not_there

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "eval": "evaluate a checkpoint on DAVIS, VIP or JHMDB and print a results table",
        "sweep": "evaluate a checkpoint under many settings in one pass, and choose one",
        "score": "score predictions of any method, without a network",
        "track": "carry a mask, boxes or points of a first frame through a video of your own",
        "protocols": "list protocols, or show every constant of one with its source",
        "published": "print published numbers with their sources and how certain they are",
        "verify": "reproduce the published numbers of a public checkpoint, and attest it",
        "clips": "export the embedded clips in the layouts of the three data sets",
        "data": "check a data set against its manifest, write a manifest, download",
        "inspect": "say what a checkpoint is and why, and how to evaluate it",
        "systems": "list the systems whose checkpoints are known",
        "convert": "write the cleaned backbone of a checkpoint as safetensors",
        "pretrain": "train SiamMAE or a relative, scored as it trains",
        "leaderboard": "join runs into one table of comparable rows",
        "compare": "say whether a difference between runs is real, and where it comes from",
        "report": "show runs as one HTML file: curves, pictures, what went wrong",
        "card": "tell others of runs: a model card for the hub, records of Every Eval Ever",
        "regress": "compare a checkpoint with a baseline on the embedded clips (CI)",
        "docs": "say where the documentation is, or print a page of it",
        "doctor": "say what this machine and installation can do",
    }
)
EXIT_OUR_BUG = 70
EXIT_INTERRUPTED = 130
_MENDABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns the process's exit code."""
    _open_what_is_closed()
    _show_every_character()
    arguments = sys.argv[1:] if argv is None else argv
    if argv is None:  # as a program: a process of somebody else's keeps its limits and streams
        refuse_what_is_not_there()
        talk_costs_nothing()
    try:
        code = _main(arguments)
        sys.stdout.flush()
    except OSError as error:  # of what is printed beside a command's own result: help, the version
        if isinstance(error, BrokenPipeError):
            _forget_stdout()
            return 0
        return _not_written(error)
    return code


def _main(arguments: list[str]) -> int:
    name = arguments[0] if arguments else "--help"
    if name in {"-h", "--help", "help"}:
        print(_overview())
        return 0
    if name in {"-V", "--version"}:
        print(f"corrkit {__version__}")
        return 0
    if name not in COMMANDS:
        say(f"corrkit: there is no command {name!r}. {closest(name, COMMANDS)}", "See corrkit --help.")
        return CorrkitError.exit_code
    _share_processors()
    command = importlib.import_module(f"corrkit.cli.{name}_command")
    parser = _Parser(
        prog=f"corrkit {name}",
        description=f"{COMMANDS[name][0].upper()}{COMMANDS[name][1:]}.",
        epilog=getattr(command, "EXAMPLES", None),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    command.add_arguments(parser)
    args = parser.parse_args(arguments[1:])
    if not _has_folder():
        say("corrkit: the working directory is gone, or can't be read.", "Go to another one (cd), then repeat it.")
        return CorrkitError.exit_code
    return _run(command, args)


def _has_folder() -> bool:
    """Whether there is a working directory: without one torch's MKL ends the process before anything can be said."""
    try:
        return Path.cwd().is_dir()
    except OSError:
        return False


class _Parser(argparse.ArgumentParser):
    """The parser of a command; argparse itself ends with 0 where help can't be written."""

    def print_help(self, file: "SupportsWrite[str] | None" = None) -> None:
        print(self.format_help(), end="", file=file)
        sys.stdout.flush()


def _open_what_is_closed() -> None:
    """A stream that was closed (`>&-`) leads nowhere: else the next file that is opened would take its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - for as long as we run


def _show_every_character() -> None:
    """A character that stdout's encoding lacks is written as an escape: a finished table is never lost to it."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _share_processors() -> None:
    """Idle OpenMP threads sleep instead of spinning, unless the user says otherwise.

    Spinning wins a little on an idle machine; where a second process wants the cores every small operation of the
    matching waits for a thread that is not running (measured: 6 times slower, against 1.2 times asleep).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")


def _run(command: object, args: argparse.Namespace) -> int:
    try:
        code: int = command.run(args)  # type: ignore[attr-defined]  # every command module has run(args) -> int
        sys.stdout.flush()
    except CorrkitError as error:
        if args.debug:
            raise
        say(*f"corrkit: {error}".split("\n"))
        return error.exit_code
    except KeyboardInterrupt:
        say("corrkit: interrupted.")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of stdout went away (| head): not an error, but Python would complain while closing stdout.
        _forget_stdout()
        return 0
    except Exception as error:
        if args.debug:
            raise
        if is_out_of_memory(error):
            say(f"corrkit: out of memory: {str(error).splitlines()[0] if str(error) else 'no more is to be had'}")
            say(f"{LESS_MEMORY} Finished clips of a run folder are kept.")
            return CorrkitError.exit_code
        if isinstance(error, OSError) and error.errno in _MENDABLE:
            return _not_written(error)
        if isinstance(error, OSError) and error.filename is not None:
            # A name too long, a link that leads to itself, rights: each place says it better where it expects it.
            say(f"corrkit: {os.fsdecode(error.filename)} can't be used: {error.strerror}.")
            say("Correct the path, or its permissions, then repeat the command.")
            return CorrkitError.exit_code
        say(
            f"corrkit: this is a bug in corrkit ({type(error).__name__}: {error}).",
            "Run the command again with --debug and report the traceback.",
        )
        return EXIT_OUR_BUG
    return code


def _not_written(error: OSError) -> int:
    say(f"corrkit: {error.filename or 'stdout'} can't be written: {error.strerror}.")
    say("Free some space or write elsewhere, then repeat the command.")
    _forget_stdout()
    return CorrkitError.exit_code


def _forget_stdout() -> None:
    """What is left in stdout's buffer goes nowhere: else Python would try to write it once more at its end."""
    with contextlib.suppress(io.UnsupportedOperation):  # a program's own stdout, no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name.ljust(width)}  {text}" for name, text in COMMANDS.items())
    return f"""\
usage: corrkit COMMAND [options]

corrkit {__version__}: evaluates frozen vision encoders on video correspondence.

commands:
{lines}

  corrkit COMMAND --help     the options of a command, with examples
  corrkit --version

examples:
  corrkit eval davis --ckpt hog                  the embedded clips, no network needed
  corrkit eval davis --ckpt dino.pth --data DAVIS"""
