"""Writes the table of protocols into docs/protocols.md, from their files."""

import re
from pathlib import Path

from corrkit.protocols import load_protocol
from corrkit.protocols.explaining import markdown_table
from corrkit.protocols.files import shipped
from corrkit.task_table import task_names

PAGE = Path(__file__).parent / "protocols.md"


def updated(page: str) -> str:
    """The page with the table as the files have it now."""
    table = markdown_table([load_protocol(name, task) for task in task_names() for name in shipped(task)])
    return re.sub(
        r"(<!-- protocols -->\n).*?(<!-- /protocols -->)",
        lambda match: f"{match[1]}{table}\n{match[2]}",
        page,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
