"""Facts as data: the one function that finds a file of `data_manifests`, installed or in a checkout."""

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path


def manifest(name: str) -> Traversable:
    """The manifest file `name`, e.g. "davis2017.csv". Raises FileNotFoundError for an unknown one."""
    installed = resources.files("corrkit") / "data_manifests" / name
    checkout = Path(__file__).resolve().parents[2] / "data_manifests" / name
    for candidate in (installed, checkout):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"there is no data manifest {name}")
