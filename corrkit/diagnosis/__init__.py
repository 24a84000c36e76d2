"""What this machine and installation can do: facts, each with what mends it where something is missing.

Everything is looked at or measured when it is asked for, within a few seconds: nothing comes from a table of machines.
"""

from collections.abc import Iterator

from corrkit.diagnosis.facts import Fact


def diagnose() -> Iterator[tuple[str, Iterator[Fact]]]:
    """Sections of facts, by title; each fact is found out when it is asked for."""
    from corrkit.diagnosis import data, installation, machine, outlook

    yield "installation", installation.facts()
    yield "computing", machine.facts()
    yield "data", data.facts()
    yield "time", outlook.facts()
