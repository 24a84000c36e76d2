"""Published numbers, the public checkpoints that they are of, and the splits that authors made for themselves.

data_manifests/published.csv, checkpoints.csv and author_splits.csv.
"""

import csv
import io
import math
import re
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import TypeVar, get_args, get_type_hints

from corrkit.errors import DataError, UsageError, closest
from corrkit.manifests import manifest

CERTAINTY: Mapping[str, str] = {
    "read": "read in the named file at the named commit",
    "text copy": "read in a text copy of the paper",
    "quoted": "quoted by a third party",
    "remembered": "not compared with the paper: don't cite it from here",
}
OWN_DATASETS = ("DAVIS-2017", "VIP", "JHMDB")
"""What each task is named for, and what data are called that are the benchmark's own."""

_SHORTEST_DIGEST = 8
"""Hex digits of a sha256 that file names carry (torch.hub, mmcv): enough to tell a file that was published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedNumber:
    """One number of a table.

    task: whose metric it is. dataset: what it was measured on. method, data, architecture: what was evaluated, and
    what it was trained on, "" where the source doesn't say. stride: pixels per cell (a ViT's patch), None if unknown.
    protocol: corrkit's name of it, "" where corrkit has none. overrides: what else has to be set, as for --set.
    settings: what the source says of them beyond that. resolution: as its table names it. per_cent: as printed.
    tolerance: points by which a reproduction may differ, None without a checkpoint; our judgement, see the README.
    certainty: a key of `CERTAINTY`. checkpoint: name of a `PublicCheckpoint`, "" where none is known to be its.
    """

    task: str
    dataset: str
    method: str
    data: str
    architecture: str
    stride: int | None
    protocol: str
    overrides: str
    settings: str
    resolution: str
    metric: str
    per_cent: float
    tolerance: float | None
    certainty: str
    source: str
    checkpoint: str

    @property
    def changes(self) -> dict[str, str]:
        """The overrides, dotted constant to value."""
        return dict(part.split("=", 1) for part in re.split(r"\s+(?=[a-z_]+\.[a-z_]+=)", self.overrides) if part)

    @property
    def printed(self) -> str:
        """The number with the decimals of its source, one at least."""
        return f"{self.per_cent:.1f}" if round(self.per_cent, 1) == self.per_cent else f"{self.per_cent:g}"

    @property
    def other_data(self) -> str:
        """The data set, where it isn't the one that the task is named for; else ""."""
        return "" if self.dataset in OWN_DATASETS else self.dataset

    @property
    def network(self) -> str:
        """Architecture and stride: "ViT-S/16", "ResNet-18 stride 8"."""
        if self.stride is None:
            return self.architecture
        return f"{self.architecture}{'/' if self.architecture.startswith('ViT') else ' stride '}{self.stride}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicCheckpoint:
    """A checkpoint that its authors offer.

    url: where the file is downloaded from, "" where it has to be fetched by hand from `page`. size: bytes, None where
    unknown. sha256: of the file, or the first 8 or more hex digits of it, "" where unknown. hub: OWNER/NAME of the
    authors' own copy on the Hugging Face hub, where that holds this checkpoint alone.
    """

    name: str
    method: str
    architecture: str
    stride: int | None
    url: str
    size: int | None
    sha256: str
    hub: str
    page: str
    source: str

    def is_identified_by(self, digest: str | None, origin: str = "") -> bool:
        """Whether a file's sha256, or the spec "hf:OWNER/NAME[@REVISION]" that it came from, says that it is this."""
        by_digest = bool(self.sha256) and digest is not None and digest.startswith(self.sha256)
        return by_digest or (bool(self.hub) and origin.partition("@")[0] == f"hf:{self.hub}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorSplit:
    """A split of a data set that papers report on.

    split: its name, or how it was made. clips: how many, None where that isn't said. author_split: whether its list is
    "published", or "unknown" to all but its authors. used_by: whose numbers.
    """

    dataset: str
    split: str
    clips: int | None
    author_split: str
    used_by: str
    source: str


def published_numbers(task: str | None = None, *, protocol: str = "", method: str = "") -> tuple[PublishedNumber, ...]:
    """Published numbers, in the order of the file.

    Args:
        task: only of this task.
        protocol: only under this protocol, NAME or TASK/NAME.
        method: only methods with this word in their name, in any case.
    """
    found = rows(PublishedNumber, "published.csv")
    return tuple(
        number
        for number in found
        if task in {None, number.task}
        and protocol in {"", number.protocol, f"{number.task}/{number.protocol}"}
        and method.lower() in number.method.lower()
    )


def public_checkpoints() -> tuple[PublicCheckpoint, ...]:
    """The checkpoints that published numbers are of, in the order of the file."""
    return rows(PublicCheckpoint, "checkpoints.csv")


def public_checkpoint(name: str) -> PublicCheckpoint:
    """One of them by name. Raises UsageError for an unknown one."""
    known = {checkpoint.name: checkpoint for checkpoint in public_checkpoints()}
    if name not in known:
        raise UsageError(f"There is no checkpoint {name!r}.", f"{closest(name, known)} `corrkit verify` lists all.")
    return known[name]


def author_splits(dataset: str) -> tuple[AuthorSplit, ...]:
    """Of a data set, in whatever spelling, a year behind it or not; none for those whose papers share one split."""
    asked = _letters(dataset)
    return tuple(split for split in rows(AuthorSplit, "author_splits.csv") if _letters(split.dataset) == asked)


def author_split(dataset: str, split: str) -> str | None:
    """What a result on a split says of the list behind it: see `AuthorSplit`; None where there is nothing to say."""
    known = author_splits(dataset)
    return next((one.author_split for one in known if one.split == split), "unknown") if known else None


def _letters(name: str) -> str:
    return re.sub(r"(19|20)\d\d$|[^a-z\d]", "", name.lower())


def by_table(numbers: Iterable[PublishedNumber]) -> list[list[PublishedNumber]]:
    """Numbers of one row of a table together: all but task and metric agree, and so does the protocol's name."""
    groups: dict[tuple[Hashable, ...], list[PublishedNumber]] = {}
    for number in numbers:
        groups.setdefault((number.other_data, *(getattr(number, name) for name in _SHARED)), []).append(number)
    return list(groups.values())


_SHARED = (
    "method", "data", "architecture", "stride", "protocol", "overrides", "settings", "resolution", "certainty",
    "source", "checkpoint",
)  # fmt: skip


RowT = TypeVar("RowT", PublishedNumber, PublicCheckpoint, AuthorSplit)


def rows(kind: type[RowT], name: str) -> tuple[RowT, ...]:
    """The rows of a manifest file as `kind`, empty cells as None where that is allowed. Raises DataError."""
    reader = csv.DictReader(io.StringIO(manifest(name).read_text(encoding="utf-8")), strict=True)
    if reader.fieldnames != [field.name for field in fields(kind)]:
        raise DataError(f"{name} has the columns {reader.fieldnames}.", "Restore the file.")
    return tuple(_row(kind, row, f"{name} line {reader.line_num}") for row in reader)


def _row(kind: type[RowT], row: Mapping[str, str], where: str) -> RowT:
    hints = get_type_hints(kind)
    values: dict[str, str | int | float | None] = {}
    for name, text in row.items():
        types = get_args(hints[name]) or (hints[name],)
        try:
            values[name] = None if text == "" and type(None) in types else types[0](text)
        except ValueError:
            raise DataError(f"{where}: {name} is {text!r}, no number.", "Correct it.") from None
    made = kind(**values)  # type: ignore[arg-type]  # each value is of its field's own type
    problem = _problem(made)
    if problem:
        raise DataError(f"{where}: {problem}.", "Correct it.")
    return made


def _problem(made: PublishedNumber | PublicCheckpoint | AuthorSplit) -> str:
    """What no type says, "" where all is well."""
    if isinstance(made, AuthorSplit):
        known = made.author_split in ("published", "unknown")
        return "" if known else f"author_split is {made.author_split!r}, neither published nor unknown"
    if isinstance(made, PublicCheckpoint):
        if made.url and not made.url.startswith("https://"):
            return f"url is {made.url!r}, not https"
        if made.sha256 and not re.fullmatch(rf"[0-9a-f]{{{_SHORTEST_DIGEST},64}}", made.sha256):
            return f"sha256 is {made.sha256!r}"
        return ""
    if made.certainty not in CERTAINTY:
        return f"certainty is {made.certainty!r}, none of {', '.join(CERTAINTY)}"
    if not (math.isfinite(made.per_cent) and 0 <= made.per_cent <= 100):
        return f"per_cent is {made.per_cent}"
    return "" if (made.tolerance is None) == (made.checkpoint == "") else "tolerance and checkpoint belong together"
