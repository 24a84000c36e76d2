"""The three benchmarks behind one interface (`contract.Task`); each module is imported when its task is asked for."""

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from corrkit.errors import UsageError, closest

if TYPE_CHECKING:
    from corrkit.tasks.contract import Task

TASKS: Mapping[str, str] = MappingProxyType(
    {
        "davis": "corrkit.tasks.davis:DavisTask",
        "vip": "corrkit.tasks.vip:VipTask",
        "jhmdb": "corrkit.tasks.jhmdb:JhmdbTask",
    }
)


def load_task(name: str) -> "Task":
    """The task called `name`. Raises UsageError for an unknown one."""
    if name not in TASKS:
        raise UsageError(f"There is no task {name!r}.", closest(name, TASKS))
    module, _, attribute = TASKS[name].partition(":")
    task: Task = getattr(importlib.import_module(module), attribute)()
    return task
