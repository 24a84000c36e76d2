"""Builds the documentation site (extra `docs`): `python docs/build_site.py FOLDER`.

Any broken link or reference is an error. What is generated never lies in docs/: the pages are copied, and beside the
copies go a page for every protocol, the Python API from its docstrings, and the table of contents that index.md says.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import corrkit

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS))

from protocol_pages import protocol_pages  # noqa: E402 - beside this file, wherever it is started from

_FURTHER = ("corrkit.evaluation.Result",)
_SECTION = re.compile(r"^## (.+)\n\n((?:- .*\n)+)", re.MULTILINE)
_OUTSIDE = re.compile(r"\[([^\]]*)\]\(\.\./([^)]*)\)")


def build(out: Path) -> None:
    """Builds the site. Raises CalledProcessError where anything is amiss, which Sphinx has then printed."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        write_source(source)
        command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", str(source), str(out)]
        subprocess.run(command, check=True)


def write_source(folder: Path) -> None:
    """What Sphinx is given: pages, pictures, notebook, and all that is generated."""
    shutil.copytree(DOCS, folder, ignore=shutil.ignore_patterns("__pycache__", "README.md"))
    for page in folder.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        page.write_text(_OUTSIDE.sub(r"\1 (`\2`)", text), encoding="utf-8")
    for name, text in protocol_pages().items():
        (folder / "constants").mkdir(exist_ok=True)
        (folder / "constants" / name).write_text(text, encoding="utf-8")
    (folder / "api.md").write_text(api_page(), encoding="utf-8")
    index = folder / "index.md"
    index.write_text(f"{index.read_text(encoding='utf-8')}\n{contents(folder)}", encoding="utf-8")


def contents(folder: Path) -> str:
    """Tables of contents after the lists of index.md; pages that it doesn't list come last."""
    groups = {
        title: re.findall(r"\(([\w-]+)\.md\)", items)
        for title, items in _SECTION.findall((folder / "index.md").read_text(encoding="utf-8"))
    }
    groups["Reference"] = ["api", "constants/constants"]
    listed = {name for names in groups.values() for name in names} | {"index"}
    groups["More"] = sorted({page.stem for page in folder.glob("*.md")} - listed)
    trees = [_tree(title, names) for title, names in groups.items() if names]
    pages = sorted(f"constants/{page.stem}" for page in (folder / "constants").glob("*-*.md"))
    overview = folder / "constants" / "constants.md"
    overview.write_text(
        f"{overview.read_text(encoding='utf-8')}\n{_tree('', [f'/{p}' for p in pages])}", encoding="utf-8"
    )
    return "\n".join(trees)


def api_page() -> str:
    """The stable names, each from its docstring."""
    lines = ["# Python API", "", "The stable names; [Python](python.md) shows them in use.", ""]
    for name in [name for name in corrkit.__all__ if not name.startswith("_")]:
        found = getattr(corrkit, name)
        place = f"{found.__module__}.{name}"
        lines += [f"## {name}", "", *_autodoc(place, is_class=isinstance(found, type))]
    for place in _FURTHER:
        lines += [f"## {place.rpartition('.')[2]}", "", *_autodoc(place, is_class=True)]
    return "\n".join(lines)


def _autodoc(place: str, *, is_class: bool) -> list[str]:
    kind = "autoclass" if is_class else "autofunction"
    options = [":members:", ":special-members: __call__"] if is_class else []
    return ["```{eval-rst}", f".. {kind}:: {place}", *(f"   {option}" for option in options), "```", ""]


def _tree(title: str, names: list[str]) -> str:
    caption = [f":caption: {title}"] if title else []
    return "\n".join(["```{toctree}", ":hidden:", *caption, "", *names, "```", ""])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/site.py FOLDER")
    build(Path(sys.argv[1]))
