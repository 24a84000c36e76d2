"""Devices, threads, kernels and precision: what computes, and whether results depend on how the work is divided."""

import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

from corrkit.diagnosis.facts import Fact
from corrkit.inference import exact_inference
from corrkit.predictors.loading import resolve_device
from corrkit.processes.workers import processors
from corrkit.propagation.probe import stability

GIBIBYTE = 1 << 30
SETTINGS = MappingProxyType(
    {
        "ATEN_CPU_CAPABILITY": "other kernels than the processor's best",
        "MKL_CBWR": "other products than MKL's default",
        "ONEDNN_MAX_CPU_ISA": "other kernels than the processor's best",
        "ONEDNN_DEFAULT_FPMATH_MODE": "products in less than float32",
        "DNNL_DEFAULT_FPMATH_MODE": "products in less than float32",
        "NVIDIA_TF32_OVERRIDE": "whether products are cut to TF32, whatever corrkit asks for",
        "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "whether products are cut to TF32",
    }
)
"""Environment variables that torch's libraries obey, and what they decide; numbers may differ by them."""


def facts() -> Iterator[Fact]:
    """Of the devices, and of this process as an evaluation finds it."""
    yield _processor()
    yield from _accelerators()
    yield _threads()
    yield _kernels()
    yield _precision()
    yield from _settings()
    yield _bits()


def _processor() -> Fact:
    usable, there = processors(), os.cpu_count() or 1
    name = processor_name()
    return Fact(
        name="processor",
        text=f"{name}; {usable} of {there} usable",
        value={"name": name, "usable": usable, "there": there},
    )


def processor_name() -> str:
    """As the system tells it."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        told = ""
    found = re.search(r"^model name\s*: (.*)$", told, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def _accelerators() -> Iterator[Fact]:
    import torch

    for index in range(torch.cuda.device_count()):
        told = torch.cuda.get_device_properties(index)
        yield Fact(
            name=f"cuda:{index}",
            text=f"{told.name}, {told.total_memory / GIBIBYTE:.0f} GiB, compute capability {told.major}.{told.minor}",
            value={"name": told.name, "bytes": told.total_memory, "capability": f"{told.major}.{told.minor}"},
        )
    if not torch.cuda.is_available():
        is_there = Path("/dev/nvidiactl").exists()
        yield Fact(
            name="cuda",
            text="an NVIDIA device is there, but this torch can't use it" if is_there else "none",
            value=False,
            mend="pip install --force-reinstall torch (and see that the driver is as new as its CUDA)" * is_there,
        )
    if torch.backends.mps.is_available():
        yield Fact(name="mps", text="available, where --device mps asks for it", value=True)
    device = resolve_device("auto")
    yield Fact(name="device", text=f"{device} (--device auto)", value=str(device))


def _threads() -> Fact:
    import torch

    threads, set_to = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    return Fact(
        name="threads",
        text=f"{threads} of torch" + (f" (OMP_NUM_THREADS={set_to})" if set_to else ""),
        value=threads,
    )


def _kernels() -> Fact:
    """Which code computes: the processor's instructions, the libraries of products, the attention that torch takes."""
    import torch

    built = torch.__config__.show()
    libraries = [
        f"{name} {found[1]}"
        for name, pattern in (("MKL", r"Math Kernel Library Version (\S+?)-"), ("oneDNN", r"MKL-DNN v(\S+)"))
        if (found := re.search(pattern, built))
    ]
    blas = re.search(r"BLAS_INFO=(\w+)", built)
    attention = _attention()
    return Fact(
        name="kernels",
        text=", ".join([torch.backends.cpu.get_cpu_capability(), *libraries, f"{attention}"]),
        value={
            "cpu": torch.backends.cpu.get_cpu_capability(),
            "libraries": [*libraries],
            "blas": blas[1] if blas else None,
            "attention": attention,
        },
    )


def _attention() -> str:
    """The implementation that torch takes for a vision transformer on the device of an evaluation."""
    import torch
    from torch.nn.attention import SDPBackend

    tokens = torch.empty(1, 6, 64, 64, device=resolve_device("auto"))
    return SDPBackend(torch._fused_sdp_choice(tokens, tokens, tokens)).name.lower().replace("_", " ")


def _precision() -> Fact:
    """What float32 products are computed in, read where an evaluation computes."""
    import torch

    backends: Any = torch.backends
    with exact_inference():
        asked = {
            "cuda products": backends.cuda.matmul.fp32_precision,
            "cudnn convolutions": backends.cudnn.conv.fp32_precision,
            "oneDNN products": backends.mkldnn.matmul.fp32_precision,
        }
    is_full = set(asked.values()) == {"ieee"}
    text = "float32, products in full (no TF32, no bfloat16)" if is_full else f"float32, but products in {asked}"
    return Fact(name="precision", text=text, value={"type": "float32", **asked})


def _settings() -> Iterator[Fact]:
    """Environment variables that torch's libraries obey."""
    for name in sorted(set(SETTINGS) & set(os.environ)):
        value = os.environ[name]
        yield Fact(name=f"${name}", text=f"{value}: {SETTINGS[name]}", value=value, mend=f"unset {name}")


def _bits() -> Fact:
    """Whether results depend on how the work is divided."""
    found = stability()
    lost = [what for what, is_equal in found.items() if not is_equal]
    return Fact(
        name="results bit-equal",
        text="over tiles, batches and threads (measured)"
        if not lost
        else f"NOT over {' and '.join(lost)} (measured): soft maps agree within 1e-6, near ties may flip",
        value={**found},
    )
