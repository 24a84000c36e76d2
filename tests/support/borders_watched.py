"""Reads hostile data while an audit hook records processes, sockets, and files outside of where it may read and write.

A script that takes JSON: {"warm": [job], "jobs": [job], "out": folder, "secret": folder, "address": [host, port] or
null, "given": [folders that may be read beside out and what is installed], or null for all but secret}; a job is
[kind, *arguments], kind being get, check, score, eval, or command with the words of a command line. Prints {"events":
[...], "outcomes": [...]}. It is a process of its own, because an audit hook can't be removed.
"""

import contextlib
import io
import json
import os
import sys
import sysconfig
from itertools import zip_longest
from pathlib import Path

import corrkit
from corrkit.cli import main as command_line
from corrkit.datasets.checking import DataCheck
from corrkit.datasets.download import download
from corrkit.datasets.sources import SourceFile
from corrkit.datasets.unpacking import unpack
from corrkit.errors import CorrkitError
from corrkit.files.archive import open_root

PROCESSES = ("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "pty.")
CHANGES = (
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "shutil.",
)
FOLDERS = {
    "os.mkdir": (2,),
    "os.rename": (2, 3),
    "os.remove": (1,),
    "os.rmdir": (1,),
    "os.link": (2, 3),
    "os.chmod": (2,),
}  # which arguments are the open folders that an event's paths are seen from, or -1
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
LISTING = ("os.listdir", "os.scandir")
INSTALLED = [*{*sysconfig.get_paths().values()}, sys.prefix, sys.base_prefix, *filter(None, sys.path), "/usr"]
SYSTEM = ["/proc", "/sys/devices", "/sys/fs/cgroup", "/dev/null", "/dev/urandom"]


class Watch:
    def __init__(self, out: str, secret: str, address: list[object] | None, given: list[str] | None) -> None:
        self.out, self.secret, self.address = os.path.realpath(out), os.path.realpath(secret), address
        read = [os.path.realpath(place) for place in (*(given or ["/"]), out, *INSTALLED, *SYSTEM)]
        self.read = [place for place in read if not is_within(self.secret, place) or given is None]
        self.events: set[str] = set()
        self.watching = False
        self.job = 0

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.watching and self.is_forbidden(event, arguments):
            self.events.add(f"{event} {str(arguments)[:200]} of job {self.job}")

    def is_forbidden(self, event: str, arguments: tuple[object, ...]) -> bool:
        if event.startswith(PROCESSES):
            return True
        if event.startswith("socket.") and event not in {"socket.__new__", "socket.gethostname"}:
            return self.address is None or not set(map(str, self.address)) & set(map(str, _flat(arguments)))
        if event == "open" and isinstance(arguments[0], str | bytes):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            writes = bool(int(arguments[2] or 0) & WRITING)  # type: ignore[call-overload]
            return not self.may_write(path) if writes else not self.may_read(path)
        if event in LISTING and isinstance(arguments[0], str | bytes):
            return not self.may_read(os.path.realpath(os.fsdecode(arguments[0])))
        if event.startswith(CHANGES):
            return not all(map(self.may_write, _changed(event, arguments)))
        return False

    def may_read(self, path: str) -> bool:
        return any(is_within(path, place) for place in self.read) and not is_within(path, self.secret)

    def may_write(self, path: str) -> bool:
        return is_within(path, self.out) or path == "/dev/null"


def is_within(path: str, place: str) -> bool:
    return path == place or path.startswith(f"{place.rstrip('/')}/")


def _changed(event: str, arguments: tuple[object, ...]) -> list[str]:
    paths = [os.fsdecode(a) for a in arguments[:2] if isinstance(a, str | bytes)]
    opened = [arguments[index] for index in FOLDERS.get(event, ())]
    folders = [f"/proc/self/fd/{number}" if number != -1 else "" for number in opened]
    return [os.path.realpath(Path(folder, path)) for folder, path in zip_longest(folders, paths, fillvalue="")]


def _flat(values: object) -> list[object]:
    return [item for value in values for item in _flat(value)] if isinstance(values, tuple) else [values]


def do(kind: str, out: str, *arguments: str) -> str:
    """Any error but a CorrkitError ends the process with its traceback; that of a command is its exit code."""
    if kind == "command":
        return command(*arguments)
    small = {"davis": {"size": "[64]", "multiple": "16"}, "vip": {"size": "[64]", "multiple": "16"}}
    try:
        if kind == "get":
            archive = download(SourceFile(url=arguments[0], source="test"), Path(out) / "got")
            unpack(archive, Path(out) / "unpacked")
            return "unpacked"
        task, root, *rest = arguments
        settings = small.get(task, {"size": "[64, 64]"})
        if kind == "check":
            return f"{len(list(DataCheck(task, open_root(root), split=rest[0], expected=()).faults()))} faults"
        if kind == "score":
            grid = (40, 30) if task == "jhmdb" else None
            result = corrkit.score(task, data=root, pred=rest[0], allow_partial=True, grid=grid)
        else:
            split = rest[0] if rest else None
            result = corrkit.evaluate(task, "rgb", data=root, split=split, dataset_name="x", out=out, **settings)
    except CorrkitError as error:
        return f"refused: {error}"
    return f"{result.summary['clips']} clips, {len(result.failures)} failures"


def command(*words: str) -> str:
    """Exit code, and the last line that was said."""
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            code = command_line(list(words))
        except SystemExit as error:  # argparse
            code = int(error.code or 0)
    return f"{code}: {' / '.join(said.getvalue().splitlines()[-2:])}"


def main() -> None:
    request = json.load(sys.stdin)
    watch = Watch(request["out"], request["secret"], request["address"], request.get("given"))
    for number, job in enumerate(request["warm"]):
        do(job[0], f"{request['out']}/warm{number}", *job[1:])
    sys.addaudithook(watch)
    watch.watching = True
    outcomes = []
    for watch.job, job in enumerate(request["jobs"]):
        outcomes.append(do(job[0], f"{request['out']}/{watch.job}", *job[1:]))
    watch.watching = False
    print(json.dumps({"events": sorted(watch.events), "outcomes": outcomes}))


if __name__ == "__main__":
    main()
