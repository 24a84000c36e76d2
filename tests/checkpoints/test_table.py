"""The documented table of systems."""

import runpy
import subprocess
import sys
from pathlib import Path

from corrkit.checkpoints.registry import SYSTEMS
from corrkit.checkpoints.seen import seen_in_training
from corrkit.task_table import task_names

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_has_the_registry_as_it_is():
    page = (DOCS / "checkpoints.md").read_text(encoding="utf-8")
    assert runpy.run_path(str(DOCS / "systems_table.py"))["updated"](page) == page
    assert all(f"| `{name}` |" in page for name in SYSTEMS)


def test_the_entries_are_read_without_torch():
    code = "import sys, corrkit.checkpoints.registry; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_a_training_saw_is_data_with_its_source():
    told = {name: system.trained_on for name, system in SYSTEMS.items() if system.trained_on}
    assert set(told) == {"sam2", "hf_sam2"}
    for of_tasks in told.values():
        assert set(of_tasks) <= set(task_names())
        assert all("arXiv" in reason for reason in of_tasks.values())
    assert "DAVIS" in seen_in_training("sam2", "davis")
    assert (
        seen_in_training("sam2", "vip") == seen_in_training("dino", "davis") == seen_in_training("own", "davis") == ""
    )
