"""What a checkpoint is, and why, as plain values: the backbone's report with everything around it."""

import shlex
from dataclasses import asdict, replace
from typing import TypedDict

from corrkit.backbones.contract import Backbone, interface_of
from corrkit.backbones.heads import UnknownHeadsError
from corrkit.backbones.loading import NO_OPTIONS, Loading, examine
from corrkit.checkpoints.registry import SYSTEMS


class Facts(TypedDict):
    """What is known of a backbone: its report, its interface and its system's entry. `mode` holds a `Mode`'s fields."""

    system: str
    title: str
    source: str
    proven: str
    architecture: str
    parameters: int
    heads_unknown: bool
    stride: int
    multiple: int
    layer: str
    position: str
    mode: dict[str, object]
    mean: list[float]
    std: list[float]
    tensors_used: int
    tensors_total: int
    dropped: list[dict[str, str]]
    evidence: dict[str, str]
    notes: list[str]
    digest: str | None


class Inspection(Facts):
    """The same with the spec that was looked at, and the command that evaluates it."""

    file: str
    command: str


def inspect(spec: str, loading: Loading = NO_OPTIONS) -> Inspection:
    """Loads a backbone and tells every decision behind it.

    Args:
        spec: as for `load_backbone`.
        loading: as for `load_backbone`; where heads are needed and unknown, everything else is told, and that they are.

    Returns:
        JSON-ready values; `heads_unknown` says that the command needs --heads.

    Raises:
        CheckpointError: where the file can't be loaded for another reason.
    """
    try:
        backbone, unknown = examine(spec, loading), None
    except UnknownHeadsError as error:
        # One head divides every width: all but the attention itself is built and checked as it will be.
        backbone, unknown = examine(spec, replace(loading, heads=1)), error.problem
    return {
        "file": spec,
        **_facts(backbone, unknown),
        "command": _command(spec, loading, "N" if unknown else loading.heads),
    }


def _facts(backbone: Backbone, unknown: str | None) -> Facts:
    interface = interface_of(backbone)
    report = interface.report
    system = SYSTEMS.get(report.system)
    evidence = dict(report.evidence)
    if unknown:
        evidence["heads"] = f"unknown: {unknown}"
    return {
        "system": report.system,
        "title": system.title if system else report.system,
        "source": system.source if system else "",
        "proven": system.proven if system else "unknown",
        "architecture": report.architecture,
        "parameters": report.parameters,
        "heads_unknown": unknown is not None,
        "stride": interface.stride,
        "multiple": interface.multiple,
        "layer": report.layer,
        "position": report.position,
        "mode": asdict(interface.mode),
        "mean": list(interface.mean),
        "std": list(interface.std),
        "tensors_used": report.tensors_used,
        "tensors_total": report.tensors_total,
        "dropped": [{"group": group, "reason": reason} for group, reason in report.dropped],
        "evidence": evidence,
        "notes": [note for note in report.notes if not (unknown and "--heads" in note)],
        "digest": None if unknown else interface.digest,
    }


def _command(spec: str, loading: Loading, heads: int | str | None) -> str:
    words = ["corrkit", "eval", "davis", "--ckpt", spec]
    options = {
        "heads": heads,
        "layer": loading.layer,
        "ckpt-key": loading.key,
        "system": loading.system,
        "layout": loading.layout,
    }
    for name, value in options.items():
        words += [f"--{name}", str(value)] if value is not None else []
    return shlex.join(words)
