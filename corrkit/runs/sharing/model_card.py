"""A model card: what the Hugging Face hub shows of a repository, with the results in its head and for readers."""

from collections.abc import Sequence

from corrkit.runs.comparable import protocol_of
from corrkit.runs.layout import markdown_escape
from corrkit.runs.sharing.facts import Told
from corrkit.runs.sharing.hub import TAGS, model_index
from corrkit.runs.tables import results_table
from corrkit.text import one_line

WRITTEN = "<!-- written by corrkit card -->"
"""By this line a card is known again, and may be written over."""


def model_card(runs: Sequence[Told]) -> str:
    """The card of the one checkpoint that all runs are of: YAML head and Markdown."""
    import yaml

    first = runs[0]
    name = one_line(first.model.partition("/")[2])
    head = {"tags": list(TAGS), "model-index": model_index(name, runs)}
    lines = [
        "---",
        yaml.safe_dump(head, sort_keys=False, allow_unicode=False).rstrip(),
        "---",
        WRITTEN,
        "",
        f"# {markdown_escape(name)}",
        "",
        f"Evaluated with corrkit {markdown_escape(first.version)}: the labels of a clip's first frame are carried "
        "through the video by nearest neighbours in the frozen features, and scored.",
        "",
        "## Results",
        "",
        results_table([told.run.summary for told in runs], "markdown"),
        "## How these numbers are made",
        "",
        *(line for told in runs for line in _how(told)),
    ]
    citations = dict.fromkeys(cite for told in runs if (cite := _citation(told)))
    if citations:
        lines += ["## Cite", "", *(f"- {markdown_escape(cite)}" for cite in citations), ""]
    return "\n".join(lines)


def _how(told: Told) -> list[str]:
    """What was evaluated and how, a list; and the command."""
    summary = told.run.summary
    checkpoint, data = summary["checkpoint"], summary["data"]
    protocol = protocol_of(told.run)
    facts = {
        "protocol": f"{summary['protocol']}{f': {protocol.summary}' if protocol else ''}",
        "data": f"{data['name']} {data['split']}, {summary['clips']} clips, identity {data['identity']}",
        "checkpoint": f"{checkpoint['architecture']} ({checkpoint['system']})",
        "digest": checkpoint["digest"] or "",
        "features": f"layer {summary['layer'] or 'none'}, stride {summary['stride'] or 'none'}, {summary['precision']}",
        "pretraining": checkpoint["pretraining"],
        "versions": ", ".join(f"{name} {version}" for name, version in summary["versions"].items()),
    }
    lines = [f"### {markdown_escape(one_line(told.variant))}", ""]
    lines += [f"- {name}: {markdown_escape(one_line(text))}" for name, text in facts.items() if text]
    lines += [f"- {markdown_escape(one_line(remark))}" for remark in told.remarks]
    lines += [f"- not released: {markdown_escape(one_line(open_point))}" for open_point in summary["unreleased"]]
    return [*lines, "", "```text", told.command, "```", ""]


def _citation(told: Told) -> str:
    protocol = protocol_of(told.run)
    return one_line(protocol.cite) if protocol else ""
