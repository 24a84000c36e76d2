"""Who imports whom: a room knows only rooms to its left, and no modules import each other in a circle.

docs/architecture.md says what each room is for. Imports count wherever they stand: in functions and for types, too.
"""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from annotations import lines_with_any

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = REPOSITORY / "docs" / "architecture.md"

GROUND_FLOOR = (
    "text",
    "errors",
    "palette",
    "pages",
    "documentation",
    "files",
    "task_table",
    "manifests",
    "constants",
    "beside",
    "memory",
    "listening",
    "in_training",
    "inference",
)
ROOMS = (
    "protocols",
    "metrics",
    "clips",
    "frames",
    "checkpoints",
    "backbones",
    "propagation",
    "tasks",
    "datasets",
    "runs",
)
PIPELINE = (
    "predictors",
    "subject",
    "lanes",
    "passes",
    "processes",
    "evaluation",
    "report",
    "tracking",
    "scoring",
    "evaluator",
    "regression",
    "verification",
    "sweeping",
    "diagnosis",
)
DOORS = ("corrkit", "callbacks", "training", "pytest_plugin", "cli", "__main__")
ORDER = (*GROUND_FLOOR, *ROOMS, *PIPELINE, *DOORS)
"""From left to right. "corrkit" is the package itself, the names of the Python API."""


MOST_ANY = 90  # lines of annotation


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in sorted((REPOSITORY / "corrkit").rglob("*.py"))}


def room_of(module: str) -> str:
    return module.split(".")[1 if "." in module else 0]


def imports_of(module: str) -> set[str]:
    """The modules of corrkit that a module imports; the version, a fact of the package, is no import of it."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{module} imports by dots"
            names = {f"{node.module}.{alias.name}" for alias in node.names} - {"corrkit.__version__"}
            found |= {name if name in MODULES else node.module for name in names}
    return found & set(MODULES)


ARROWS = {module: imports_of(module) for module in MODULES}


def test_every_room_has_its_place():
    assert {room_of(module) for module in MODULES} - set(ORDER) == set()


def test_no_arrow_runs_back():
    place = {room: number for number, room in enumerate(ORDER)}
    assert [
        f"{module} ({room_of(module)}) imports {known} ({room_of(known)})"
        for module, imported in ARROWS.items()
        for known in sorted(imported)
        if place[room_of(known)] > place[room_of(module)]
    ] == []


def test_no_modules_import_each_other():
    try:
        TopologicalSorter(ARROWS).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("room", ORDER)
def test_the_page_says_what_a_room_is_for(room: str):
    assert re.search(rf"`{room}(/|\.py)?`", PAGE.read_text(encoding="utf-8")), f"docs/architecture.md lacks {room}"


def test_an_alias_of_any_counts_as_any(tmp_path: Path) -> None:
    package = tmp_path / "house"
    package.mkdir()
    (package / "words.py").write_text(
        "from typing import Any, TypeAlias\nTree: TypeAlias = Any\nBranch = Tree\nTwig: TypeAlias = 'dict[str, Twig]'\n"
    )
    (package / "rooms.py").write_text(
        "from house.words import Branch as Limb, Twig\n"
        "def first(a: Limb, b: Twig) -> 'list[Limb]': ...\n"
        "def second(a: Twig) -> object: ...\n"
    )
    found = [(path.name, line) for path, line in lines_with_any(package)]
    assert found == [("rooms.py", 2), ("words.py", 2), ("words.py", 3)]


def test_any_stands_at_borders_only() -> None:
    """To libraries without annotations, and where a name in a file decides which class it is."""
    found = lines_with_any(REPOSITORY / "corrkit")
    assert len(found) <= MOST_ANY, "\n".join(f"{path.relative_to(REPOSITORY)}:{line}" for path, line in found)
