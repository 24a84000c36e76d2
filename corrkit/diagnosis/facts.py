"""The form of a fact."""

from dataclasses import dataclass

from corrkit.files.jsontext import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One thing that is so here.

    text: as it is shown. value: for programs; None where the text is all there is to say. mend: the command that
    mends it, or what to do where no command does; "" where nothing is amiss.
    """

    name: str
    text: str
    value: Json = None
    mend: str = ""
