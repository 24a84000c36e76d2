"""A pickle machine that can't run anything: names stay names, instances become stubs, calls come from a fixed list.

The standard library's unpickler resolves names by importing them and calls what it got; its C version also trusts sizes
and memo indices of the stream. This machine interprets the opcodes that `pickletools.genops` parses and holds nothing
that it could call except the functions of `calls`. Long strings aren't read at all: they stay spans of the file.
"""

import pickletools
import re
import struct
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

from corrkit.checkpoints.opening.inert import MalformedError, Names, Source, Span, Stub, Tree

_T = TypeVar("_T")


def unpickle(
    stream: "Window",
    *,
    claim: Callable[[int, str], None],
    calls: Mapping[str, Callable[..., Tree]],
    names: Names,
    persistent: Callable[[Tree], Tree] | None = None,
) -> Tree:
    """The object of one pickle, read from the stream's position to just behind its STOP.

    Args:
        stream: read forwards; strings longer than 64 KiB become spans of it.
        claim: told the bytes that each step takes; raises where they are too many.
        calls: the functions that may be called, by dotted name; any other is added to `names.refused`.
        names: filled with what was met.
        persistent: resolves persistent ids (torch's storages).

    Raises:
        MalformedError: not a whole pickle.
    """
    machine = _Machine(calls, names, persistent)
    try:
        while True:
            code = stream.read(1)
            if code not in _OPCODES:
                raise ValueError(f"an unknown opcode {code!r}" if code else "the pickle has no end")
            name, reader, prefix = _OPCODES[code]
            if name == "STOP":
                return machine.stack.pop()
            argument = _argument(stream, name, reader, prefix)
            claim(_STEP + _SIZES.get(name, 0) + _extent(argument), "a pickle of that many steps")
            machine.step(name, argument)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, struct.error) as error:
        raise MalformedError(f"{type(error).__name__}: {str(error)[:200]}") from error


_LENGTHS = {"BINBYTES": 4, "BINBYTES8": 8, "BINUNICODE": 4, "BINUNICODE8": 8, "BINSTRING": 4, "BYTEARRAY8": 8}
_OPCODES: dict[bytes, tuple[str, Callable[..., Tree] | None, int]] = {
    op.code.encode("latin-1"): (op.name, op.arg.reader if op.arg else None, _LENGTHS.get(op.name, 0))
    for op in pickletools.opcodes
}
_LONG = 64 << 10  # bytes from which a string stays in the file
_STEP = 64  # bytes that a step takes at most besides its result: places on the stack and in the memo
# What results take beyond that, about (CPython 3.11 to 3.14).
_SIZES = {
    **dict.fromkeys(("EMPTY_SET", "FROZENSET"), 220),
    **dict.fromkeys(("GLOBAL", "STACK_GLOBAL", "NEWOBJ", "NEWOBJ_EX", "REDUCE", "OBJ", "INST"), 400),
    **dict.fromkeys(("SETITEM", "DICT", "EMPTY_DICT"), 64),
    "MARK": 64,
}


def _argument(stream: "Window", name: str, reader: Callable[..., Tree] | None, prefix: int) -> Tree:
    if reader is None:
        return None
    if prefix:
        start = stream.tell()
        length = int.from_bytes(stream.read(prefix), "little")
        if length > _LONG:
            return stream.span(length, "utf-8" if name.startswith("BINUNICODE") else "bytes")
        stream.seek(start)
    return reader(stream)


def _extent(argument: object) -> int:
    return sys.getsizeof(argument) if isinstance(argument, str | bytes | bytearray | int) else 0


class Window:
    """A stretch of a file's bytes, read forwards like a file. `source`: whatever gives bytes for a slice."""

    def __init__(self, source: Source, start: int, end: int) -> None:
        self.source, self.start, self.end, self.position = source, start, end, start

    def __len__(self) -> int:
        return self.end - self.start

    def tell(self) -> int:
        """The position, counted from the start of the window."""
        return self.position - self.start

    def seek(self, position: int) -> None:
        """To a position counted from the start of the window."""
        self.position = self.start + position

    def read(self, size: int) -> bytes:
        """So many bytes, fewer at the end."""
        stop = min(self.position + max(size, 0), self.end)
        content = bytes(self.source[self.position : stop])
        self.position = stop
        return content

    def readline(self) -> bytes:
        """To the next newline. Raises ValueError for lines of more than 16 MiB."""
        limit = min(self.position + _MAX_LINE, self.end)
        found = self.source.find(b"\n", self.position, limit)
        if found < 0 and limit < self.end:
            raise ValueError("an endless line")
        return self.read((found + 1 if found >= 0 else self.end) - self.position)

    def span(self, length: int, encoding: str) -> Span:
        """The next bytes as a span of the source, unread."""
        if self.position + length > self.end:
            raise ValueError("a string that goes beyond the end")
        span = Span(self.position, length, encoding)
        self.position += length
        return span


_MAX_LINE = 16 << 20


# Opcodes whose argument is the value. LONG4, a whole number of more than 255 bytes, isn't among them: Python refuses to
# print one, and no state of a random generator has more than 32.
_VALUES = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)
_CONSTANTS: dict[str, Callable[[], Tree]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
}
_IGNORED = frozenset(("PROTO", "FRAME", "READONLY_BUFFER"))
_GETS = frozenset(("GET", "BINGET", "LONG_BINGET"))
_PUTS = frozenset(("PUT", "BINPUT", "LONG_BINPUT"))


class _Machine:
    def __init__(
        self,
        calls: Mapping[str, Callable[..., Tree]],
        names: Names,
        persistent: Callable[[Tree], Tree] | None,
    ) -> None:
        self.calls = calls
        self.names = names
        self.persistent = persistent
        self.stack: list[Tree] = []
        self.below_marks: list[list[Tree]] = []
        self.memo: dict[int, Tree] = {}

    def step(self, name: str, argument: Tree) -> None:
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _GETS:
            self.stack.append(self.memo[_exactly(argument, int)])
        elif name in _PUTS:
            self.memo[_exactly(argument, int)] = self.stack[-1]
        elif name not in _IGNORED:
            method = getattr(self, f"op_{name.lower()}", None)
            if method is None:
                raise ValueError(f"opcode {name} isn't supported")
            method(argument)

    def above_mark(self) -> list[Tree]:
        above, self.stack = self.stack, self.below_marks.pop()
        return above

    # --- stack and memo -------------------------------------------------------------------------------------------
    def op_mark(self, _: object) -> None:
        self.below_marks.append(self.stack)
        self.stack = []

    def op_memoize(self, _: object) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def op_pop(self, _: object) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.above_mark()

    def op_pop_mark(self, _: object) -> None:
        self.above_mark()

    def op_dup(self, _: object) -> None:
        self.stack.append(self.stack[-1])

    # --- containers -----------------------------------------------------------------------------------------------
    def op_tuple(self, _: object) -> None:
        items = self.above_mark()
        self.stack.append(tuple(items))

    def op_tuple1(self, _: object) -> None:
        self.stack[-1:] = [(self.stack[-1],)]

    def op_tuple2(self, _: object) -> None:
        self.stack[-2:] = [(self.stack[-2], self.stack[-1])]

    def op_tuple3(self, _: object) -> None:
        self.stack[-3:] = [(self.stack[-3], self.stack[-2], self.stack[-1])]

    def op_list(self, _: object) -> None:
        items = self.above_mark()
        self.stack.append(items)

    def op_dict(self, _: object) -> None:
        items = self.above_mark()
        self.stack.append({})
        self.set_items(items)

    def op_frozenset(self, _: object) -> None:
        items = self.above_mark()
        self.stack.append({require_key(item) for item in items})

    def op_append(self, _: object) -> None:
        self.append_items([self.stack.pop()])

    def op_appends(self, _: object) -> None:
        self.append_items(self.above_mark())

    def append_items(self, items: list[Tree]) -> None:
        target = self.stack[-1]
        (target.elements if isinstance(target, Stub) else _exactly(target, list)).extend(items)

    def op_setitem(self, _: object) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def op_setitems(self, _: object) -> None:
        self.set_items(self.above_mark())

    def set_items(self, items: list[Tree]) -> None:
        target = self.stack[-1]
        entries = target.entries if isinstance(target, Stub) else _exactly(target, dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            entries[require_key(key)] = value

    def op_additems(self, _: object) -> None:
        items = self.above_mark()
        _exactly(self.stack[-1], set).update(require_key(item) for item in items)

    # --- names, instances, calls ----------------------------------------------------------------------------------
    def op_global(self, argument: str) -> None:
        module, name = argument.split(" ", 1)
        self.stack.append(_named(module, name))

    def op_stack_global(self, _: object) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(_named(_exactly(module, str), _exactly(name, str)))

    def op_newobj(self, _: object) -> None:
        arguments, cls = self.stack.pop(), self.stack.pop()
        self.stack.append(self.instance(cls, _exactly(arguments, tuple)))

    def op_newobj_ex(self, _: object) -> None:
        keywords, arguments, cls = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self.stack.append(self.instance(cls, (arguments, keywords)))

    def op_reduce(self, _: object) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.stack.append(self.call(function, _exactly(arguments, tuple)))

    def op_obj(self, _: object) -> None:
        cls, *arguments = self.above_mark()
        self.stack.append(self.call(cls, tuple(arguments)))

    def op_inst(self, argument: str) -> None:
        module, name = argument.split(" ", 1)
        self.stack.append(self.call(_named(module, name), tuple(self.above_mark())))

    def op_build(self, _: object) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Stub):
            target.state = state
        # Else the attributes of a plain container, such as an OrderedDict's `_metadata`: without meaning here.

    def op_persid(self, argument: str) -> None:
        self.stack.append(self.resolve(argument))

    def op_binpersid(self, _: object) -> None:
        self.stack.append(self.resolve(self.stack.pop()))

    def resolve(self, identifier: Tree) -> Tree:
        if self.persistent is None:
            raise ValueError("a persistent id in a pickle without storages")
        return self.persistent(identifier)

    def instance(self, cls: Tree, arguments: tuple[Tree, ...]) -> Stub:
        name = _exactly(cls, Stub).name
        self.names.instantiated.add(name)
        return Stub(name, instantiated=True, arguments=arguments)

    def call(self, function: Tree, arguments: tuple[Tree, ...]) -> Tree:
        if not isinstance(function, Stub) or function.instantiated:
            raise ValueError("calls something that isn't a name")
        if len(arguments) > _MAX_ARGUMENTS:
            raise ValueError(f"a call with {len(arguments)} arguments")
        name = function.name
        if name in ("copyreg.__newobj__", "copyreg._reconstructor"):  # protocols 0 and 1: instances by a call
            return self.instance(arguments[0], arguments[1:])
        if name == "torch._tensor._rebuild_from_type_v2":  # (function, type, arguments, attributes): tensor subclasses
            return self.call(arguments[0], _exactly(arguments[2], tuple))
        if name in self.calls:
            return self.calls[name](*arguments)
        if _is_class(name):
            return self.instance(function, arguments)
        self.names.refused.add(name)
        self.names.given.update(argument.name for argument in arguments if isinstance(argument, Stub))
        return Stub(name, arguments=arguments)


# The memo lets a few bytes refer to a large object again and again; whatever copies one must be bounded.
_MAX_ARGUMENTS = 64
_MAX_NAME = 500
_MAX_KEY_ITEMS = 16
_MAX_KEY_TEXT = 1000


def _named(module: str, name: str) -> Stub:
    if len(module) + len(name) > _MAX_NAME:
        raise ValueError("an endless name")
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))  # Python 2's names
    return Stub(f"{module}.{name}")


# Standard classes that only hold data. Any other call into Python's own library is refused.
_INERT = re.compile(
    r"(pathlib|datetime|decimal|fractions|uuid)\.[A-Za-z]\w*|argparse\.Namespace|types\.SimpleNamespace"
    r"|functools\.partial|collections\.(Counter|defaultdict|deque)"
    r"|builtins\.(object|complex|range|slice|int|float|str|bool)|torch\.device"
)


def _is_class(name: str) -> bool:
    """Whether a called name is a class: known to be inert, or CamelCase (PEP 8) and not from Python's own library."""
    module, _, last = name.rpartition(".")
    if _INERT.fullmatch(name):
        return True
    return module.split(".")[0] not in sys.stdlib_module_names and last.lstrip("_")[:1].isupper()


_MAX_KEY = 2**61 - 2  # larger integers can share one hash (CPython's modulus is 2**61 - 1): quadratic dicts


def require_key(key: object) -> Hashable:
    """A key that is cheap to hash and to print: no nested tuples (exponential through the memo), no huge integers."""
    if not isinstance(key, tuple) or len(key) > _MAX_KEY_ITEMS:
        return _flat_key(key)
    texts = (item.name if isinstance(item, Stub) else item for item in key if isinstance(item, str | bytes | Stub))
    if sum(map(len, texts)) > _MAX_KEY_TEXT:  # the memo repeats a long text at the cost of two bytes
        raise ValueError("an endless text in a key")
    return _TupleKey(_flat_key(item) for item in key)


class _TupleKey(tuple[Hashable, ...]):
    """Hashed by its numbers' text: a tuple's own hash is a known sum, so many could share one (quadratic dicts).

    Hashes of text are drawn anew by each process (PYTHONHASHSEED).
    """

    __slots__ = ()

    def __hash__(self) -> int:
        return hash(tuple(str(item) if isinstance(item, int | float) else item for item in self))


def _flat_key(key: object) -> Hashable:
    if not isinstance(key, str | bytes | bool | int | float | Stub | None):
        raise TypeError(f"a {type(key).__name__} as key")
    if isinstance(key, int) and abs(key) > _MAX_KEY:
        raise ValueError("a huge integer as key")
    return key


def _exactly(value: object, kind: type[_T]) -> _T:
    if type(value) is not kind:
        raise TypeError(f"a {type(value).__name__} instead of a {kind.__name__}")
    return value
