"""Every class of transformers that takes images, from a small configuration; "lone" without config.json beside it."""

import importlib
import inspect
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from swept import Row, compared, judge, redraw
from torch import Tensor, nn

from corrkit.checkpoints.opening import open_checkpoint

_INPUTS = ("pixel_values", "pixel_values_videos")
_LARGEST = 130_000_000  # parameters of what a small configuration makes
_SMALL: dict[str, Any] = {
    "hidden_size": 48,
    "embed_dim": 48,
    "d_model": 48,
    "num_hidden_layers": 2,
    "num_layers": 2,
    "depth": 2,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "num_heads": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "head_dim": 12,
    "intermediate_size": 80,
    "encoder_ffn_dim": 80,
    "decoder_ffn_dim": 80,
    "image_size": 64,
    "crop_size": 64,
    "patch_size": 8,
    "vocab_size": 99,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "projection_dim": 16,
    "window_size": 4,
    "frames_per_clip": 4,
    "pred_hidden_size": 48,
    "pred_num_attention_heads": 4,
    "pred_num_hidden_layers": 1,
    "decoder_hidden_size": 48,
    "decoder_num_attention_heads": 4,
    "decoder_num_hidden_layers": 1,
    "decoder_intermediate_size": 80,
}
_STAGES: dict[str, Any] = {
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [8, 16, 32, 64],
    "embed_dims": [8, 16, 32, 64],
    "num_heads": [1, 2, 4, 8],
    "num_attention_heads": [1, 2, 4, 8],
    "image_size": [64, 64],
    "patch_size": [8, 8],
}


def names() -> list[str]:
    """As "module:class", all that takes pixels, heads included: they save the files that people have."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    found = []
    for file in sorted((Path(transformers.__file__).parent / "models").glob("*/modeling_*.py")):
        if "pixel_values" not in file.read_text():
            continue
        module = importlib.import_module(f"transformers.models.{file.parent.name}.{file.stem}")
        for name, kind in vars(module).items():
            if not (inspect.isclass(kind) and issubclass(kind, transformers.PreTrainedModel)):
                continue
            takes = list(inspect.signature(kind.forward).parameters)[1:2]
            made_here = kind.__module__ == module.__name__ and getattr(kind, "config_class", None) is not None
            if made_here and "PreTrained" not in name and takes and takes[0] in _INPUTS:
                found.append(f"{file.parent.name}.{file.stem}:{name}")
    return found


def rows(names: list[str]) -> Iterator[Row]:
    for name in names:
        module, _, kind = name.partition(":")
        made = getattr(importlib.import_module(f"transformers.models.{module}"), kind)
        try:
            with torch.device("meta"):
                size = sum(parameter.numel() for parameter in made(small(made.config_class)).parameters())
            if size > _LARGEST:
                raise ValueError(f"{size} parameters are too many")
            torch.manual_seed(0)
            model = made(small(made.config_class)).eval()
        except Exception as error:  # sizes that don't go together, for reasons of many kinds
            yield Row(name=name, kind=kind, outcome="unmade", words=f"{type(error).__name__}: {error}"[:300])
            continue
        redraw(model)
        with tempfile.TemporaryDirectory() as folder:
            try:
                model.save_pretrained(folder)
            except Exception as error:
                yield Row(name=name, kind=kind, outcome="unmade", words=f"{type(error).__name__}: {error}"[:300])
                continue
            yield row_of(name, kind, model, Path(folder))
            lone = next(Path(folder).glob("*.safetensors")).rename(Path(folder) / "weights.safetensors")
            yield row_of(f"{name} (lone)", kind, model, lone)


def small(config_class: Any) -> Any:
    """A configuration whose parts are all of a few blocks of few channels."""
    parts = {
        name: small(part)
        for name, part in getattr(config_class, "sub_configs", {}).items()
        if part.__name__ != "AutoConfig"
    }
    usual = config_class()
    given: dict[str, Any] = {}
    for name, value in vars(usual).items():
        if isinstance(value, int) and not isinstance(value, bool) and name in _SMALL:
            given[name] = _SMALL[name]
        elif isinstance(value, list | tuple) and name in _STAGES:
            given[name] = _STAGES[name][: len(value)]
    if "convnext" in getattr(usual, "model_type", ""):
        given["patch_size"] = usual.patch_size if hasattr(usual, "patch_size") else None
        given = {name: value for name, value in given.items() if value is not None}
    for name, part in parts.items():
        given[name] = part.to_dict() if part is not None else None
    return config_class(**given)


def row_of(name: str, kind: str, model: Any, path: Path) -> Row:
    row, built = judge(open_checkpoint(path))
    heads = getattr(encoder_of(model).config, "num_attention_heads", None)
    if "--heads N" in row.words and isinstance(heads, int):  # small networks are in no table
        row, built = judge(open_checkpoint(path), heads)
    row = replace(row, name=name, kind=kind)
    if built is None:
        return row
    encoder = encoder_of(model)
    if row.system == "resnet":  # inside a detector, whose own output is another
        return replace(row, outcome="not compared")
    if row.system in ("hf_convnext", "hf_dinov3_convnext", "hf_sam2"):  # taken from an earlier stage by default
        built = judge(open_checkpoint(path), layer=4)[1]
    takes = inspect.signature(encoder.forward).parameters
    resized = "interpolate_pos_encoding" in takes and row.system != "hf_swin"  # which has no table to resize
    call = {"interpolate_pos_encoding": True} if resized else {}
    if hasattr(encoder, "input_conditioner"):  # the frames are normalised already
        encoder.input_conditioner = nn.Identity()
    if row.system == "hf_resnet":  # corrkit's rule for ResNets: stage 3, without its stride
        call = {"output_hidden_states": True}
        for module in encoder.encoder.stages[2].modules():
            if isinstance(module, nn.Conv2d):
                module.stride = (1, 1)
    side = getattr(encoder.config, "image_size", None) or getattr(encoder.config, "crop_size", 64)
    side = side if isinstance(side, int) else side[0]
    side = 4 * built.multiple if row.system == "hf_swin" else side  # its class takes no grid smaller than a window

    def peer(frames: Tensor) -> Tensor:
        argument = next(iter(takes))
        clip = frames[:, None].expand(-1, 2, -1, -1, -1) if argument == "pixel_values_videos" else frames
        output = encoder(clip, **call)
        if row.system == "hf_resnet":
            found = output.hidden_states[3]
        elif "feature_maps" in output:
            found = output.feature_maps[-1]
        else:
            found = output.get("last_hidden_state", output[0])
        grid = (frames.shape[2] // built.stride, frames.shape[3] // built.stride)
        if found.ndim == 4:
            return found if tuple(found.shape[1:3]) == grid else found.movedim(1, -1)
        return found[:, found.shape[1] - grid[0] * grid[1] :].unflatten(1, grid)

    wider = (side, side + 4 * built.multiple) if built.multiple > 1 else (side, 2 * side)
    return compared(row, built, peer, [(side, side), wider])


def encoder_of(model: Any) -> nn.Module:
    """The network below a head: what takes the pixels itself."""
    inner = getattr(model, getattr(model, "base_model_prefix", ""), None)
    inner = inner if hasattr(inner, "config") else model
    for name in ("vision_model", "vision_tower", "vision_encoder", "backbone"):
        part = getattr(inner, name, None)
        if part is not None and hasattr(part, "config"):
            return encoder_of(part)
    return inner
