"""Every configuration of open_clip, with open_clip_config.json beside the weights and "lone" without."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from swept import BLOCKS, LARGEST, Row, Undrawn, compared, constants, judge, opened_state, redraw, unread
from torch import Tensor, nn

from corrkit.checkpoints.opening import Opened

_TEXT = {"context_length": 8, "vocab_size": 99, "width": 64, "heads": 1, "layers": 1}


def names() -> list[str]:
    import open_clip

    return open_clip.list_models()


def rows(names: list[str]) -> Iterator[Row]:
    import open_clip

    for name in names:
        config = open_clip.get_model_config(name)
        config["text_cfg"] = {**_TEXT, **_kept(config["text_cfg"])}
        try:
            model = made(config, meta=True)
        except Exception as error:  # open_clip's and timm's own, of many kinds
            for row in (name, f"{name} (lone)"):
                yield Row(name=row, outcome="unmade", words=f"{type(error).__name__}: {error}"[:300])
            continue
        for beside in (config, None):
            yield row_of(name if beside else f"{name} (lone)", config, beside, model)


def _kept(text: dict[str, Any]) -> dict[str, Any]:
    """What of the text part decides over names beside the image encoder's."""
    return {name: text[name] for name in ("output_tokens", "embed_cls", "pool_type", "proj_bias") if name in text}


def made(config: dict[str, Any], meta: bool = False) -> Any:
    """The model of a configuration; its kind as in open_clip's factory."""
    from open_clip.coca_model import CoCa
    from open_clip.model import CLIP, CustomTextCLIP

    config = copy.deepcopy(config)
    own = config.pop("custom_text", False) or "timm_model_name" in config["vision_cfg"]
    kind = CoCa if "multimodal_cfg" in config else CustomTextCLIP if own else CLIP
    try:
        with torch.device("meta" if meta else "cpu"), Undrawn():
            return kind(**config).eval()
    except (RuntimeError, NotImplementedError):
        if not meta:
            raise
        with Undrawn():
            return kind(**config).eval()  # some can't be made without memory


def opened(model: nn.Module, config: dict[str, Any] | None, state: dict[str, Tensor]) -> Opened:
    beside = None if config is None else {"model_cfg": copy.deepcopy(config), "preprocess_cfg": {}}
    return replace(opened_state(state), config=beside)


def heads_of(model: Any) -> int | None:
    blocks = getattr(getattr(model.visual, "transformer", None), "resblocks", None)
    blocks = blocks or getattr(getattr(model.visual, "trunk", None), "blocks", None)
    return getattr(getattr(blocks[0], "attn", None), "num_heads", None) if blocks else None


def row_of(name: str, config: dict[str, Any], beside: dict[str, Any] | None, model: Any) -> Row:
    with unread():
        row, built = judge(opened(model, beside, constants(model)))
    row = replace(row, name=name, kind=type(getattr(model.visual, "trunk", model.visual)).__name__)
    true = heads_of(model)
    if built is None:
        return row
    if true and row.heads.isdecimal() and row.heads != str(true):
        guessed = "heads assumed" in row.words
        return replace(row, outcome="assumed" if guessed else "wrong", words=f"In truth {true} heads. {row.words}")
    config = copy.deepcopy(config)
    if isinstance(config["vision_cfg"].get("layers"), int):
        config["vision_cfg"]["layers"] = BLOCKS
    elif sum(parameter.numel() for parameter in model.parameters()) > 4 * LARGEST:
        return replace(row, outcome="not compared", words=f"Too large. {row.words}")
    real = made(config)
    redraw(real)
    found, built = judge(opened(real, beside and config, real.state_dict()), None if beside else true)
    if built is None:
        return replace(row, outcome="wrong", words=f"With other weights: {found.words}")

    def peer(frames: Tensor) -> Tensor:
        visual = real.visual
        if hasattr(visual, "trunk"):
            tokens = visual.trunk.forward_features(frames)[:, visual.trunk.num_prefix_tokens :]
        else:
            tokens = visual.transformer(visual._embeds(frames))[:, 1:]
        return tokens.unflatten(1, (frames.shape[2] // built.stride, frames.shape[3] // built.stride))

    side = config["vision_cfg"]["image_size"]
    side = side if isinstance(side, int) else side[0]
    return compared(row, built, peer, [(side, side), (side, side + 2 * built.multiple)])
