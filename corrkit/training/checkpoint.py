"""Training checkpoints: whole or not at all, with the recipe inside, and readable by `load_backbone` as they are."""

import io
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

import torch
from torch import Tensor, nn

from corrkit.backbones.contract import Backbone, network_of
from corrkit.backbones.networks.positions import resample
from corrkit.checkpoints.naming import flatten
from corrkit.checkpoints.opening.inert import Tree
from corrkit.errors import CheckpointError, RunError
from corrkit.files.atomic import write_atomic
from corrkit.files.damage import load_as_written, whole_or_damaged
from corrkit.files.jsontext import Json, as_plain, leaves
from corrkit.training.faults import StoredFaults
from corrkit.training.networks.encoder import MaskedEncoder
from corrkit.training.objectives.masked import AnyObjective
from corrkit.training.parallel import whole

State = dict[str, Tensor]
_ENCODER, _REST = "encoder.", "decoder."


def model_state(objective: AnyObjective) -> State:
    """All weights: the encoder's under the names of its published class, the rest behind "decoder.".

    Where they are divided among ranks, every rank must call it.
    """
    return {_stored_name(name): tensor for name, tensor in whole(objective.state_dict()).items()}


def load_model_state(objective: AnyObjective, stored: State) -> None:
    """Takes back what `model_state` gave. Raises RuntimeError where names or shapes differ."""
    objective.load_state_dict({name: stored[_stored_name(name)] for name in objective.state_dict()})


def encoder_state(encoder: nn.Module) -> State:
    """Weights of an encoder (a moving average) under the names of its published class; every rank must call it."""
    return {_stored_name(_ENCODER + name): tensor for name, tensor in whole(encoder.state_dict()).items()}


def load_encoder_state(encoder: nn.Module, stored: State) -> None:
    """Takes back what `encoder_state` gave."""
    encoder.load_state_dict({name: stored[_stored_name(_ENCODER + name)] for name in encoder.state_dict()})


def _stored_name(name: str) -> str:
    if not name.startswith(_ENCODER):
        return _REST + name
    return name.removeprefix(_ENCODER).removeprefix("positions.").removeprefix("network.")


class Stored(TypedDict):
    """What a run takes from the checkpoint that it goes on with."""

    model: State
    recipe: Json
    step: int
    fingerprint: dict[str, Json]
    history: NotRequired[list[dict[str, Json]]]
    faults: NotRequired[StoredFaults]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    ema: NotRequired[State]


def checkpoint_tree(objective: AnyObjective, model: State | None = None, /, **more: Tree) -> dict[str, Tree]:
    """What a checkpoint holds: "model" (the objective's weights unless others are given), the recipe, and `more`."""
    marker = torch.tensor(1)  # its name tells corrkit's checkpoints from others
    said = {"recipe": as_plain(objective.recipe), **objective.encoder.settings(), **more}
    return {"model": model_state(objective) if model is None else model, "corrkit_pretrain": marker, **said}


def save(path: Path, tree: Mapping[str, Tree], *, keep: int = 1) -> None:
    """Writes a checkpoint; after a crash the file holds the old or the new one. Equal contents give equal bytes.

    With `keep` above 1 the last ones stay beside it, under the number of their step.

    Raises:
        RunError: weights that aren't finite, or a folder that can't be written.
    """
    if wrong := [name for name, tensor in flatten(tree["model"]).items() if not bool(tensor.isfinite().all())]:
        raise RunError(
            f"{path} was not written: numbers in {', '.join(wrong[:3])}{', ...' * (len(wrong) > 3)} aren't finite.",
            "The last checkpoint is kept. Repeat the command with a lower rate (--resume-with optimiser.rate=...).",
        )
    buffer = io.BytesIO()
    torch.save(_canonical(tree), buffer)
    if keep > 1:
        write_atomic(path.with_name(f"checkpoint-{tree['step']:08d}.pth"), buffer.getvalue())
    write_atomic(path, buffer.getvalue())
    for old in _numbered(path.parent)[keep if keep > 1 else 0 :]:
        old.unlink(missing_ok=True)


def newest(out: Path) -> Stored | None:
    """The checkpoint of a run's folder, else the last of those that were kept, else None. Raises CheckpointError."""
    needed = {**dict.fromkeys(("model", "fingerprint", "optimizer", "scaler"), dict), "step": int}
    path = next((path for path in (out / "checkpoint.pth", *_numbered(out)) if path.is_file()), None)
    return None if path is None else whole_or_damaged(read(path), path, needed, {"history": list, "faults": dict})


def _numbered(out: Path) -> list[Path]:
    """Checkpoints that were kept, the last first."""
    return sorted(out.glob("checkpoint-*.pth"), reverse=True)


def _canonical(value: object) -> object:
    """The same without shared identities, which pickle stores: each tensor on its own, equal text as one object."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {_canonical(name): _canonical(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_canonical(item) for item in value)
    return sys.intern(value) if isinstance(value, str) else value


def read(path: Path) -> Stored:
    """A checkpoint of this module, on the CPU. Raises CheckpointError where it can't be read."""
    try:
        tree = load_as_written(path)
    except Exception as error:  # a damaged file makes torch and pickle raise whatever they stumble over
        kept = [file.name for file in _numbered(path.parent) if file != path]
        raise CheckpointError(
            f"{path} can't be read ({type(error).__name__}: {str(error).partition(chr(10))[0][:200]}).",
            f"Remove it to go on from {kept[0]}." if kept else "Remove it to start again.",
        ) from error
    if not isinstance(tree, dict) or "corrkit_pretrain" not in tree:
        raise CheckpointError(f"{path} is no checkpoint of corrkit pretrain.", "Choose another --out.")
    return cast(Stored, tree)


def backbone_of(objective: AnyObjective, encoder: nn.Module | None = None) -> Backbone:
    """The encoder as the backbone that `load_backbone` would make of its checkpoint.

    Args:
        objective: what is trained.
        encoder: other weights of the same encoder (a moving average).
    """
    from corrkit.backbones.loading import from_opened
    from corrkit.checkpoints.opening import Opened

    model = model_state(objective) | ({} if encoder is None else encoder_state(encoder))
    device = next(objective.parameters()).device
    model = {name: tensor.detach().to(device, copy=True) for name, tensor in model.items()}
    tree = checkpoint_tree(objective, model)
    return from_opened(Opened(tree=tree, container="in memory", digest="", path=Path("training")))


def start_from(
    objective: AnyObjective, spec: str, heads: int | None = None, say: Callable[..., None] = lambda *_: None
) -> int:
    """Fills the encoder from any checkpoint that `load_backbone` reads; returns the number of tensors taken.

    Position tables that this recipe computes stay as they are, learned ones are resampled to its grid; mask tokens and
    view vectors start fresh.

    Args:
        objective: whose encoder is filled.
        spec: of the checkpoint.
        heads: of the checkpoint, where it can't tell.
        say: takes lines that say what was taken, resampled and left out.

    Raises:
        CheckpointError: a network with other tensors, shapes or heads; names them.
    """
    from corrkit.backbones.loading import load_backbone

    backbone = load_backbone(spec, heads=heads)
    network = network_of(backbone)
    given: State = {} if network is None else dict(network.state_dict())
    fresh = ("mask_token", "mask_colour", "view_vectors")
    encoder = objective.encoder
    wanted = {_stored_name(_ENCODER + name): value for name, value in encoder.named_parameters() if name not in fresh}
    resampled = _resample(wanted, given, encoder)
    wrong = [
        f"{name} {list(tensor.shape)} ({list(given[name].shape) if name in given else 'absent'} there)"
        for name, tensor in wanted.items()
        if name not in given or given[name].shape != tensor.shape
    ]
    theirs, own = _heads_of(network), objective.recipe.encoder.heads
    if not wrong and theirs not in (None, own):
        wrong = [f"{own} heads ({theirs} there)"]
    if wrong:
        raise CheckpointError(
            f"{spec} doesn't fit the encoder of {objective.recipe.name}: {', '.join(wrong[:4])}"
            f"{f' and {len(wrong) - 4} more' if len(wrong) > 4 else ''}.",
            "Set encoder.dim, depth, heads, patch ... with --set to what corrkit inspect says of the checkpoint.",
        )
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(given[name])
    learned = any(name.startswith("pos_embed") for name in wanted)
    left_out = sorted(set(given) - set(wanted))
    say(
        f"started from {spec}: {len(wanted)} tensors taken",
        f"heads: {theirs} ({dict(backbone.report.evidence).get('heads', 'of the network')})",
        f"positions: {resampled or ('as stored there' if learned else 'those of the recipe')}",
        f"left out: {', '.join(left_out) or 'nothing'}",
    )
    return len(wanted)


def _resample(wanted: State, given: State, encoder: MaskedEncoder) -> str:
    """Resamples a learned table of a square grid to the encoder's, in `given`; says so, or nothing."""
    table, goal = given.get("pos_embed"), wanted.get("pos_embed")
    if table is None or goal is None or table.shape == goal.shape or table.shape[2:] != goal.shape[2:]:
        return ""
    prefix, grid, side = encoder.num_prefix, encoder.grid, math.isqrt(table.shape[1])
    if side * side + prefix != table.shape[1] or grid[0] != 1:
        return ""
    cells = resample(table[0, prefix:].reshape(side, side, -1), grid[1:], "size").flatten(0, 1)
    given["pos_embed"] = torch.cat([table[0, :prefix], cells])[None]
    return f"interpolated from {side} x {side} to {grid[1]} x {grid[2]}"


def _heads_of(network: nn.Module | None) -> int | None:
    """Attention heads of a ViT's first block; None of other networks."""
    modules = network.named_modules() if network is not None else ()
    attention = next((part for name, part in modules if name.endswith("blocks.0.attn")), None)
    found: int | None = getattr(attention, "heads", getattr(attention, "num_heads", None))
    return found


def differences(stored: Json, current: Json) -> list[str]:
    """Dotted names of what differs between two nested plain values, with both values."""
    old, new = dict(leaves(stored)), dict(leaves(current))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return [f"{name} was {old.get(name)!r}, now {new.get(name)!r}" for name in names]
