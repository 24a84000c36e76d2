"""The benchmarks behind one interface (`contract.Task`); each module is imported when its task is asked for."""

import pkgutil
from typing import TYPE_CHECKING

from corrkit.task_table import task_facts

if TYPE_CHECKING:
    from corrkit.tasks.contract import AnyTask


def load_task(name: str) -> "AnyTask":
    """The task called `name`. Raises UsageError for an unknown one."""
    task: AnyTask = pkgutil.resolve_name(task_facts(name).implementation)()
    return task
