"""The table of systems for the documentation, made from the registry itself."""

from corrkit.checkpoints.registry import SYSTEMS
from corrkit.checkpoints.system import System

_PROVEN = {"golden": "yes", "source": "no", "unknown": "unknown"}


def systems_table() -> str:
    """All systems of the registry as a Markdown table, by title."""
    rows = [_row(system) for system in sorted(SYSTEMS.values(), key=lambda system: system.title.lower())]
    head = "| system | name | branch evaluated | mean / std | proven | read in |\n|---|---|---|---|---|---|"
    return "\n".join([head, *rows])


def proof(system: System) -> str:
    """Whether the features of a system are proven: yes, no, unknown, or refused."""
    return _PROVEN[system.proven] if system.refuse is None else "refused"


def _row(system: System) -> str:
    branch = ", ".join(f"{good} (not {other})" for good, other in system.prefers) or "the only one"
    statistics = "stored in the file" if system.statistics else f"{_first(system.mean)} / {_first(system.std)}"
    return f"| {system.title} | `{system.name}` | {branch} | {statistics} | {proof(system)} | {system.source} |"


def _first(values: tuple[float, ...]) -> str:
    """The red channel's, which tells the usual statistics apart."""
    return f"{values[0]:.4g}"
