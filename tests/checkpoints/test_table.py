"""The documented table of systems."""

import runpy
from pathlib import Path

from corrkit.checkpoints.registry import SYSTEMS

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_has_the_registry_as_it_is():
    page = (DOCS / "checkpoints.md").read_text(encoding="utf-8")
    assert runpy.run_path(str(DOCS / "systems_table.py"))["updated"](page) == page
    assert all(f"| `{name}` |" in page for name in SYSTEMS)
