"""Opens files while an audit hook records whatever would be a side effect.

As a script it prints JSON. Arguments: "files" and files to open, "load" and specs of backbones, or "fuzz", a number of
examples and files to mutate.
It is a process of its own, because an audit hook can't be removed.
"""

# The codecs of protocol 0's text, else imported when they are first met.
import encodings.raw_unicode_escape
import encodings.unicode_escape  # noqa: F401
import json
import os
import pickletools
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from corrkit.checkpoints.opening import open_checkpoint
from corrkit.errors import CheckpointError

# What opening a file may cause: reading, mapping, and the parse (no execution) of an array's header.
ALLOWED = (
    "open",
    "mmap.__new__",
    "compile",
    "object.__getattr__",
    "builtins.id",
    "os.listdir",
    "os.scandir",
    "pathlib.Path.glob",
    "sys._getframe",
)
# What making a network from an opened file causes beside that: code of the installed packages runs.
ALLOWED_BY_NETWORKS = ("exec", "import", "marshal.loads", "object.__setattr__", "function.__new__", "code.__new__")
watching = False
allowed: tuple[str, ...] = ALLOWED
events: set[str] = set()


def run_watched(folder: Path, *arguments: object) -> dict[str, Any]:
    """Runs this module as a script in an empty folder, which must stay empty."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "OMP_NUM_THREADS": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(folder.parent / "hypothesis"),
    }
    command = [sys.executable, __file__, *map(str, arguments)]
    process = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert process.returncode == 0, process.stderr[-3000:]
    assert not list(folder.iterdir()), "opening wrote into the current folder"
    result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return result


def record(event: str, arguments: tuple[Any, ...]) -> None:
    if not watching:
        return
    writes = event == "open" and int(arguments[2]) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if event not in allowed or writes:
        events.add(f"{event} {str(arguments)[:300]}")


def outcome(path: Path | str, read: Callable[[Any], object] = open_checkpoint) -> str:
    """ "opened", or the message; anything but a CheckpointError ends the process with its traceback."""
    global watching
    watching = True
    try:
        read(path)
    except CheckpointError as error:
        return str(error)
    finally:
        watching = False
    return "opened"


def peak() -> int:
    """Peak resident memory in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def open_files(paths: list[Path]) -> dict[str, Any]:
    return {"outcomes": {path.name: outcome(path) for path in paths}}


def load(specs: list[str]) -> dict[str, Any]:
    """The first spec is a sound one, and loaded beforehand."""
    from corrkit.backbones import load_backbone

    global allowed
    allowed = ALLOWED + ALLOWED_BY_NETWORKS
    outcome(specs[0], load_backbone)
    events.clear()
    outcomes, seconds, grown = {}, {}, {}
    for spec in specs:
        start, before = time.process_time(), peak()
        outcomes[spec] = outcome(spec, load_backbone)
        seconds[spec], grown[spec] = time.process_time() - start, peak() - before
    return {"outcomes": outcomes, "seconds": seconds, "grown": grown}


def fuzz(num_examples: int, bases: list[Path]) -> dict[str, Any]:
    """Opens mutated copies of the files, and pickles made of random opcodes."""
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    contents = [path.read_bytes() for path in bases]
    opcodes = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
    sizes = st.sampled_from([b"\x00" * 4, b"\xff\xff\xff\x7f", b"\xff" * 8])
    names = st.sampled_from(
        [b"cos\nsystem\n", b"cbuiltins\neval\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"X\x02\x00\x00\x00id"]
    )
    pieces = st.one_of(st.sampled_from(opcodes), st.sampled_from(opcodes), sizes, names, st.binary(max_size=8))
    edits = st.tuples(st.floats(0, 1), st.sampled_from([0, 0, 1, 8, 300]), pieces)
    mutated = st.tuples(
        st.sampled_from(contents), st.lists(edits, max_size=6), st.one_of(st.just(1.0), st.floats(0, 1))
    )
    random_pickles = st.lists(pieces, max_size=60).map(lambda parts: b"\x80\x04" + b"".join(parts) + b".")
    counts = {"opened": 0, "refused": 0}

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.pth"

        @settings(
            max_examples=num_examples,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(st.one_of(mutated.map(mutate), random_pickles))
        def run(content: bytes) -> None:
            path.write_bytes(content)
            counts["opened" if outcome(path) == "opened" else "refused"] += 1

        run()
    return counts


def mutate(recipe: tuple[bytes, list[tuple[float, int, bytes]], float]) -> bytes:
    content, edits, kept = recipe
    changed = bytearray(content)
    for place, deleted, inserted in edits:
        start = int(place * len(changed))
        changed[start : start + deleted] = inserted
    return bytes(changed[: int(kept * len(changed))])


def main() -> None:
    kind, *arguments = sys.argv[1:]
    num_examples = int(arguments.pop(0)) if kind == "fuzz" else 0
    paths = [Path(argument) for argument in arguments] if kind != "load" else []
    for path in paths:
        outcome(path)  # imports what is imported lazily
    events.clear()
    sys.addaudithook(record)
    before = peak()
    result = load(arguments) if kind == "load" else fuzz(num_examples, paths) if kind == "fuzz" else open_files(paths)
    print(json.dumps({"events": sorted(events), "memory": peak() - before, **result}))


if __name__ == "__main__":
    main()
