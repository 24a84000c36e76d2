"""The registry of systems: one entry per system, in the order in which their signs are looked for.

To add a system, add an entry to one of the modules beside this one (or a module to `_MODULES`) and a golden to
tests/golden/checkpoints: docs/checkpoints.md says how. Reading the entries loads no torch: tables ask them, too.
"""

import importlib
from collections.abc import Mapping
from types import MappingProxyType

from corrkit.checkpoints.system import Layout, System

# Special before general: the first entry whose signs fit is taken. `plain` holds the fallbacks and comes last.
_MODULES = (
    "pretrained",
    "convolutional",
    "hierarchical",
    "recurrent",
    "video",
    "masked",
    "contrastive",
    "supervised",
    "huggingface",
    "huggingface_stages",
    "torchvision",
    "plain",
)


def _collect() -> dict[str, System]:
    systems: dict[str, System] = {}
    for module in _MODULES:
        for system in importlib.import_module(f"{__name__}.{module}").ENTRIES:
            assert system.name not in systems, f"two entries are named {system.name}"
            systems[system.name] = system
    return systems


SYSTEMS: Mapping[str, System] = MappingProxyType(_collect())
LAYOUTS: tuple[Layout, ...] = tuple(
    {layout.name: layout for system in SYSTEMS.values() for layout in system.layouts}.values()
)
PREFERS: tuple[tuple[str, str], ...] = tuple(
    dict.fromkeys(pair for system in SYSTEMS.values() for pair in system.prefers)
)
