"""Versions, codecs and extras."""

import platform
import re
from collections.abc import Iterator
from importlib import metadata
from types import MappingProxyType

from corrkit import __version__
from corrkit.diagnosis.facts import Fact

PACKAGES = ("torch", "timm", "numpy", "scipy", "pandas", "opencv-python", "pillow", "simplejpeg", "safetensors")
EXTRAS = MappingProxyType(
    {
        "video": (("av",), "H.264 decoded faster"),
        "hub": (("huggingface_hub",), "checkpoints hf:OWNER/NAME"),
        "lightning": (("lightning",), "the callback for Lightning"),
        "hf": (("transformers", "accelerate"), "the callback for transformers' Trainer"),
        "loggers": (("tensorboard", "wandb", "trackio"), "pretrain --log"),
    }
)
"""Extra to the packages that it brings, and what needs them; those for developers are left out."""


def facts() -> Iterator[Fact]:
    """Of the programs and libraries that are installed."""
    yield Fact(name="corrkit", text=f"{__version__}, Python {platform.python_version()}, {platform.platform()}")
    yield _packages()
    yield from _codecs()
    yield from map(_extra, EXTRAS)


def _packages() -> Fact:
    found = {name: version(name) for name in PACKAGES}
    text = ", ".join(f"{name} {number or 'MISSING'}" for name, number in found.items())
    return Fact(name="packages", text=text, value={**found}, mend="" if all(found.values()) else "pip install corrkit")


def _codecs() -> Iterator[Fact]:
    """What decodes frames, masks and videos, and whether the two decoders of JPEG agree."""
    import cv2
    from PIL import features

    from corrkit.frames.pyav import decodes_alike

    built = cv2.getBuildInformation()
    jpeg, png, avcodec = (_built_with(built, name) for name in ("JPEG", "PNG", "avcodec"))
    yield Fact(
        name="frames",
        text=f"simplejpeg {version('simplejpeg')}; OpenCV {cv2.__version__} with {jpeg}, libpng {png}",
        value={"simplejpeg": version("simplejpeg"), "opencv": cv2.__version__, "jpeg": jpeg, "png": png},
    )
    agree = jpeg_decoders_agree()
    yield Fact(
        name="JPEG decoders agree",
        text="yes, to the bit" if agree else "NO: frames differ from those of published code",
        value=agree,
        mend="" if agree else "pip install --force-reinstall simplejpeg opencv-python",
    )
    pillow, zlib, turbo = version("pillow"), features.version("zlib"), features.version("libjpeg_turbo")
    yield Fact(
        name="masks",
        text=f"Pillow {pillow} with zlib {zlib}",
        value={"pillow": pillow, "zlib": zlib, "libjpeg-turbo": turbo},
    )
    av = version("av")
    used = "decodes H.264" if decodes_alike() else "is not used: another FFmpeg than OpenCV's"
    yield Fact(
        name="videos",
        text=f"OpenCV with avcodec {avcodec}; PyAV {f'{av} {used}' if av else 'is not installed'}",
        value={"avcodec": avcodec, "av": av},
    )


def _extra(extra: str) -> Fact:
    """What can be installed beside, and what needs it."""
    packages, purpose = EXTRAS[extra]
    found = {name: version(name) for name in packages}
    text = ", ".join(f"{name} {number or 'missing'}" for name, number in found.items())
    is_there = all(found.values())
    return Fact(
        name=f"extra {extra}",
        text=f"{text}, for {purpose}" if any(found.values()) else f"not installed; for {purpose}",
        value={**found},
        mend="" if is_there else f"pip install 'corrkit[{extra}]'",
    )


def jpeg_decoders_agree() -> bool:
    """Whether a drawn picture decodes to the same pixels by both libraries that read frames."""
    import cv2
    import numpy as np
    import simplejpeg

    drawn = cv2.resize(np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8), (128, 96))
    encoded = cv2.imencode(".jpg", drawn)[1]
    other = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    return other is not None and np.array_equal(simplejpeg.decode_jpeg(encoded.tobytes(), "BGR"), other)


def version(package: str) -> str | None:
    """Of an installed package; None where it is not."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _built_with(built: str, name: str) -> str:
    """The version of a library that OpenCV was built with, from its own report; "none" where it names none."""
    said = re.search(rf"^ *{name}: +(.*)$", built, re.MULTILINE)
    number = said and re.search(r"\d[\w.]*(?:-\d+)?(?=\D*$)", said[1])
    if not said or not number:
        return said[1] if said else "none"
    return f"libjpeg-turbo {number[0]}" if "turbo" in said[1] else number[0]
