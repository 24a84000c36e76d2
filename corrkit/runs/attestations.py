"""Attestations: who reproduced which published numbers, when, with which file, on what. data_manifests/attestations."""

from pathlib import Path
from typing import Literal, TypedDict, cast

from corrkit.errors import RunError
from corrkit.files.jsontext import from_json
from corrkit.files.reading import regular_text
from corrkit.manifests import manifest
from corrkit.runs.shapes import mismatches

Identified = Literal["digest", "fetched", "by hand"]
"""How the file is known to be the checkpoint: its published digest, the address it came from, or the user's word."""


class AttestedNumber(TypedDict):
    """One number: as printed and as found, per cent; tolerance in points; data_identity of what it was found on."""

    task: str
    protocol: str
    overrides: dict[str, object]
    metric: str
    published: float
    value: float
    tolerance: float
    within: bool
    source: str
    data: str
    data_identity: str


class Attestation(TypedDict):
    """What `corrkit verify` writes. digest: sha256 of the file. date: the day, ISO. by: as --by says, else ""."""

    checkpoint: str
    digest: str
    identified: Identified
    date: str
    by: str
    device: str
    precision: str
    versions: dict[str, str]
    numbers: list[AttestedNumber]


def read_attestation(path: Path) -> Attestation:
    """An attestation from its file. Raises RunError naming what is wrong with it."""
    try:
        document = from_json(regular_text(path))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} can't be read: {error}.", "Write it again with corrkit verify.") from None
    faults = list(mismatches(document, Attestation, "it"))
    if faults:
        raise RunError(f"{path} is no attestation: {' and '.join(faults[:4])}.", "Write it again with corrkit verify.")
    return cast(Attestation, document)


def shipped_attestations() -> list[Attestation]:
    """Those of data_manifests/attestations, by file name."""
    folder = Path(str(manifest("attestations/README.md"))).parent
    return [read_attestation(path) for path in sorted(folder.glob("*.json"))]
