"""Cleaned backbones as safetensors: canonical names, and in the header all that recognising has found out."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict, cast

from corrkit.checkpoints import configuration, heads
from corrkit.checkpoints.completeness import contradiction
from corrkit.checkpoints.conversions import ContradictionError, with_known_ranks
from corrkit.checkpoints.layout_files import parse_layout
from corrkit.checkpoints.naming import flatten
from corrkit.checkpoints.opening import Opened, require_usable
from corrkit.checkpoints.opening.inert import Tree
from corrkit.checkpoints.recognised import CONVERTED, Recognised
from corrkit.checkpoints.registry import SYSTEMS
from corrkit.checkpoints.statistics import mean_and_std
from corrkit.checkpoints.system import System
from corrkit.errors import CheckpointError
from corrkit.files.atomic import placing
from corrkit.files.jsontext import Json, from_others_json

if TYPE_CHECKING:
    from torch import Tensor

_FORMAT = 1
_MAX_SETTING = 64 << 10  # characters of one setting of the container that is kept


class _Header(TypedDict):
    """What `write` writes into the header, as JSON gives it back."""

    format: int
    system: str
    layout: str
    heads: int | None
    mean: list[float]
    std: list[float]
    shapes: dict[str, list[int]]
    config: dict[str, Json]
    settings: dict[str, Json]
    document: NotRequired[dict[str, Json]]
    original: dict[str, str]


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
        **({} if recognised.system.document is None else {"document": recognised.system.document}),
        "original": {"name": Path(recognised.path).name, "sha256": digest},
    }
    with placing(path) as file:
        _save(recognised.state, file, {CONVERTED: json.dumps(facts)})


def _save(tensors: "Mapping[str, Tensor]", path: Path, metadata: dict[str, str]) -> None:
    """A safetensors file, written tensor by tensor: the library's own writer holds all of them twice.

    Format: length of the header (8 bytes, little-endian), header (JSON), values (github.com/huggingface/safetensors).
    """
    header: dict[str, Json] = {"__metadata__": metadata}
    offset = 0
    ordered = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))  # keeps all of them aligned
    for name in ordered:
        tensor = tensors[name]
        header[name] = {
            "dtype": _DTYPES[str(tensor.dtype)],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in ordered:
            file.write(_values(tensors[name]))


def _values(tensor: "Tensor") -> bytes:
    import torch

    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


_DTYPES = {
    **{f"torch.float{bits}": f"F{bits}" for bits in (16, 32, 64)},
    **{f"torch.int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    "torch.bfloat16": "BF16",
    "torch.uint8": "U8",
    "torch.bool": "BOOL",
}


def read(opened: Opened) -> Recognised:
    """What `write` has written, as if the original had just been recognised.

    Raises:
        CheckpointError: a header of another version, or a system that this version doesn't know.
    """
    try:
        facts = cast(_Header, from_others_json(opened.metadata[CONVERTED]))
        system = _system(opened, facts)
        layout = next(layout for layout in system.layouts if layout.name == facts["layout"])
        if facts["format"] != _FORMAT:
            raise ValueError(facts["format"])
        _require_kinds(facts)
    except (KeyError, ValueError, TypeError, StopIteration) as error:
        raise CheckpointError(
            f"{opened.path} was converted by another version of corrkit ({type(error).__name__}: {error}).",
            "Convert the original again.",
        ) from error
    tensors = flatten(opened.tree)
    require_usable(tensors, opened.path)
    mean, std = mean_and_std(opened.path, ("mean in its header", facts["mean"]), ("std in its header", facts["std"]))
    try:
        with_known_ranks(tensors)
    except ContradictionError as error:
        raise contradiction(opened.path, system, error.name, error.problem) from error
    config = configuration.vision_part(facts["config"])
    if facts["heads"] is not None:
        config["num_attention_heads"] = facts["heads"]
    original = facts["original"]
    return Recognised(
        path=opened.path,
        system=system,
        layout=layout,
        prefix="",
        state=tensors,
        origins={name: name for name in tensors},
        shapes={name: tuple(shape) for name, shape in facts["shapes"].items()},
        used=len(tensors),
        total=len(tensors),
        dropped=(),
        mean=mean,
        std=std,
        evidence=(("system", f"{system.name}: recognised in {original['name']} when it was converted"),),
        notes=(
            *opened.notes,
            *system.notes,
            f"Converted from {original['name']} (sha256 {original['sha256'][:8]}...).",
        ),
        config=config,
        tree=facts["settings"],
    )


def _system(opened: Opened, facts: _Header) -> System:
    """The registry's entry, or that of the layout file whose document the header holds."""
    if "document" not in facts:
        return SYSTEMS[facts["system"]]
    return parse_layout(facts["document"], str(facts["system"]), f"{opened.path} (header)")


def _require_kinds(facts: Mapping[str, object]) -> None:
    """Raises TypeError or KeyError where a header holds something else than `write` writes."""
    kinds = {"config": dict, "shapes": dict, "settings": dict, "original": dict, "heads": int | None}
    wrong = [name for name, kind in kinds.items() if not isinstance(facts[name], kind)]
    shapes, original, heads = facts["shapes"], facts["original"], facts["heads"]
    if isinstance(shapes, dict) and isinstance(original, dict) and not wrong:
        numbers = [number for shape in shapes.values() if isinstance(shape, list) for number in shape]
        texts = [original["name"], original["sha256"]]
        sound = {
            "shapes": all(isinstance(shape, list) for shape in shapes.values())
            and all(type(number) is int and 0 < number < 1 << 40 for number in numbers),
            "original": all(isinstance(text, str) for text in texts),
            "heads": heads is None or (isinstance(heads, int) and 0 < heads < 1 << 20),
        }
        wrong = [name for name, good in sound.items() if not good]
    if wrong:
        raise TypeError(f"{', '.join(dict.fromkeys(wrong))} in its header")


def _telling(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors that tell the number of heads; they may be dropped or fused in the new file."""
    return {name: shape for name, shape in shapes.items() if heads.tells(name)}


def _settings(tree: Tree) -> dict[str, Json]:
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
