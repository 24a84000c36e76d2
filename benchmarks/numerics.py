"""What arithmetic alone does to a number: |ΔJ&F| of batches, attention back ends, precision, threads and devices.

    python benchmarks/numerics.py [--ckpt SPEC] [--data ROOT] [--clips NAME,NAME] [--size N] [--only WORD ...]

One checkpoint is evaluated under davis/dino as corrkit does (float32, frame by frame), then again with one thing
changed about how its features are computed; matching, labels and score stay as they are. Printed (Markdown): the
largest relative difference of the features of the first frames, and of J&F, in points. Rows of CUDA (float32, TF32,
bf16) appear where torch finds a GPU; where it doesn't, a line says so.
"""

import argparse
import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

import corrkit
from corrkit.backbones.contract import Backbone, Described, interface_of, network_of, on_device, with_position

FRAMES = 4
Context = Callable[[], contextlib.AbstractContextManager[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change: frames encoded at a time, and in what state of torch and on which device."""

    name: str
    batch: int = 1
    context: Context = contextlib.nullcontext
    device: str = "cpu"
    threads: int | None = None
    is_double: bool = False


@contextlib.contextmanager
def tf32() -> Iterator[None]:
    before = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = "tf32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision = before


def changes() -> list[Change]:
    found = [
        Change(name="as it is"),
        *(Change(name=f"batches of {size}", batch=size) for size in (2, 8)),
        Change(name="attention: math", context=lambda: sdpa_kernel(SDPBackend.MATH)),
        Change(name="attention: flash", context=lambda: sdpa_kernel(SDPBackend.FLASH_ATTENTION)),
        Change(name="2 threads", threads=2),
        Change(name="float64", is_double=True),
        Change(name="bf16 (autocast)", context=lambda: torch.autocast("cpu", torch.bfloat16)),
    ]
    if torch.cuda.is_available():
        found += [
            Change(name="CUDA", device="cuda"),
            Change(name="CUDA, batches of 8", device="cuda", batch=8),
            Change(name="CUDA, TF32", device="cuda", context=tf32),
            Change(name="CUDA, bf16", device="cuda", context=lambda: torch.autocast("cuda", torch.bfloat16)),
        ]
    return found


@dataclass(slots=True)
class Changed(Described):
    """A backbone whose features are computed under a change; keeps those of the first frames it saw."""

    backbone: Backbone
    change: Change
    first: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        Described.__init__(self, interface_of(self.backbone))

    def __call__(self, frames: Tensor) -> Tensor:
        """Frames [B, 3, H, W] to features [B, h, w, C] on the CPU."""
        kind = torch.float64 if self.change.is_double else torch.float32
        with self.change.context():
            return self.backbone(frames.to(self.change.device, kind)).float().cpu()

    def with_position(self, rule: str) -> "Changed":
        """The same under a protocol's rule of position embeddings."""
        return Changed(with_position(self.backbone, rule), self.change, self.first)

    def encode(self, frames: Iterable[Tensor]) -> Iterator[Tensor]:
        """A clip's frames to features, `change.batch` at a time."""
        waiting: list[Tensor] = []
        for frame in frames:
            waiting.append(frame)
            if len(waiting) == self.change.batch:
                yield from self._encoded(waiting)
                waiting = []
        if waiting:
            yield from self._encoded(waiting)

    def _encoded(self, frames: list[Tensor]) -> Iterator[Tensor]:
        for features in self(torch.stack(frames)):
            if len(self.first) < FRAMES:
                self.first.append(features.clone())
            yield features


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt", default="random:vit_tiny_patch16_224")
    parser.add_argument("--data", default="embedded")
    parser.add_argument("--clips", type=lambda text: text.split(","))
    parser.add_argument("--size", type=int, default=480, help="short side; smaller is faster")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="changes with one of these words in their name")
    args = parser.parse_args()
    print("| change | features, largest relative difference | J&F | difference, points |\n|---|---|---|---|")
    base: tuple[list[Tensor], float] | None = None
    for change in changes():
        if base is not None and args.only and not any(word in change.name for word in args.only):
            continue
        features, score = measured(change, args)
        base = base or (features, score)
        pairs = zip(features, base[0], strict=True)
        largest = max(float((ours - theirs).abs().max() / theirs.abs().max()) for ours, theirs in pairs)
        print(f"| {change.name} | {largest:.1e} | {score:.3f} | {score - base[1]:+.3f} |", flush=True)
    if not torch.cuda.is_available():
        print("\nNo GPU was found: nothing is known of CUDA and TF32 from this run.")


def measured(change: Change, args: argparse.Namespace) -> tuple[list[Tensor], float]:
    """The first features and J&F in per cent."""
    threads = torch.get_num_threads()
    torch.set_num_threads(change.threads or threads)
    backbone = on_device(corrkit.load_backbone(args.ckpt), torch.device(change.device))
    network = network_of(backbone)
    if change.is_double and network is not None:
        network.double()
    changed = Changed(backbone, change)
    try:
        result = corrkit.evaluate("davis", changed, data=args.data, clips=args.clips, size=[args.size], device="cpu")
    finally:
        torch.set_num_threads(threads)
    return changed.first, 100 * result.summary["metrics"]["J&F-Mean"]


if __name__ == "__main__":
    main()
