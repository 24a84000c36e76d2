"""A run is a folder: run.json, one record per finished clip, predictions, official CSVs, summary.

    run.json                 {"fingerprint": compared on resume, "recorded": only kept}
    clips/<clip>.json        {"clip", "fingerprint" (digest), "sha256" (of all but the timing), "record"}, at its end
    predictions/             not with --no-keep
    *.csv                    official files of the benchmark
    summary.csv, summary.json

Every file is written atomically. run.json is created by exactly one of several processes; another may join the run if
its fingerprint is the same. Both then write the same bytes, since all that decides them is in the fingerprint. What may
differ between two runs of one command (seconds, memory) stands
under the key "timing" of a record and nowhere else.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, Self

from corrkit.errors import DataError, RunError
from corrkit.files.archive import safe_name
from corrkit.files.atomic import (
    TEMPORARY,
    make_folder,
    publish,
    remove_abandoned,
    staging,
    write_atomic,
    write_new,
)
from corrkit.files.jsontext import Json, from_json, table_of, to_json, with_nan
from corrkit.files.reading import file_sha256, regular_text
from corrkit.runs.records import ClipRecord
from corrkit.runs.results import Summary, read_summary, summary_csv

TIMING = "timing"
FILLED = ("clips", "predictions")
"""Folders of a run that many files are written to."""
_LONGEST_NAME = 200  # bytes of an encoded clip name; file systems allow 255 in all
_OWN = {"run.json", "clips", "predictions", "summary.json", "summary.csv", ".DS_Store"}


class Run:
    """An open run folder; made by `Run.open`.

    Attributes:
        folder: where it is.
        notes: what was found damaged on resuming, one sentence each.
        resumed: how many clips were finished before and when, as a sentence; "" for a new run.
    """

    def __init__(self, folder: Path, fingerprint: Mapping[str, object], recorded: Mapping[str, object]) -> None:
        self.folder = folder
        self.notes: tuple[str, ...] = ()
        self.resumed = ""
        self._digest = _digest(fingerprint)
        self._finished: dict[str, Mapping[str, Json]] = {}
        self._fingerprint = fingerprint
        self._recorded = recorded

    @classmethod
    def open(cls, folder: Path, fingerprint: Mapping[str, object], recorded: Mapping[str, object]) -> Self:
        """Creates the folder, or resumes the run in it.

        Args:
            folder: the run's own folder.
            fingerprint: everything that decides the numbers, as plain JSON values; compared on resume.
            recorded: host, batch size and the like; kept from the command that created the folder.

        Raises:
            RunError: the folder holds another run (each difference is named, and the command that made it) or other
                files, or can't be written.
        """
        run = cls(folder, fingerprint, recorded)
        while not (folder.exists() and run._resume()) and not write_new(folder / "run.json", run._document()):
            pass  # another process was first: is it the same run?
        make_folder(folder / "clips")
        return run

    @property
    def finished(self) -> dict[str, Mapping[str, Json]]:
        """Clip name to record, sorted by name; NaN where the record held NaN (or None)."""
        return dict(sorted(self._finished.items()))

    @property
    def predictions(self) -> Path:
        """Where predictions are saved."""
        return self.folder / "predictions"

    def reread(self) -> None:
        """Takes what other processes have finished since the run was opened. Raises RunError as `open` does."""
        resumed = self.resumed
        self._resume()
        self.resumed = resumed

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """A temporary folder for the predictions of one clip; see `keep_predictions`."""
        with staging(self.predictions) as stage:
            yield stage

    def keep_predictions(self, stage: Path) -> dict[str, str]:
        """Moves a clip's predictions from `staging` to their place, on the disk before any record claims them.

        Returns:
            Path below `predictions` to sha256 (hex), as `kept_predictions` checks it.
        """
        return {name: hashlib.sha256(data).hexdigest() for name, data in publish(stage, self.predictions).items()}

    def note(self, problem: str, clip: str) -> None:
        """Adds to `notes` why a finished clip isn't taken as it is."""
        self.notes = tuple(dict.fromkeys([*self.notes, f"{problem} {clip} is computed again."]))

    def write_clip(self, name: str, record: Mapping[str, object]) -> None:
        """Stores a finished clip. `record` holds plain JSON values, NaN allowed; seconds go under "timing".

        Raises:
            RunError: the folder can't be written or the disk is full; says how many clips are kept.
        """
        stored = from_json(to_json(record))
        document = {"clip": name, "fingerprint": self._digest, "sha256": _record_digest(stored), "record": stored}
        try:
            write_atomic(self.folder / "clips" / clip_file_name(name), to_json(document))
        except RunError as error:
            kept = f"{len(self._finished)} finished clip(s) are kept." if self._finished else "No clip is finished yet."
            raise RunError(error.problem, f"{error.remedy} {kept}") from error
        self._finished[name] = table_of(with_nan(stored))

    def finish(self, summary: Summary, csvs: Mapping[str, str]) -> None:
        """Writes the official CSVs (file name to text), summary.csv and, last, summary.json. May be repeated."""
        for name, text in csvs.items():
            write_atomic(self.folder / name, text)
        write_summary(self.folder, summary)

    def _document(self) -> str:
        return to_json({"fingerprint": self._fingerprint, "recorded": self._recorded})

    def _resume(self) -> bool:
        """Takes the finished clips; whether the folder's run.json is this run's. Raises RunError for another's."""
        if not self.folder.is_dir():
            raise RunError(f"{self.folder} is a file, not a run folder.", "Give another --out.")
        remove_abandoned(self.folder)
        file = self.folder / "run.json"
        if file.is_dir():
            raise RunError(f"{file} is a folder, not what tells of a run.", "Give another --out.")
        found = os.path.lexists(file)  # a link that leads nowhere stands in the way of a new file, too
        document = _read_object(file) or {} if found else {}
        whole = _tells_its_run(document)
        damaged = found and not whole
        if whole:
            _require_same(self.folder, document, self._fingerprint)
        elif not found:
            self._require_own_files()
        notes = [f"{file} is damaged: it is written again."] if damaged else []
        paths = sorted((self.folder / "clips").glob("*.json"))
        for path in paths:
            try:
                document = _read_record(path)
            except _DamagedError as problem:
                notes.append(f"{path} {problem}: this clip is computed again.")
                continue
            if document["fingerprint"] == self._digest:
                self._finished[str(document["clip"])] = table_of(with_nan(document["record"]))
            elif not found and os.path.lexists(file):
                return self._resume()  # another process has made the folder meanwhile: its run.json says all
            else:
                raise RunError(
                    f"{path} was written by a run with other settings than this one.",
                    f"Give another --out, or delete {self.folder}.",
                )
        if damaged:
            _set_aside(file)
        self.notes = tuple(dict.fromkeys([*self.notes, *notes]))
        if self._finished:
            self.resumed = f"{self.folder} is resumed: {len(self._finished)} clip(s) were done by {_latest(paths)}."
        return whole

    def _require_own_files(self) -> None:
        """Without a run.json, a folder with anybody else's files is not touched."""
        names = sorted(entry.name for entry in self.folder.iterdir())
        strange = [name for name in names if name not in _OWN and not name.startswith(TEMPORARY)]
        if strange:
            raise RunError(
                f"{self.folder} is not a run folder: it holds {', '.join(strange[:3])} and no run.json.",
                "Give --out a new or empty folder.",
            )


def write_summary(folder: Path, summary: Summary) -> None:
    """Writes summary.csv and, last, summary.json. Raises RunError where that fails."""
    write_atomic(folder / "summary.csv", summary_csv(summary))
    write_atomic(folder / "summary.json", to_json(summary))


def kept_predictions(folder: Path, saved: Mapping[str, str]) -> Literal["whole", "none", "damaged"]:
    """What is left of the files of a clip.

    Args:
        folder: the run's, of predictions.
        saved: path below it to sha256 (hex), as `Run.keep_predictions` gives them.

    Returns:
        "whole" where all are there as they were saved, and "none" where none is; "damaged" also for places outside.
    """
    if not any(safe_name(name) is None or os.path.lexists(folder / name) for name in saved):
        return "none"
    try:
        same = all(safe_name(name) and file_sha256(folder / name) == digest for name, digest in saved.items())
    except DataError:
        return "damaged"
    return "whole" if same else "damaged"


def default_folder(checkpoint_stem: str, digest: str, task: str, protocol: str) -> Path:
    """runs/<stem>-<digest8>-<task>-<protocol>, for runs without --out; characters that shells trip over become "-".

    Args:
        checkpoint_stem: file name without suffix, or the spec ("hog", "random:vit_small_patch16_224").
        digest: sha256 hex of what makes the backbone's numbers; "" leaves the part out.
        task: davis, vip or jhmdb.
        protocol: bare name, e.g. "dino".
    """
    stem = re.sub(r"[^\w.@+-]+", "-", checkpoint_stem).strip("-.") or "checkpoint"
    return Path("runs") / "-".join(part for part in (stem[:100], digest[:8], task, protocol) if part)


def clip_file_name(clip: str) -> str:
    """File name of a clip's record, safe on every file system and reversible by `unquote` unless it is very long.

    Names too long for that end in a digest instead; the record itself always holds the full name.
    """
    quoted = urllib.parse.quote(clip, safe="@+=,", errors="surrogatepass")
    if quoted.startswith("."):
        quoted = "%2E" + quoted[1:]
    if len(quoted) > _LONGEST_NAME:
        readable = re.sub(r"(%[0-9A-F]{0,2})+$", "", quoted[:150])  # no part of a character
        quoted = f"{readable}%~{hashlib.sha256(clip.encode(errors='surrogatepass')).hexdigest()[:32]}"
    return f"{quoted}.json"


def read_run(folder: Path) -> tuple[Summary, dict[str, ClipRecord]]:
    """A finished run: its summary, and clip name to record, sorted by name; of the clips that the summary counts.

    Raises:
        RunError: it isn't one, or a record is missing or damaged; names the file.
    """
    summary = read_summary(folder / "summary.json")
    records = {}
    for clip in sorted(summary["per_clip"]):
        path = folder / "clips" / clip_file_name(clip)
        try:
            records[clip] = ClipRecord.of(table_of(with_nan(_read_record(path)["record"])))
        except (_DamagedError, KeyError, TypeError, ValueError) as error:
            problem = error if isinstance(error, _DamagedError) else "is damaged"
            raise RunError(f"{path} {problem}.", "Repeat its eval command: the clip is computed again.") from None
    return summary, records


def run_document(folder: Path) -> Mapping[str, Json]:
    """What a run's run.json holds; {} where it can't be read: whoever shows a finished run does without."""
    return _read_object(folder / "run.json") or {}


def differences(stored: Mapping[str, Json], new: Mapping[str, object]) -> dict[str, tuple[object, object]]:
    """Dotted field to (stored value, new value), for every field in which two fingerprints differ."""
    old_fields, new_fields = _flat(stored), _flat(table_of(from_json(to_json(new))))
    # An empty group against a filled one: its entries say all there is to say.
    fields = [
        name
        for name in dict.fromkeys([*old_fields, *new_fields])
        if not any(f.startswith(f"{name}.") for f in (*old_fields, *new_fields))
    ]
    pairs = {field: (old_fields.get(field, _ABSENT), new_fields.get(field, _ABSENT)) for field in fields}
    return {field: pair for field, pair in pairs.items() if pair[0] != pair[1]}


class _Absent:
    def __repr__(self) -> str:
        return "absent"


_ABSENT = _Absent()


def _require_same(folder: Path, stored: Mapping[str, Json], new: Mapping[str, object]) -> None:
    """Compares the document of run.json with a fingerprint."""
    found = differences(table_of(stored["fingerprint"]), new)
    if found:
        parts = [f"{field} is {_short(old)} there and {_short(now)} now" for field, (old, now) in found.items()]
        recorded = stored.get("recorded")
        command, host = (recorded.get(name) if isinstance(recorded, dict) else None for name in ("command", "host"))
        made = f", made by `{_short(command)}` on {_short(host)}" if command else ""
        raise RunError(
            f"{folder} belongs to another run{made}: {'; '.join(parts)}.",
            f"Give another --out, or delete {folder} to start again.",
        )


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:60]}...({len(text)} characters)"


def _flat(value: Mapping[str, Json], prefix: str = "") -> dict[str, Json]:
    fields: dict[str, Json] = {}
    for key, item in value.items():
        if isinstance(item, dict) and item:
            fields.update(_flat(item, f"{prefix}{key}."))
        else:
            fields[f"{prefix}{key}"] = item
    return fields


def _digest(fingerprint: Mapping[str, object]) -> str:
    canonical = json.dumps(json.loads(to_json(fingerprint)), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _tells_its_run(document: Mapping[str, Json]) -> bool:
    """Whether the document of a run.json holds a fingerprint."""
    return isinstance(document.get("fingerprint"), dict)


def _set_aside(file: Path) -> None:
    """Removes a damaged run.json; one that another process has just written in its place stays."""
    aside = file.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")
    with contextlib.suppress(FileNotFoundError):
        file.rename(aside)
        if _tells_its_run(_read_object(aside) or {}):
            with contextlib.suppress(FileExistsError):
                file.hardlink_to(aside)
        aside.unlink()


def _record_digest(record: Json) -> str:
    """Of all that may not differ between two runs of one command."""
    if isinstance(record, dict):
        record = {name: value for name, value in record.items() if name != TIMING}
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]


def _latest(paths: list[Path]) -> str:
    """When the newest of some files was written, in local time."""
    newest = max(path.lstat().st_mtime for path in paths)
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(newest))


def _read_object(path: Path) -> dict[str, Json] | None:
    """The JSON object in a file; None where it is missing, truncated or anything else."""
    try:
        value = from_json(regular_text(path))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


class _DamagedError(Exception):
    """A record that can't be taken; says why, as the end of a sentence."""


def _read_record(path: Path) -> dict[str, Json]:
    """The document of a clip's record. Raises _DamagedError."""
    if not os.path.lexists(path):
        raise _DamagedError("is missing")
    document = _read_object(path)
    if document is None or set(document) != {"clip", "fingerprint", "sha256", "record"}:
        raise _DamagedError("is damaged")
    if document["sha256"] != _record_digest(document["record"]) or not isinstance(document["record"], dict):
        raise _DamagedError("is damaged")
    if not isinstance(document["clip"], str) or clip_file_name(document["clip"]) != path.name:
        raise _DamagedError(f"holds the record of {document['clip']!r}")
    return document
