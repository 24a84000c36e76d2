"""Finished runs for others: a model card, results for the hub, records of Every Eval Ever."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from corrkit.errors import RunError, UsageError
from corrkit.files.atomic import write_atomic
from corrkit.files.reading import regular_text
from corrkit.runs.comparable import read_runs, without_repeats
from corrkit.runs.sharing.every_eval_ever import record
from corrkit.runs.sharing.facts import OWNER, REPOSITORY, Told, told
from corrkit.runs.sharing.hub import eval_results
from corrkit.runs.sharing.model_card import WRITTEN, model_card


def told_runs(
    folders: Sequence[Path], *, model: str | None = None, benchmarks: Mapping[str, str] | None = None, by: str = ""
) -> tuple[list[Told], list[str]]:
    """The finished runs in or below some folders, as others are told of them.

    Args:
        folders: of runs of one checkpoint.
        model: OWNER/NAME of the checkpoint's repository; None: that it came from, else a placeholder.
        benchmarks: task to OWNER/NAME of the data set where its leaderboard lives; a placeholder for others.
        by: who evaluated.

    Returns:
        The runs, and a sentence on each that is left out and on whatever is left to be filled in.

    Raises:
        RunError: no folder holds a finished run, or they are of several checkpoints. UsageError: a name that is none.
    """
    named = dict(benchmarks or {})
    for name in filter(None, (model, *named.values())):
        if not REPOSITORY.fullmatch(name):
            raise UsageError(f"{name!r} is no name of a repository.", "Write OWNER/NAME.")
    runs, notes = read_runs(folders)
    runs, repeats, _ = without_repeats(runs)
    first = runs[0]
    for run in runs[1:]:
        if run.checkpoint != first.checkpoint:
            raise RunError(
                f"{first.folder} is of {first.name}, {run.folder} of {run.name}: other checkpoints, or other layers.",
                "Make a card of one at a time.",
            )
    found = [told(run, model, named, by) for run in runs]
    notes += repeats
    if found[0].model.startswith(f"{OWNER}/"):
        notes.append(f"{found[0].model} is to be filled in: say whose repository it is with --model OWNER/NAME.")
    for one in found:
        if one.dataset.startswith(f"{OWNER}/") and one.run.origin == "official":
            notes.append(
                f"{one.dataset} is to be filled in: corrkit knows of no benchmark of it on the hub. Name one with "
                f"--benchmark {one.run.task}=OWNER/NAME."
            )
    return found, notes


def write_card(runs: Sequence[Told], out: Path) -> list[Path]:
    """Writes the card, `.eval_results/corrkit.yaml` and the records of Every Eval Ever.

    Args:
        runs: as `told_runs` gives them.
        out: folder, made where it isn't there.

    Returns:
        The files, the card first.

    Raises:
        UsageError: a README.md is there that isn't ours. RunError: a file can't be written.
    """
    import yaml

    card = out / "README.md"
    if card.exists() and not _is_ours(card):
        raise UsageError(
            f"{card} is somebody's own.", "Give --out another folder, and take from its README.md what you need."
        )
    files = {
        card: model_card(runs),
        out / ".eval_results" / "corrkit.yaml": yaml.safe_dump(eval_results(runs), sort_keys=False),
    }
    for one in runs:
        made = record(one, int(time.time()))
        files[out / "every_eval_ever" / f"{made.place}.json"] = made.document
        files[out / "every_eval_ever" / f"{made.place}_samples.jsonl"] = made.samples
    for path, text in files.items():
        write_atomic(path, text)
    return list(files)


def _is_ours(card: Path) -> bool:
    """Whether a card is one that `write_card` has written."""
    try:
        return WRITTEN in regular_text(card)
    except (OSError, ValueError):
        return False
