"""A result in a notebook: its table with intervals drawn, and the clips in their order."""

import math

from corrkit.pages import embedded, page
from corrkit.runs.results import Summary
from corrkit.runs.tables import benchmark_title, method_name, table_notes
from corrkit.task_table import task_facts


def summary_html(summary: Summary, picture: bytes | None = None) -> str:
    """A part of a page; it needs no style or script from around it.

    picture: WebP that is shown below the table, where there is one.
    """
    leading = task_facts(summary["task"]).leading
    clips = [
        (clip, None if math.isnan(scores.get(leading.name, math.nan)) else scores[leading.name])
        for clip, scores in summary["per_clip"].items()
    ]
    return page(
        "result.html",
        title=benchmark_title(summary),
        method=method_name(summary["checkpoint"]),
        scores=[
            (name, None if math.isnan(value) else value, summary["intervals"].get(name))
            for name, value in summary["metrics"].items()
            if "/" not in name
        ],
        leading=leading.short or leading.name,
        clips=clips,
        picture=None if picture is None else embedded(picture, "image/webp"),
        notes=[f"{mark} {text}".strip() for mark, text in table_notes([summary])[1:]],
    )
