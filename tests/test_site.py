"""The documentation site and the notebook: every constant has its page, every link leads somewhere, every cell runs."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from corrkit.protocols import load_protocol, protocol_names
from corrkit.protocols.explaining import explanations
from corrkit.protocols.reader import constants
from corrkit.task_table import task_names

REPOSITORY = Path(__file__).resolve().parent.parent
NOTEBOOK = REPOSITORY / "docs" / "corrkit.ipynb"
PROTOCOLS = [(task, name) for task in task_names() for name in protocol_names(task)]


@pytest.fixture
def site(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "docs"))
    return importlib.import_module("build_site")


@pytest.fixture
def pages(site) -> dict[str, str]:
    found: dict[str, str] = site.protocol_pages()
    return found


def plain(text: str) -> str:
    """Without Markdown's escapes and code marks."""
    return re.sub(r"\\(.)", r"\1", text).replace("`", "")


def test_every_constant_is_explained_with_its_source_and_value(pages):
    assert set(pages) == {"constants.md", *(f"{task}-{name}.md" for task, name in PROTOCOLS)}
    for task, name in PROTOCOLS:
        protocol, page = load_protocol(name, task), plain(pages[f"{task}-{name}.md"])
        meanings = explanations(task)
        for dotted, value in constants(protocol).items():
            cells = (dotted.partition(".")[2], value, plain(meanings[dotted]), plain(protocol.sources[dotted]))
            assert f"| {' | '.join(map(str, cells))} |" in page
        assert all(plain(quirk) in page for quirk in protocol.quirks)


def test_the_table_of_contents_has_every_page_once(site, tmp_path: Path):
    site.write_source(tmp_path / "source")
    trees = re.findall(r"```\{toctree\}\n(.*?)```", (tmp_path / "source/index.md").read_text(), re.DOTALL)
    listed = [line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")]
    assert len(listed) == len(set(listed))
    there = {path.stem for path in (REPOSITORY / "docs").glob("*.md")} - {"index"}
    assert set(listed) == there | {"api", "constants/constants"}
    assert all((tmp_path / "source" / f"{name}.md").is_file() for name in listed)


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path):
    """Strict: a broken link, an unknown reference or a docstring that can't be read is an error."""
    for needed in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(needed, reason=f"{needed} is not installed (extra docs)")
    command = [sys.executable, str(REPOSITORY / "docs/build_site.py"), str(tmp_path / "site")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "site/api.html").read_text(encoding="utf-8")
    assert "corrkit.evaluation.evaluate" in text
    assert "What an evaluation gives" in text


def cells() -> list[str]:
    """The code of the notebook; the cell that needs a network is left out."""
    found = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in found if cell["cell_type"] == "code"]
    needing = [cell for cell in code if "needs-network" in cell["metadata"].get("tags", [])]
    assert ["".join(cell["source"])[:12] for cell in needing] == ["%pip install"]
    return ["".join(cell["source"]) for cell in code if cell not in needing]


def test_the_notebooks_cells_run_as_plain_code(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for cell in cells():
        exec(compile(cell, NOTEBOOK.name, "exec"), names)  # as a notebook does
    assert (tmp_path / "report.html").is_file()


def test_the_notebook_holds_no_outputs():
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.slow
def test_the_notebook_runs_in_a_kernel_and_shows_tables_and_pictures(tmp_path: Path):
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed (extra docs)")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed (extra docs)")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed (extra docs)")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if "needs-network" not in cell.metadata.get("tags", [])]
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("J&amp;F-Mean" in (page := one.get("text/html", "")) and "data:image/webp" in page for one in shown)
    assert any("image/png" in one and "text/html" not in one for one in shown)
