"""HTML pages that open offline: templates filled in the one place where foreign text becomes part of a page.

Everything that a template shows is escaped (Jinja's autoescape); nothing marks a text as safe but `embedded`.
"""

import base64
import functools
from typing import TYPE_CHECKING

from corrkit.text import one_line

if TYPE_CHECKING:
    from jinja2 import Environment


def page(template: str, **values: object) -> str:
    """A page, or a part of one.

    Args:
        template: name of a file in this folder.
        **values: what it shows; text may come from anywhere.
    """
    return _environment().get_template(template).render(**values)


def embedded(data: bytes, kind: str) -> str:
    """A file as an address that holds it ("data:image/png;base64,..."), to be given to a template."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


@functools.cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("corrkit", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _visible(value: object) -> object:
    """Text without characters that steer a reader's eye (bidi marks, control characters); see `corrkit.text`."""
    return one_line(value) if type(value) is str else value
