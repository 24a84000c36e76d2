"""Sphinx, as `docs/build_site.py` starts it: GitHub's Markdown, docstrings in Google's form, every link checked."""

from corrkit import __version__

project = "corrkit"
author = "The corrkit authors"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "index"
html_theme = "furo"
html_title = f"corrkit {version}"
myst_heading_anchors = 4  # headings are linked to by GitHub's names of them
autodoc_typehints = "none"  # the docstrings say what things are
autodoc_member_order = "bysource"
suppress_warnings = ["misc.highlighting_failure"]  # TOML and shell with placeholders
smartquotes = False  # "--set" is no dash
