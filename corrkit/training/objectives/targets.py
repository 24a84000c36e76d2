"""What is predicted: normalised pixels and gradient histograms, as one vector per token."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from corrkit.errors import UsageError, closest
from corrkit.training.data.views import unit_range
from corrkit.training.objectives.hog import hog_image, hog_tokens
from corrkit.training.objectives.tokenizers import load_tokenizer
from corrkit.training.schema import EncoderSpec, TargetOptions

Target = Callable[[Tensor], Tensor]
"""Normalised pixels [B, 3, (T,) H, W] to a target [B, L, C]."""

_NOTHING = TargetOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelRule:
    """How the pixels of a token become its target.

    over: what mean and deviation are taken over: all values of a "patch", each "channel" of it, or "none". biased:
    divisor n instead of n - 1. eps, in_root: added to the variance within the root, or to the root. unit: pixels are
    first brought back to [0, 1]. frames: those of a clip that are predicted: all of a tubelet, or one per token,
    "spread" (linspace over the clip) or "first".
    """

    over: Literal["patch", "channel", "none"]
    eps: float = 1e-6
    in_root: bool = True
    biased: bool = False
    unit: bool = False
    frames: Literal["all", "spread", "first"] = "all"


PIXELS: Mapping[str, PixelRule] = MappingProxyType(
    {
        "pixels": PixelRule(over="none"),  # facebookresearch/mae efb2a80 models_mae.py:198-214, norm_pix_loss off
        "pixels-patch": PixelRule(over="patch"),  # the same with norm_pix_loss on
        # MCG-NJU/VideoMAE 14ef8d8 engine_for_pretraining.py:38-62
        "pixels-channel": PixelRule(over="channel", in_root=False, unit=True),
        # facebookresearch/omnivore 1d55abd omnivision/losses/mae_loss.py:15-140
        "pixels-omni": PixelRule(over="channel", unit=True),
        # LightDXY/BootMAE d604b18 run_pretraining.py:408-455
        "pixels-boot": PixelRule(over="channel", eps=1e-5, biased=True),
        # facebookresearch/mae_st c5dec1b models_mae.py: frames linspace(0, T - 1, T / 2)
        "pixels-spread": PixelRule(over="patch", frames="spread"),
        # facebookresearch/SlowFast 287ec00 takes frames 0, 2, ... instead
        "pixels-first": PixelRule(over="patch", frames="first"),
    }
)


def target_of(name: str, encoder: EncoderSpec, options: TargetOptions = _NOTHING) -> tuple[Target, int]:
    """A target that needs nothing but pixels, and its channels (of "ids", the number of different ones).

    Args:
        name: of `PIXELS`, "hog", "hog-image", "ids" of the recipe's tokenizer (see `tokenizers`), or "features-N" of
            the backbone that options.teachers names at place N.
        encoder: says what a token is.
        options: the recipe's.

    Raises:
        UsageError: an unknown name, or a tokenizer or teacher that options don't name.
    """
    patch, tubelet = encoder.patch, encoder.tubelet
    if name in PIXELS:
        rule = PIXELS[name]
        frames = tubelet if rule.frames == "all" else 1
        return partial(pixel_target, rule=rule, patch=patch, tubelet=tubelet), frames * patch * patch * 3
    if name == "ids":
        tokenize, count = load_tokenizer(options.tokenizer, patch)
        return partial(per_frame, target=tokenize, tubelet=tubelet), count
    if name.startswith("features-"):
        place = name.removeprefix("features-")
        if not place.isdecimal() or int(place) >= len(options.teachers):
            raise UsageError(
                f"The target {name!r} needs a backbone; options.teachers names {len(options.teachers)}.",
                "Give options.teachers=[SPEC,...], of which features-0 is the first.",
            )
        return teacher_features(options.teachers[int(place)], encoder)
    if name in ("hog", "hog-image"):
        if patch % 8:
            raise UsageError(
                f"The HOG target needs patches of whole 8-pixel cells, not of {patch}.", "Set encoder.patch."
            )
        target = {"hog": hog_tokens, "hog-image": hog_image_tokens}[name]
        channels = {"hog": 27 * (patch // 8) ** 2, "hog-image": patch**2}[name]
        return partial(per_frame, target=partial(target, patch=patch), tubelet=tubelet), channels
    known = [*PIXELS, "hog", "hog-image", "ids", "features-0"]
    raise UsageError(f"There is no target {name!r} made of pixels.", closest(name, known))


def pixel_target(pixels: Tensor, *, rule: PixelRule, patch: int, tubelet: int = 1) -> Tensor:
    """[B, L, frames · p · p · 3], elements in the order (frame, row, column, channel).

    Args:
        pixels: [B, 3, (T,) H, W], normalised with ImageNet's statistics.
        rule: an entry of `PIXELS`.
        patch: pixels of a token's side.
        tubelet: frames of a token.
    """
    if rule.unit:
        pixels = unit_range(pixels)
    if rule.frames != "all":
        pixels, tubelet = pixels[:, :, _frames(pixels.shape[2], tubelet, rule.frames)], 1
    tokens = patchify(pixels, patch, tubelet)  # [B, L, frames · p · p, 3]
    if rule.over == "none":
        return tokens.flatten(2)
    dims = (2, 3) if rule.over == "patch" else (2,)
    mean = tokens.mean(dims, keepdim=True)
    variance = tokens.var(dims, keepdim=True, correction=0 if rule.biased else 1)
    deviation = (variance + rule.eps).sqrt() if rule.in_root else variance.sqrt() + rule.eps
    return ((tokens - mean) / deviation).flatten(2)


def patchify(pixels: Tensor, patch: int, tubelet: int = 1) -> Tensor:
    """[B, C, (T,) H, W] to [B, L, frames · p · p, C]: facebookresearch/mae efb2a80 models_mae.py:95-107."""
    clip = pixels[:, :, None] if pixels.ndim == 4 else pixels
    batch, channels, frames, height, width = clip.shape
    cut = clip.reshape(batch, channels, frames // tubelet, tubelet, height // patch, patch, width // patch, patch)
    cut = cut.permute(0, 2, 4, 6, 3, 5, 7, 1)  # [B, t, h, w, frames, p, p, 3]
    return cut.reshape(batch, -1, tubelet * patch * patch, channels)


def unpatchify(tokens: Tensor, patch: int) -> Tensor:
    """[B, h · w, p · p · 3] of square images to [B, 3, H, W]."""
    side = round(tokens.shape[1] ** 0.5)
    cut = tokens.reshape(len(tokens), side, side, patch, patch, 3).permute(0, 5, 1, 3, 2, 4)
    return cut.reshape(len(tokens), 3, side * patch, side * patch)


def to_pixels(prediction: Tensor, pixels: Tensor, rule: PixelRule, patch: int) -> Tensor:
    """A predicted target of images as pictures [B, 3, H, W], with the mean and deviation of the true tokens."""
    tokens = patchify(pixels, patch)
    predicted = prediction.unflatten(2, (patch * patch, 3))
    if rule.over != "none":
        dims = (2, 3) if rule.over == "patch" else (2,)
        predicted = predicted * tokens.std(dims, keepdim=True) + tokens.mean(dims, keepdim=True)
    return unpatchify(predicted.flatten(2), patch)


def per_frame(pixels: Tensor, *, target: Target, tubelet: int) -> Tensor:
    """A target of images [B, L, ...]; of a clip, that of the first frame of each tubelet."""
    if pixels.ndim == 4:
        return target(pixels)
    frames = pixels[:, :, ::tubelet].transpose(1, 2)  # [B, t, 3, H, W]
    tokens = target(frames.flatten(0, 1))
    return tokens.reshape(len(pixels), -1, *tokens.shape[2:])


def hog_image_tokens(pixels: Tensor, patch: int) -> Tensor:
    """[B, L, p · p] of images, pixels of a token by row."""
    return patchify(hog_image(pixels)[:, None], patch).flatten(2)


def teacher_features(spec: str, encoder: EncoderSpec) -> tuple[Target, int]:
    """Features of a frozen backbone, averaged over each token of the encoder's grid, and their channels.

    Of a clip, the first frame of each tubelet; a backbone that sees time gets the whole clip.
    """
    from corrkit.backbones.contract import on_device
    from corrkit.backbones.loading import load_backbone

    backbone = load_backbone(spec)

    @torch.no_grad()
    def features(pixels: Tensor) -> Tensor:
        teacher = on_device(backbone, pixels.device)
        frames = (pixels[:, :, None] if pixels.ndim == 4 else pixels).transpose(1, 2)  # [B, T, 3, H, W]
        if backbone.mode.kind == "framewise":
            maps = teacher(frames[:, :: encoder.tubelet].flatten(0, 1).float())  # [B · t, h, w, C]
        else:
            maps = torch.cat([torch.stack(list(teacher.encode(one)))[:: encoder.tubelet] for one in frames.float()])
        side = pixels.shape[-1] // encoder.patch
        cells = adaptive_avg_pool2d(maps.permute(0, 3, 1, 2), side).flatten(2).transpose(1, 2)
        return cells.reshape(len(pixels), -1, cells.shape[2])

    side = 4 * max(encoder.patch, backbone.stride)
    return features, features(torch.zeros(1, 3, encoder.tubelet, side, side)).shape[2]


def _frames(count: int, tubelet: int, which: str) -> Tensor:
    if which == "spread":
        return torch.linspace(0, count - 1, count // tubelet).long()
    return torch.arange(0, count, tubelet)
