"""The benchmarks, as data: each a module with one function, rows(settings, part), and what it shows.

A new one is an entry here and a module beside this one.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from measuring import Row, Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """shows: in a few words. parts: what of it can be run alone; none for one that is a whole."""

    module: str
    shows: str
    parts: tuple[str, ...] = ("",)

    @property
    def rows(self) -> Callable[[Settings, str], Iterator[Row]]:
        """From settings and a part to rows, each as soon as it is measured."""
        function: Callable[[Settings, str], Iterator[Row]] = importlib.import_module(self.module).rows
        return function


REGISTRY: Mapping[str, Benchmark] = MappingProxyType(
    {
        "startup": Benchmark(
            module="startup", shows="--help and imports; the first table; regress", parts=("help", "table", "regress")
        ),
        "matching": Benchmark(
            module="matching",
            shows="against DINO-, CRW- and VFS-style passes and the floor; peak memory",
            parts=("s16", "s8", "s4", "crw-rule", "large"),
        ),
        "evaluation": Benchmark(
            module="evaluation", shows="over the bare backbone; memory of long clips", parts=("forward", "memory")
        ),
        "jf": Benchmark(module="jf", shows="J and F against a plain rewrite and the official tool"),
        "several_protocols": Benchmark(
            module="several_protocols", shows="one pass over single runs", parts=("same", "other")
        ),
        "checkpoints": Benchmark(module="checkpoint_memory", shows="peak memory of opening files of real sizes"),
        "sweep": Benchmark(module="sweep", shows="many settings in one pass over separate runs"),
        "launches": Benchmark(module="launches", shows="kernels and waits of a frame on a GPU, counted"),
        "workers": Benchmark(
            module="workers", shows="two processes over one; balance of ranks", parts=("processes", "balance")
        ),
        "twice": Benchmark(module="twice", shows="the same command started twice at once"),
        "growth": Benchmark(
            module="growth",
            shows="with context, grid, encoder and length of the clip",
            parts=("context", "grid", "encoder", "frames"),
        ),
    }
)


def chosen(names: list[str]) -> list[tuple[str, str]]:
    """(benchmark, part) by names as NAME or NAME/PART; all for none. Raises KeyError for an unknown one."""
    found = []
    for name in names or REGISTRY:
        benchmark, _, part = name.partition("/")
        parts = REGISTRY[benchmark].parts
        if part and part not in parts:
            raise KeyError(name)
        found += [(benchmark, one) for one in parts if one == part or not part]
    return found
