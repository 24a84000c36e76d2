"""Cleaned backbones as safetensors: canonical names, and in the header all that recognising has found out."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corrkit.checkpoints import configuration, heads
from corrkit.checkpoints.opening import Opened
from corrkit.checkpoints.recognised import CONVERTED, Recognised
from corrkit.checkpoints.registry import SYSTEMS
from corrkit.errors import CheckpointError
from corrkit.runs.atomic import placing

_FORMAT = 1
_MAX_SETTING = 64 << 10  # characters of one setting of the container that is kept


def write(recognised: Recognised, path: Path, *, digest: str, heads: int | None = None) -> None:
    """Writes the tensors of the recognised network alone; the file loads to the same backbone.

    Args:
        recognised: the network.
        path: the new file, *.safetensors.
        digest: sha256 of the original file.
        heads: attention heads as given by the user, kept so that they needn't be given again.

    Raises:
        CheckpointError: a file of that name exists already, or it can't be written.
        RunError: likewise; nothing is left of it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    if path.exists():
        raise CheckpointError(f"{path} exists already.", "Name a new file.")
    facts = {
        "format": _FORMAT,
        "system": recognised.system.name,
        "layout": recognised.layout.name,
        "heads": heads,
        "mean": recognised.mean,
        "std": recognised.std,
        "shapes": _telling(recognised.shapes),
        "config": recognised.config,
        "settings": _settings(recognised.tree),
        "original": {"name": Path(recognised.path).name, "sha256": digest},
    }
    tensors = {name: tensor.contiguous().clone() for name, tensor in recognised.state.items()}
    with placing(path) as file:
        try:
            save_file(tensors, file, metadata={CONVERTED: json.dumps(facts)})
        except SafetensorError as error:  # its own form of the system's errors
            raise CheckpointError(
                f"{path} can't be written ({error}).", "Free some space, or name another file."
            ) from None


def read(opened: Opened) -> Recognised:
    """What `write` has written, as if the original had just been recognised.

    Raises:
        CheckpointError: a header of another version, or a system that this version doesn't know.
    """
    try:
        facts = json.loads(opened.metadata[CONVERTED])
        system = SYSTEMS[facts["system"]]
        layout = next(layout for layout in system.layouts if layout.name == facts["layout"])
        if facts["format"] != _FORMAT:
            raise ValueError(facts["format"])
    except (KeyError, ValueError, TypeError, StopIteration) as error:
        raise CheckpointError(
            f"{opened.path} was converted by another version of corrkit ({type(error).__name__}: {error}).",
            "Convert the original again.",
        ) from error
    tensors: Mapping[str, Any] = opened.tree
    config = configuration.vision_part(facts["config"])
    if facts["heads"] is not None:
        config["num_attention_heads"] = facts["heads"]
    original = facts["original"]
    return Recognised(
        path=opened.path,
        system=system,
        layout=layout,
        prefix="",
        state=dict(tensors),
        origins={name: name for name in tensors},
        shapes={name: tuple(shape) for name, shape in facts["shapes"].items()},
        used=len(tensors),
        total=len(tensors),
        dropped=(),
        mean=tuple(facts["mean"]),
        std=tuple(facts["std"]),
        evidence=(("system", f"{system.name}: recognised in {original['name']} when it was converted"),),
        notes=(
            *opened.notes,
            *system.notes,
            f"Converted from {original['name']} (sha256 {original['sha256'][:8]}...).",
        ),
        config=config,
        tree=facts["settings"],
    )


def _telling(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors that tell the number of heads; they may be dropped or fused in the new file."""
    return {name: shape for name, shape in shapes.items() if heads.tells(name)}


def _settings(tree: Any) -> dict[str, Any]:
    """Plain entries of the container that builders read, such as PySlowFast's cfg."""
    if not isinstance(tree, Mapping):
        return {}
    kept = {}
    for name, value in tree.items():
        try:
            text = json.dumps(value)
        except (TypeError, ValueError):  # tensors, stubs, and whatever holds them
            continue
        if isinstance(name, str) and len(text) <= _MAX_SETTING:
            kept[name] = value
    return kept
