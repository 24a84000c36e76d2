"""What is shipped: every TOML and CSV in the wheel, tested floors, a light command line."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
FOUND_IN_THE_WHEEL = """
import json
from importlib import resources
import corrkit
from corrkit.documentation import documentation, pages
from corrkit.manifests import manifest
from corrkit.protocols import load_protocol, protocol_names

root = resources.files("corrkit")
names = [(task, name) for task in json.loads(input()) for name in protocol_names(task)]
print(json.dumps({
    "place": str(root),
    "version": corrkit.__version__,
    "protocols": sorted(f"{task}/{name}" for task, name in names),
    "identifiers": [load_protocol(name, task).identifier for task, name in names],
    "manifests": sorted(e.name for e in (root / "data_manifests").iterdir() if e.name.endswith(".csv")),
    "first_lines": {e.name: manifest(e.name).read_text().splitlines()[0]
                    for e in (root / "data_manifests").iterdir() if e.name.endswith(".csv")},
    "typed": (root / "py.typed").is_file(),
    "pages": sorted(pages()),
    "documentation": str(documentation()),
}))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel, built from the sdist as a release is, installed into a folder outside the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    run("-m", "build", "--no-isolation", "--outdir", folder / "dist", REPOSITORY)
    (wheel,) = (folder / "dist").glob("*.whl")
    run("-m", "pip", "install", "--quiet", "--no-deps", "--target", folder / "site", wheel)
    return folder / "site"


def test_the_installed_wheel_has_every_protocol_and_manifest(installed, tmp_path):
    protocols = list((REPOSITORY / "corrkit/protocols").glob("*/[!_]*.toml"))  # "_base" is a parent, no protocol
    manifests = sorted(path.name for path in (REPOSITORY / "data_manifests").glob("*.csv"))
    tasks = sorted({path.parent.name for path in protocols})
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    output = run("-c", FOUND_IN_THE_WHEEL, cwd=tmp_path, env=environment, input=json.dumps(tasks))
    found = json.loads(output)
    assert Path(found["place"]).is_relative_to(installed)
    assert found["protocols"] == sorted(f"{path.parent.name}/{path.stem}" for path in protocols)
    assert len(found["protocols"]) >= 1
    assert found["manifests"] == manifests
    assert found["pages"] == sorted(path.stem for path in (REPOSITORY / "docs").glob("*.md"))
    assert Path(found["documentation"]) == Path(found["place"]) / "docs"
    assert set(manifests) >= {
        "davis2017.csv",
        "jhmdb_split1_test.csv",
        "vip_val.csv",
        "vip_classes.csv",
        "published.csv",
    }
    for name, line in found["first_lines"].items():
        assert line == (REPOSITORY / "data_manifests" / name).read_text().splitlines()[0]
    assert found["typed"]


def test_every_other_data_file_of_the_package_is_in_the_wheel(installed):
    """Whatever git tracks below corrkit/ that isn't Python: TOML entries of systems, palettes, templates."""
    tracked = {
        path.relative_to(REPOSITORY)
        for path in (REPOSITORY / "corrkit").rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"}
    }
    assert [path for path in sorted(tracked) if not (installed / path).is_file()] == []


def test_the_wheel_holds_the_package_and_nothing_else(installed):
    names = {path.name for path in installed.iterdir()} - {"bin"}
    assert {re.sub(r"-.*", "", name) for name in names} == {"corrkit"}


def test_the_tested_floors_are_those_of_pyproject():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    required = dict(re.findall(r"^([\w.-]+)>=([\w.]+)$", "\n".join(floors_of(project)), re.MULTILINE))
    assert len(required) == len(floors_of(project))
    tested = dict(re.findall(r"^([\w.-]+)==([\w.]+)$", (REPOSITORY / ".ci/floors.txt").read_text(), re.MULTILINE))
    assert set(required) == set(tested)
    for name, version in required.items():
        assert f"{tested[name]}.".startswith(f"{version}."), name


def test_the_cited_version_is_the_packages():
    citation = (REPOSITORY / "CITATION.cff").read_text()
    package = (REPOSITORY / "corrkit/__init__.py").read_text()
    (version,) = re.findall(r'^__version__ = "(.+)"$', package, re.MULTILINE)
    assert f"\nversion: {version}\n" in citation


def floors_of(project):
    return [*project["dependencies"], *project["optional-dependencies"]["test"]]


def run(*arguments, **options):
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout
