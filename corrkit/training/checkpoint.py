"""Training checkpoints: whole or not at all, with the recipe inside, and readable by `load_backbone` as they are."""

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from corrkit.backbones.contract import Backbone, network_of
from corrkit.errors import CheckpointError
from corrkit.runs.atomic import write_atomic
from corrkit.training.objective import AnyObjective
from corrkit.training.parallel import whole
from corrkit.training.recipe import as_plain

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


def _stored_name(name: str) -> str:
    if not name.startswith(_ENCODER):
        return _REST + name
    return name.removeprefix(_ENCODER).removeprefix("positions.").removeprefix("network.")


def checkpoint_tree(objective: AnyObjective, **more: Any) -> dict[str, Any]:
    """What a checkpoint holds: "model", the recipe, and `more`."""
    marker = torch.tensor(1)  # its name tells corrkit's checkpoints from others
    said = {"recipe": as_plain(objective.recipe), **objective.encoder.settings(), **more}
    return {"model": model_state(objective), "corrkit_pretrain": marker, **said}


def save(path: Path, tree: dict[str, Any]) -> None:
    """Writes a checkpoint; after a crash the file holds the old or the new one."""
    buffer = io.BytesIO()
    torch.save(tree, buffer)
    write_atomic(path, buffer.getvalue())


def read(path: Path) -> dict[str, Any]:
    """A checkpoint of this module, on the CPU. Raises CheckpointError where it can't be read."""
    try:
        tree = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise CheckpointError(f"{path} can't be read ({error}).", "Remove it to start again.") from error
    if not isinstance(tree, dict) or "corrkit_pretrain" not in tree:
        raise CheckpointError(f"{path} is no checkpoint of corrkit pretrain.", "Choose another --out.")
    return tree


def backbone_of(objective: AnyObjective, encoder: nn.Module | None = None) -> Backbone:
    """The encoder as the backbone that `load_backbone` would make of its checkpoint.

    Args:
        objective: what is trained.
        encoder: other weights of the same encoder (a moving average).
    """
    from corrkit.backbones.loading import from_opened
    from corrkit.checkpoints.opening import Opened

    tree = checkpoint_tree(objective)
    if encoder is not None:
        tree["model"].update(
            {_stored_name(_ENCODER + name): value for name, value in whole(encoder.state_dict()).items()}
        )
    device = next(objective.parameters()).device
    tree["model"] = {name: tensor.detach().to(device, copy=True) for name, tensor in tree["model"].items()}
    return from_opened(Opened(tree=tree, container="in memory", digest="", path=Path("training")))


def start_from(objective: AnyObjective, spec: str) -> int:
    """Fills the encoder from any checkpoint that `load_backbone` reads; returns the number of tensors taken.

    Position tables that this recipe computes stay as they are; mask tokens and view vectors start fresh.

    Raises:
        CheckpointError: a network with other tensors or shapes; names them.
    """
    from corrkit.backbones.loading import load_backbone

    network = network_of(load_backbone(spec))
    given = {} if network is None else network.state_dict()
    fresh = ("mask_token", "mask_colour", "view_vectors")
    encoder = objective.encoder
    wanted = {_stored_name(_ENCODER + name): value for name, value in encoder.named_parameters() if name not in fresh}
    wrong = [
        f"{name} {list(tensor.shape)} ({list(given[name].shape) if name in given else 'absent'} there)"
        for name, tensor in wanted.items()
        if name not in given or given[name].shape != tensor.shape
    ]
    if wrong:
        raise CheckpointError(
            f"{spec} doesn't fit the encoder of {objective.recipe.name}: {', '.join(wrong[:4])}"
            f"{f' and {len(wrong) - 4} more' if len(wrong) > 4 else ''}.",
            "Set encoder.dim, depth, patch ... with --set to what corrkit inspect says of the checkpoint.",
        )
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(given[name])
    return len(wanted)


def differences(stored: Any, current: Any, name: str = "") -> list[str]:
    """Dotted names of what differs between two nested plain values, with both values."""
    if isinstance(stored, dict) and isinstance(current, dict):
        names = [*stored, *(key for key in current if key not in stored)]
        parts = [differences(stored.get(k), current.get(k), f"{name}.{k}" if name else k) for k in names]
        return [item for part in parts for item in part]
    if isinstance(stored, list) and isinstance(current, list) and len(stored) == len(current):
        pairs = zip(stored, current, strict=True)
        return [item for i, (a, b) in enumerate(pairs) for item in differences(a, b, f"{name}.{i}")]
    return [] if stored == current else [f"{name} was {stored!r}, now {current!r}"]
