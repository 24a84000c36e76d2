"""Writes the table of systems into docs/checkpoints.md, from the registry."""

import re
from pathlib import Path

from corrkit.checkpoints.table import systems_table

PAGE = Path(__file__).parent / "checkpoints.md"


def updated(page: str) -> str:
    """The page with the table as the registry has it now."""
    return re.sub(
        r"(<!-- systems -->\n).*?(<!-- /systems -->)",
        lambda match: f"{match[1]}{systems_table()}\n{match[2]}",
        page,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
