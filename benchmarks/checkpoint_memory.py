"""Peak memory and time of inspecting and loading checkpoints of real sizes, as a Markdown table.

    python benchmarks/checkpoint_memory.py FOLDER [small base large giant]

Needs Linux. FOLDER takes one file at a time (up to 6.1 GB for giant). Weights are random; containers and precisions are
those of published files. Peaks are above a `corrkit inspect` that opens nothing, and so are the seconds, of the
processor, which don't depend on what else the machine does.
`python -m benchmarks checkpoints` does the same for float32 files of a ViT-B.
"""

import json
import pickle
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import timm
import torch
from measuring import Bar, Row, Settings
from safetensors.torch import save_file

NAMES = {
    "small": "vit_small_patch16_224",
    "base": "vit_base_patch16_224",
    "large": "vit_large_patch16_224",
    "giant": "vit_giant_patch14_224",
}
PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
CONTAINERS = ("safetensors", "sharded", "zip", "legacy", "numpy pickle")
SHARDS = 3
MEASURED = r"""
import re, sys
from pathlib import Path
from corrkit.cli import main
code = 0
try:
    if sys.argv[1] == "load":
        from corrkit import load_backbone
        load_backbone(sys.argv[2])
    else:
        code = main(sys.argv[1:])
except SystemExit as end:
    code = end.code
print(code or 0, 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]))
"""


def state_of(size: str, precision: torch.dtype) -> dict[str, torch.Tensor]:
    """Random weights; a million numbers are repeated, since drawing a thousand million takes longer than opening."""
    with torch.device("meta"):
        shapes = timm.create_model(NAMES[size], num_classes=0).state_dict()
    drawn = (torch.randn(1_000_003, generator=torch.Generator().manual_seed(0)) * 0.02).to(precision)
    return {
        name: drawn.repeat(-(-tensor.numel() // len(drawn)))[: tensor.numel()].view(tensor.shape).clone()
        for name, tensor in shapes.items()
    }


def write(state: dict[str, torch.Tensor], container: str, folder: Path) -> Path:
    """The file or folder to open."""
    if container == "safetensors":
        save_file(state, folder / "a.safetensors")
        return folder / "a.safetensors"
    if container == "sharded":
        names = list(state)
        files = {name: f"model-{index % SHARDS + 1:05}-of-{SHARDS:05}.safetensors" for index, name in enumerate(names)}
        for file in sorted(set(files.values())):
            save_file({name: state[name] for name in names if files[name] == file}, folder / file)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
        return folder
    if container == "numpy pickle":
        with (folder / "a.pkl").open("wb") as file:
            pickle.dump({name: tensor.numpy() for name, tensor in state.items()}, file, protocol=2)
        return folder / "a.pkl"
    torch.save(state, folder / "a.pth", _use_new_zipfile_serialization=container == "zip")
    return folder / "a.pth"


def measure(*arguments: str) -> tuple[int, float]:
    """Peak in bytes, and seconds of the processor. Fails where the command does."""
    start = _processor_time()
    run = subprocess.run([sys.executable, "-c", MEASURED, *arguments], capture_output=True, text=True)
    code, peak = run.stdout.split()[-2:]
    if arguments[1] != NOTHING and code != "0":
        sys.exit(f"{arguments}: {run.stderr}")
    return int(peak), _processor_time() - start


def _processor_time() -> float:
    """Seconds that the processes which have ended took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


NOTHING = "/nothing.pth"
ALLOWANCE = 200 << 20
"""Bytes beside 1.5 times the file that opening it may take."""


def rows(settings: Settings, part: str) -> Iterator[Row]:
    """Peak of inspecting and of loading over the size of the file, for each container."""
    size = "small" if settings.quick else "base"
    floor, _ = measure("inspect", NOTHING)
    state = state_of(size, torch.float32)
    for container in ("zip",) if settings.quick else CONTAINERS:
        with tempfile.TemporaryDirectory() as folder:
            path = write(state, container, Path(folder))
            bytes_of_file = sum(file.stat().st_size for file in Path(folder).iterdir())
            bar = Bar(relation="<=", must=1.5 + ALLOWANCE / bytes_of_file, aim=1.1)
            for command in ("inspect", "load"):
                above = max(measure(command, str(path))[0] - floor, 0) / bytes_of_file
                yield Row(
                    what=f"peak of {command}, {container} of ViT-{size[0].upper()}, over the file", value=above, bar=bar
                )


def main() -> None:
    folder = Path(sys.argv[1])
    measure("inspect", NOTHING)  # reads the libraries from the disk
    floor, start = measure("inspect", NOTHING)
    print("| network | precision | container | file | inspect | load |\n|---|---|---|---|---|---|")
    for size in sys.argv[2:] or NAMES:
        for precision, dtype in PRECISIONS.items():
            state = state_of(size, dtype)
            for container in CONTAINERS:
                if container == "numpy pickle" and precision == "bfloat16":  # numpy has no such type
                    continue
                place = folder / "measured"
                place.mkdir()
                path = write(state, container, place)
                size_of_file = sum(file.stat().st_size for file in place.iterdir())
                cells = []
                for command in ("inspect", "load"):
                    peak, seconds = measure(command, str(path))
                    above = max(peak - floor, 0)
                    cells.append(
                        f"{above / 1e6:.0f} MB ({above / size_of_file:.2f} x), {max(seconds - start, 0):.1f} s"
                    )
                row = [
                    f"ViT-{'g' if size == 'giant' else size[0].upper()}",
                    precision,
                    container,
                    f"{size_of_file / 1e6:.0f} MB",
                    *cells,
                ]
                print(f"| {' | '.join(row)} |", flush=True)
                shutil.rmtree(place)


if __name__ == "__main__":
    main()
