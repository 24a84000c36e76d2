"""Colour augmentation of pictures: drawn apart from being done, so that it can be done where there is time for it.

Brightness, contrast, saturation, hue, grey, blur, solarisation, in this order: BYOL's, as DINO and SiameseIM have it.
"""

from random import Random
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

if TYPE_CHECKING:
    from torch import Tensor

_REACH = 6
"""Pixels to each side that a blur on tensors takes in: three deviations of the widest."""


class Colours(NamedTuple):
    """What is done to one picture. hue: in turns; blur: deviation in pixels, 0 for none."""

    jittered: bool
    brightness: float
    contrast: float
    saturation: float
    hue: float
    grey: bool
    blur: float
    solarised: bool


def draw_colours(blur: float, solarise: float, dice: Random) -> Colours:
    """Jitter (0.4, 0.4, 0.2, 0.1) with p 0.8, grey with p 0.2, blur and solarisation with the given probabilities."""
    jittered, (brightness, contrast, saturation), hue = dice.random() < 0.8, (1.0, 1.0, 1.0), 0.0
    if jittered:
        brightness, contrast, saturation = (dice.uniform(1 - strength, 1 + strength) for strength in (0.4, 0.4, 0.2))
        hue = dice.uniform(-0.1, 0.1)
    grey = dice.random() < 0.2
    deviation = dice.uniform(0.1, 2.0) if dice.random() < blur else 0.0
    return Colours(jittered, brightness, contrast, saturation, hue, grey, deviation, dice.random() < solarise)


def coloured(picture: Image.Image, colours: Colours) -> Image.Image:
    """A picture in RGB with other colours, by Pillow."""
    if colours.jittered:
        picture = ImageEnhance.Brightness(picture).enhance(colours.brightness)
        picture = ImageEnhance.Contrast(picture).enhance(colours.contrast)
        picture = ImageEnhance.Color(picture).enhance(colours.saturation)
        hue, saturation, value = picture.convert("HSV").split()
        turned = (np.asarray(hue, np.int16) + round(255 * colours.hue)) % 256
        picture = Image.merge("HSV", (Image.fromarray(turned.astype(np.uint8)), saturation, value)).convert("RGB")
    if colours.grey:
        picture = picture.convert("L").convert("RGB")
    if colours.blur:
        picture = picture.filter(ImageFilter.GaussianBlur(colours.blur))
    return ImageOps.solarize(picture, 128) if colours.solarised else picture


def coloured_together(pixels: "Tensor", colours: "Tensor") -> "Tensor":
    """The same on a batch, where it lies; equal up to rounding in between and the shape of the blur.

    Args:
        pixels: [B, 3, H, W] in 0 to 255, uint8.
        colours: [B, 8], a `Colours` in each row.

    Returns:
        As `pixels`.
    """
    import torch

    jittered, brightness, contrast, saturation, hue, grey, blur, solarised = colours.float()[
        :, :, None, None, None
    ].unbind(1)
    given = pixels.float()
    found = (given * brightness).clamp(0, 255)
    mean = _grey(found).mean((2, 3), keepdim=True).round()
    found = torch.lerp(mean, found, contrast).clamp(0, 255)
    found = torch.lerp(_grey(found), found, saturation).clamp(0, 255)
    found = torch.where(jittered > 0, _turned(found, hue), given)
    found = torch.where(grey > 0, _grey(found).expand_as(found), found)
    found = torch.where(blur > 0, _blurred(found, blur.flatten()), found).round()
    return torch.where((solarised > 0) & (found >= 128), 255 - found, found).to(pixels.dtype)


def _grey(pixels: "Tensor") -> "Tensor":
    """ITU-R 601-2 luma, as Pillow's mode "L" has it: [B, 1, H, W]."""
    red, green, blue = pixels.split(1, 1)
    grey: Tensor = 0.299 * red + 0.587 * green + 0.114 * blue
    return grey


def _turned(pixels: "Tensor", hue: "Tensor") -> "Tensor":
    """Another hue at the same saturation and value: each channel of HSV's colour, as a function of the hue alone."""
    import torch

    value, least = pixels.amax(1, keepdim=True), pixels.amin(1, keepdim=True)
    spread = value - least
    red, green, blue = pixels.split(1, 1)
    differences = [(green - blue), 2 * spread + (blue - red), 4 * spread + (red - green)]
    largest = pixels.argmax(1, keepdim=True)
    sixths = torch.cat(differences, 1).gather(1, largest) / spread.clamp(min=1e-6) + 6 * hue
    # en.wikipedia.org/wiki/HSL_and_HSV, "HSV to RGB alternative"
    channels = [value - spread * torch.stack([k, 4 - k, torch.ones_like(k)]).amin(0).clamp(min=0)
                for k in ((number + sixths) % 6 for number in (5, 3, 1))]  # fmt: skip
    return torch.cat(channels, 1)


def _blurred(pixels: "Tensor", deviations: "Tensor") -> "Tensor":
    """Each picture [3, H, W] blurred by a Gaussian of its own deviation [B], edges continued."""
    import torch
    from torch.nn.functional import conv2d, pad

    steps = torch.arange(-_REACH, _REACH + 1, device=pixels.device, dtype=pixels.dtype)
    kernels = torch.exp(-(steps**2) / (2 * deviations[:, None].clamp(min=0.05) ** 2))
    kernels = (kernels / kernels.sum(1, keepdim=True)).repeat_interleave(3, 0)[:, None]  # [3 B, 1, K]
    wide = pad(pixels, (_REACH,) * 4, mode="replicate").flatten(0, 1)[None]  # [1, 3 B, ...]
    across = conv2d(wide, kernels[:, :, None], groups=len(kernels))
    return conv2d(across, kernels[..., None], groups=len(kernels)).reshape(pixels.shape)
