"""Where protocol documents lie: those that come with corrkit, those of installed packages, and single files.

A package offers protocols by an entry point of the group `corrkit.protocols` that names a package with TASK/NAME.toml
files in it, beside each other as here.
"""

import functools
import re
import types
from collections.abc import Mapping
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from pathlib import Path

from corrkit.constants import parse_toml, with_parents
from corrkit.errors import ProtocolError, closest
from corrkit.files.jsontext import Json
from corrkit.files.reading import regular_text
from corrkit.task_table import task_names

ENTRY_POINTS = "corrkit.protocols"
_PACKAGE = "corrkit.protocols"


def is_file(name: str) -> bool:
    """Whether a protocol is named by a file of one's own rather than by name."""
    return name.endswith(".toml")


@functools.cache
def shipped(task: str) -> Mapping[str, Traversable]:
    """Name to document of a task's protocols that come with corrkit."""
    return types.MappingProxyType(_documents(resources.files(_PACKAGE) / task))


@functools.cache
def installed(task: str) -> Mapping[str, Traversable]:
    """The same for other packages. Raises ProtocolError for one that can't be imported, or a name given twice."""
    found: dict[str, Traversable] = {}
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        try:
            folder = resources.files(entry.value) / task
        except (ImportError, TypeError) as error:
            raise ProtocolError(
                f"The entry point {entry.name} = {entry.value} of {ENTRY_POINTS} can't be opened: {error}.",
                "Mend or uninstall the package that declares it; its value is the name of a package.",
            ) from error
        for name, document in _documents(folder).items():
            if name in found or name in shipped(task):
                raise ProtocolError(
                    f"{entry.value} offers {task}/{name}, a name that is taken.", "Rename the file in that package."
                )
            found[name] = document
    return types.MappingProxyType(found)


def read_document(document: Traversable) -> dict[str, Json]:
    """A parsed TOML document. Raises ProtocolError for a file that is missing or no TOML."""
    try:
        return parse_toml(regular_text(document) if isinstance(document, Path) else document.read_text("utf-8"))
    except FileNotFoundError:
        raise ProtocolError(f"There is no protocol file {document}.", "Correct the path.") from None
    except (OSError, ValueError) as error:
        raise ProtocolError(f"{document} can't be read as TOML: {error}.", "Correct the file.") from error


def merged(document: Mapping[str, Json], task: str) -> dict[str, Json]:
    """The document with its chain of `extends` resolved: the child's entries win, field by field."""
    chain: list[tuple[str, str]] = []

    def load(name: str) -> Mapping[str, Json]:
        if not chain:
            chain.append((task, ""))
            return document
        parent_task, _, bare = str(name).rpartition("/")  # TASK/NAME for a protocol of another task
        of_task = parent_task or chain[-1][0]
        if of_task not in task_names():  # it names a folder of the package, and no other
            raise ProtocolError(f"{name!r} is extended, and {of_task!r} is no task.", closest(of_task, task_names()))
        base = {"_base": resources.files(_PACKAGE) / of_task / "_base.toml"}
        known = {**shipped(of_task), **installed(of_task), **base}
        bare, at, version = bare.partition("@")
        if bare not in known:
            raise ProtocolError(f"There is no protocol {name!r} for {of_task} to extend.", closest(bare, known))
        if (of_task, bare) in chain:
            raise ProtocolError(f"The protocol {name!r} for {of_task} extends itself.", "Name another one to extend.")
        chain.append((of_task, bare))
        parent = read_document(known[bare])
        if at and str(parent.get("version")) != version:
            raise ProtocolError(
                f"Version {version!r} of {of_task}/{bare} is extended; here it is version {parent.get('version')}.",
                "Leave the version out to extend this one.",
            )
        return parent

    return with_parents("", load)


def own_document(path: Path, task: str | None) -> tuple[dict[str, Json], str]:
    """A document of one's own, complete, and its task.

    It may hold plain values in place of { value, source } and leave out everything that it extends. What a protocol
    says about itself (proven, quirks, unreleased) is not taken from the one it extends.

    Args:
        path: the file. `task = "davis"` in it says which task it is for.
        task: the task that is asked for, if any.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", path.stem, re.ASCII):
        raise ProtocolError(
            f"The protocol file {path} has a name that can't stand in tables and folders.",
            "Name it with letters, digits, '.', '-' and '_'.",
        )
    document = read_document(path)
    own_task = document.pop("task", task)
    if own_task is None or (task is not None and own_task != task):
        raise ProtocolError(
            f"{path} is for {own_task or 'no named task'}, {task or 'a task'} was asked for.",
            f'Write task = "{task or task_names()[0]}" at its top, and use it for that task.',
        )
    if own_task not in task_names():
        raise ProtocolError(f"{path} is for task {own_task!r}.", closest(str(own_task), task_names()))
    parent = document.get("extends", "_base")
    head: dict[str, Json] = {
        "version": 1,
        "summary": f"a protocol of one's own after {parent}",
        "proven": "nothing: a protocol of one's own",
        "cite": "",
        "quirks": [],
        "unreleased": [],
    }
    groups = {key: _sourced(value, path) for key, value in document.items() if isinstance(value, dict)}
    return merged({"extends": parent, **head, **document, **groups}, str(own_task)), str(own_task)


def _sourced(group: Mapping[str, Json], path: Path) -> dict[str, Json]:
    return {
        leaf: entry if isinstance(entry, dict) else {"value": entry, "source": f"own: {path.name}"}
        for leaf, entry in group.items()
    }


def _documents(folder: Traversable) -> dict[str, Traversable]:
    """TOML files of a folder by name; those whose name begins with "_" are parents, no protocols."""
    if not folder.is_dir():
        return {}
    files = [entry for entry in folder.iterdir() if entry.name.endswith(".toml") and not entry.name.startswith("_")]
    return {entry.name.removesuffix(".toml"): entry for entry in sorted(files, key=lambda entry: entry.name)}
