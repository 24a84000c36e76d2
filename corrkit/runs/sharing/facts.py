"""A finished run as others are told of it: which checkpoint of whom, on which benchmark, how to repeat it."""

import hashlib
import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from corrkit.files.jsontext import Json
from corrkit.runs.comparable import StoredRun
from corrkit.runs.folder import run_document
from corrkit.runs.results import FULL_PRECISION, override_text
from corrkit.runs.tables import marks
from corrkit.task_table import Metric, TaskFacts, task_facts
from corrkit.text import one_line

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
"""OWNER/NAME on the hub."""
OWNER = "OWNER"
"""Stands where nobody has said whose repository it is."""
_FROM_THE_ROOT = re.compile(r"(?:^|(?<=[:=+]))/(?:[^/:=+]*/)*")
_OPTIONS = {
    "heads": "--heads",
    "layer": "--layer",
    "key": "--ckpt-key",
    "window": "--window",
    "system": "--system",
    "layout": "--layout",
}
"""Options of loading by the names under which a run records them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A run, and the names under which it is told.

    model: OWNER/NAME of the checkpoint's repository. dataset: the same of the repository where the benchmark's
    leaderboard lives. by: who evaluated.
    """

    run: StoredRun
    model: str
    dataset: str
    by: str

    @property
    def facts(self) -> TaskFacts:
        """Of its task."""
        return task_facts(self.run.task)

    @property
    def metrics(self) -> list[tuple[Metric, float]]:
        """The metrics of the task's table that the run has a number for, the leading one first; fractions."""
        found = self.run.summary["metrics"]
        return [(m, found[m.name]) for m in self.facts.metrics if not math.isnan(found.get(m.name, math.nan))]

    @property
    def variant(self) -> str:
        """The protocol as a name: "davis-dino-1"; what is modified, partial or of less precision is another one.

        A board that lists results by this name never mixes what can't be compared.
        """
        summary = self.run.summary
        name = summary["protocol"].replace("@", "-")
        if summary["modified"]:
            name += f"-modified-{hashlib.sha256(override_text(summary).encode()).hexdigest()[:8]}"
        name += "-partial" if summary["partial"] else ""
        name += "" if summary["precision"] in FULL_PRECISION else f"-{summary['precision']}"
        return slug(name)

    @property
    def version(self) -> str:
        """Of corrkit, as it evaluated."""
        return one_line(self.run.summary["versions"].get("corrkit", "unknown"))

    @property
    def remarks(self) -> list[str]:
        """Whatever sets the result apart, a sentence each."""
        return list(marks(self.run.summary).values())

    @property
    def command(self) -> str:
        """What repeats it, without folders of this machine."""
        summary = self.run.summary
        protocol = summary["protocol"].partition("/")[2].partition("+")[0]
        model = _table(run_document(self.run.folder).get("recorded")).get("model")
        loaded = _table(model)
        spec = str(loaded.get("spec") or summary["checkpoint"]["spec"])
        words = ["corrkit", "eval", self.run.task, "--ckpt", _without_folder(spec)]
        words += [] if self.run.origin == "embedded" else ["--data", summary["data"]["name"]]
        words += ["--protocol", protocol]
        words += ["--clips", ",".join(summary["per_clip"])] if summary["partial"] else []
        for name, option in _OPTIONS.items():
            value = loaded.get(name)
            words += [] if value is None else [option, _without_folder(str(value))]
        for name, constant in summary["modified"].items():
            words += ["--set", f"{name}={constant}"]
        return one_line(shlex.join(words))


def told(run: StoredRun, model: str | None, datasets: Mapping[str, str], by: str) -> Told:
    """A run under the names that were given; where none was, under the best that is known.

    Args:
        run: a finished run.
        model: OWNER/NAME of the checkpoint.
        datasets: task to OWNER/NAME of the benchmark; only results on its own data go there.
        by: who evaluated.
    """
    data = run.summary["data"]
    own = datasets.get(run.task) if data["origin"] == "official" else None
    return Told(
        run=run,
        model=model or _model_on_the_hub(run) or f"{OWNER}/{slug(run.name)}",
        dataset=own or f"{OWNER}/{slug(data['name'])}",
        by=by,
    )


def slug(text: str) -> str:
    """Text as (a part of) a repository's name: letters, digits, ".", "-" and "_"."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.")[:90] or "unnamed"


def _model_on_the_hub(run: StoredRun) -> str:
    """OWNER/NAME where the run was made of "hf:OWNER/NAME[@REVISION]"; else ""."""
    model = _table(_table(run_document(run.folder).get("recorded")).get("model"))
    spec = str(model.get("spec") or "")
    name = spec.removeprefix("hf:").partition("@")[0] if spec.startswith("hf:") else ""
    return name if REPOSITORY.fullmatch(name) else ""


def _without_folder(spec: str) -> str:
    """A path, or a spec with paths in it ("py:/home/me/a.py:build"), without the folders of those from the root."""
    return _FROM_THE_ROOT.sub("", spec)


def _table(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}
