"""A user's own Python file as a checkpoint: run as any script of theirs, and told apart by its source."""

import contextlib
import hashlib
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from torch import nn

from corrkit.backbones.contract import Backbone, interface_of
from corrkit.backbones.wrapped import Wrapped, wrap
from corrkit.errors import CheckpointError, CorrkitError

_INSTALLED = {"site-packages", "dist-packages"}
_PROGRAM = {"__main__", "__mp_main__"}
"""The program that runs, and what `multiprocessing` calls it in a process that it starts."""


def from_function(spec: str) -> Backbone:
    """Runs the function of a "py:FILE.py:FUNCTION" and wraps what it returns.

    The folder of the file is on the path meanwhile. The digest of what is returned holds the source of the file and of
    all modules that it imports from this folder, beside the weights: edited code is another checkpoint.

    Raises:
        CheckpointError: no such file or function, an error in it, or something returned that is no module or backbone.
    """
    match = re.fullmatch(r"py:(.+\.py):(\w+)", spec)
    if match is None:
        raise CheckpointError(f"{spec!r} doesn't name a file and a function.", "Write py:FILE.py:FUNCTION.")
    path, name = Path(match[1]), match[2]
    if not path.is_file():
        raise CheckpointError(f"{path} doesn't exist.", "Give the path of a Python file: py:FILE.py:FUNCTION.")
    try:
        with _importing_from(path.resolve().parent) as modules:
            function = runpy.run_path(str(path)).get(name)
            made = function() if callable(function) else None
    except CorrkitError:
        raise
    except Exception as error:  # the user's own code: whatever it raises is theirs to mend
        raise CheckpointError(
            f"{spec} raises {type(error).__name__}: {error}", "Correct the file; --debug shows the traceback."
        ) from error
    if not callable(function):
        raise CheckpointError(f"{path} has no function {name!r}.", "Write py:FILE.py:FUNCTION.")
    code = _source_digest(path.resolve(), name, modules)
    if isinstance(made, nn.Module) and not isinstance(made, Backbone):
        return wrap(made, digest=code)
    if not isinstance(made, Backbone):
        raise CheckpointError(
            f"{name} of {path} returns {type(made).__name__}, not a module or backbone.",
            "Return an nn.Module, or corrkit.wrap(module, patch=...).",
        )
    return _with_code(made, code)


@contextlib.contextmanager
def _importing_from(folder: Path) -> Iterator[list[ModuleType]]:
    """The folder on the path; afterwards the list holds the modules that were imported from it.

    They are forgotten then, so that another file's modules of the same names are imported from their own folder.
    """
    before, path = dict(sys.modules), list(sys.path)
    found: list[ModuleType] = []
    sys.path.insert(0, str(folder))
    try:
        yield found
    finally:
        sys.path[:] = path
        for name, module in list(sys.modules.items()):
            if _lies_in(module, folder):
                found.append(module)
                if name not in before:
                    del sys.modules[name]


def _lies_in(module: ModuleType, folder: Path) -> bool:
    """Whether a module is the user's own code below a folder: not installed there, not corrkit, not the program run."""
    file = getattr(module, "__file__", None)
    if not file or module.__name__.partition(".")[0] in {"corrkit", *_PROGRAM}:
        return False
    if not Path(file).is_absolute():
        return False  # torch.classes says "_classes.py", which would be one of the current folder; no import says such
    path = Path(file).resolve()
    return path.is_relative_to(folder) and not _INSTALLED & set(path.parts)


def _source_digest(path: Path, function: str, modules: list[ModuleType]) -> str:
    files = {path, *(Path(str(module.__file__)).resolve() for module in modules)}
    digest = hashlib.sha256(function.encode())
    for file in sorted(files):
        digest.update(f"{file.relative_to(path.parent)} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _with_code(backbone: Backbone, code: str) -> Backbone:
    """A backbone whose digest holds its source too; one that gives no digest of its own can't be told from others."""
    if isinstance(backbone, Wrapped):
        backbone.code = f"{code} {backbone.code}" if backbone.code else code
        return backbone
    own = interface_of(backbone).digest
    if own is None:
        return backbone
    place = "_digest" if isinstance(getattr(type(backbone), "digest", None), property) else "digest"
    setattr(backbone, place, hashlib.sha256(f"{own} {code}".encode()).hexdigest())
    return backbone
