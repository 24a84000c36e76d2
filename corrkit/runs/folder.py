"""A run is a folder: run.json, one record per finished clip, predictions, official CSVs, summary.

    run.json                 {"fingerprint": compared on resume, "recorded": only kept}
    clips/<clip>.json        {"clip", "fingerprint" (digest), "record"}, written once the clip is finished
    predictions/             only with --save-predictions
    *.csv                    official files of the benchmark
    summary.csv, summary.json

Every file is written atomically. Two processes may work in one folder at once: both write the same bytes, since all
that decides them is in the fingerprint. What may differ between two runs of one command (seconds, memory) stands
under the key "timing" of a record and nowhere else.
"""

import hashlib
import json
import re
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from corrkit.errors import RunError
from corrkit.runs.atomic import TEMPORARY, make_folder, remove_abandoned, write_atomic
from corrkit.runs.jsontext import from_json, to_json, with_nan
from corrkit.runs.results import Summary, read_summary, summary_csv

TIMING = "timing"
_LONGEST_NAME = 200  # bytes of an encoded clip name; file systems allow 255 in all
_OWN = {"run.json", "clips", "predictions", "summary.json", "summary.csv", ".DS_Store"}


class Run:
    """An open run folder; made by `Run.open`.

    Attributes:
        folder: where it is.
        notes: what was found damaged on resuming, one sentence each.
    """

    def __init__(self, folder: Path, fingerprint: Mapping[str, Any], recorded: Mapping[str, Any]) -> None:
        self.folder = folder
        self.notes: tuple[str, ...] = ()
        self._digest = _digest(fingerprint)
        self._finished: dict[str, Any] = {}
        self._fingerprint = fingerprint
        self._recorded = recorded

    @classmethod
    def open(cls, folder: Path, fingerprint: Mapping[str, Any], recorded: Mapping[str, Any]) -> Self:
        """Creates the folder, or resumes the run in it.

        Args:
            folder: the run's own folder.
            fingerprint: everything that decides the numbers, as plain JSON values; compared on resume.
            recorded: host, batch size and the like; kept from the command that created the folder.

        Raises:
            RunError: the folder holds another run (each difference is named) or other files, or can't be written.
        """
        run = cls(folder, fingerprint, recorded)
        if folder.exists():
            run._resume()
        if not (folder / "run.json").exists():
            run._create()
        make_folder(folder / "clips")
        return run

    @property
    def finished(self) -> dict[str, dict[str, Any]]:
        """Clip name to record, sorted by name; NaN where the record held NaN (or None)."""
        return dict(sorted(self._finished.items()))

    @property
    def predictions(self) -> Path:
        """Where predictions are saved; made by whoever saves one."""
        return self.folder / "predictions"

    def write_clip(self, name: str, record: Mapping[str, Any]) -> None:
        """Stores a finished clip. `record` holds plain JSON values, NaN allowed; seconds go under "timing".

        Raises:
            RunError: the folder can't be written or the disk is full.
        """
        text = to_json({"clip": name, "fingerprint": self._digest, "record": record})
        write_atomic(self.folder / "clips" / clip_file_name(name), text)
        self._finished[name] = with_nan(from_json(text)["record"])

    def finish(self, summary: Summary, csvs: Mapping[str, str]) -> None:
        """Writes the official CSVs (file name to text), summary.csv and, last, summary.json. May be repeated."""
        for name, text in csvs.items():
            write_atomic(self.folder / name, text)
        write_atomic(self.folder / "summary.csv", summary_csv(summary))
        write_atomic(self.folder / "summary.json", to_json(summary))

    def _create(self) -> None:
        document = {"fingerprint": self._fingerprint, "recorded": self._recorded}
        write_atomic(self.folder / "run.json", to_json(document))

    def _resume(self) -> None:
        if not self.folder.is_dir():
            raise RunError(f"{self.folder} is a file, not a run folder.", "Give another --out.")
        remove_abandoned(self.folder)
        stored = (_read_object(self.folder / "run.json") or {}).get("fingerprint")
        if isinstance(stored, dict):
            _require_same(self.folder, stored, self._fingerprint)
        else:
            self._require_own_files()
        notes = []
        for path in sorted((self.folder / "clips").glob("*.json")):
            document = _read_object(path)
            problem = _record_problem(document, path)
            if problem is not None:
                notes.append(f"{path} {problem}: this clip is computed again.")
            elif document is not None and document["fingerprint"] == self._digest:
                self._finished[document["clip"]] = with_nan(document["record"])
            else:
                raise RunError(
                    f"{path} was written by a run with other settings than this one.",
                    f"Give another --out, or delete {self.folder}.",
                )
        if not isinstance(stored, dict) and (self.folder / "run.json").exists():
            notes.insert(0, f"{self.folder / 'run.json'} is damaged: it is written again.")
            self._create()
        self.notes = tuple(notes)

    def _require_own_files(self) -> None:
        """Without a readable run.json, a folder with anybody else's files is not touched."""
        if (self.folder / "run.json").exists():
            return
        names = sorted(entry.name for entry in self.folder.iterdir())
        strange = [name for name in names if name not in _OWN and not name.startswith(TEMPORARY)]
        if strange:
            raise RunError(
                f"{self.folder} is not a run folder: it holds {', '.join(strange[:3])} and no run.json.",
                "Give --out a new or empty folder.",
            )


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
    """File name of a clip's record, safe on every file system and reversible by `clip_of_file_name`.

    Names too long for that end in a digest instead; the record itself always holds the full name.
    """
    quoted = urllib.parse.quote(clip, safe="@+=,")
    if quoted.startswith("."):
        quoted = "%2E" + quoted[1:]
    if len(quoted) > _LONGEST_NAME:
        quoted = f"{quoted[:150]}%~{hashlib.sha256(clip.encode()).hexdigest()[:32]}"
    return f"{quoted}.json"


def clip_of_file_name(name: str) -> str | None:
    """The clip of a record's file name; None where the name was too long and only the record knows it."""
    stem = name.removesuffix(".json")
    return None if "%~" in stem else urllib.parse.unquote(stem, errors="strict")


def read_run(folder: Path) -> tuple[Summary, dict[str, dict[str, Any]]]:
    """A finished run: its summary, and clip name to record, sorted by name. Raises RunError where it isn't one."""
    summary = read_summary(folder / "summary.json")
    records = {}
    for path in (folder / "clips").glob("*.json"):
        stored = _read_object(path)
        if stored is not None and _record_problem(stored, path) is None:
            records[stored["clip"]] = with_nan(stored["record"])
    return summary, dict(sorted(records.items()))


def differences(stored: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted field to (stored value, new value), for every field in which two fingerprints differ."""
    old_fields, new_fields = _flat(stored), _flat(json.loads(to_json(new)))
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


def _require_same(folder: Path, stored: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    found = differences(stored, new)
    if found:
        parts = [f"{field} is {_short(old)} there and {_short(now)} now" for field, (old, now) in found.items()]
        raise RunError(
            f"{folder} belongs to another run: {'; '.join(parts)}.",
            f"Give another --out, or delete {folder} to start again.",
        )


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:60]}...({len(text)} characters)"


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, dict) and item:
            fields.update(_flat(item, f"{prefix}{key}."))
        else:
            fields[f"{prefix}{key}"] = item
    return fields


def _digest(fingerprint: Mapping[str, Any]) -> str:
    canonical = json.dumps(json.loads(to_json(fingerprint)), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None where it is missing, truncated or anything else."""
    try:
        value = from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _record_problem(document: dict[str, Any] | None, path: Path) -> str | None:
    if document is None or set(document) != {"clip", "fingerprint", "record"}:
        return "is damaged"
    if not isinstance(document["record"], dict) or not isinstance(document["clip"], str):
        return "is damaged"
    if clip_file_name(document["clip"]) != path.name:
        return f"holds the record of {document['clip']!r}"
    return None
