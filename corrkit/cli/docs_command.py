"""`corrkit docs`: where the documentation of this version is, and its pages."""

import argparse

EXAMPLES = """\
examples:
  corrkit docs
  corrkit docs checkpoints | less

The pages are Markdown and lie in the installation: those of this version, without a network."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `corrkit docs`."""
    parser.add_argument("page", nargs="?", metavar="PAGE", help="print this page; default: list all")


def run(args: argparse.Namespace) -> int:
    """Prints the list of pages, or one of them."""
    from corrkit.cli.talk import show
    from corrkit.documentation import documentation, page, pages

    if args.page is not None:
        show(*page(args.page).read_text(encoding="utf-8").rstrip("\n").split("\n"))
        return 0
    known = pages()
    width = max(map(len, known))
    show(f"{documentation()}:", *(f"  {name.ljust(width)}  {title}" for name, title in known.items()))
    show(
        "",
        "corrkit docs PAGE prints one; `python build_site.py FOLDER` in that folder makes a site of them (extra docs).",
    )
    return 0
