"""The documentation of this version: the one place that knows where its pages are and how a message points at one."""

from pathlib import Path

from corrkit.errors import UsageError, closest

FIRST = "getting-started"


def documentation() -> Path:
    """The folder of the pages (Markdown): in the installed package, or in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "docs"
    return installed if installed.is_dir() else package.parent / "docs"


def pages() -> dict[str, str]:
    """Name to title of every page, the first one first."""
    found = {path.stem: _title(path) for path in sorted(documentation().glob("*.md"))}
    return {FIRST: found[FIRST], **found} if FIRST in found else found


def page(name: str) -> Path:
    """A page by name ("checkpoints", "docs/checkpoints.md"). Raises UsageError for one that there isn't."""
    stem = Path(name).name.removesuffix(".md")
    known = pages()
    if stem not in known:
        raise UsageError(f"There is no page {name!r} in {documentation()}.", closest(stem, known))
    return documentation() / f"{stem}.md"


def see(name: str) -> str:
    """Half a sentence that leads readers of a message to a page: "see `corrkit docs checkpoints`"."""
    return f"see `corrkit docs {name}`"


def _title(path: Path) -> str:
    """What stands in its first line."""
    with path.open(encoding="utf-8") as file:
        return file.readline().lstrip("# ").strip()
