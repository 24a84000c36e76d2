"""Time and memory to expect for each task and size of network, computed: the tables of docs/scale.md.

    python benchmarks/cost_model.py [--encoding 110] [--matching 60]

Work per frame follows from the task's default protocol and the network's dimensions; seconds of one CPU core are that
work at two rates in GFLOP/s, which `python -m benchmarks growth` and `matching` measure. Memory is what a worker holds
beside the program itself. Nothing here is measured.
"""

import argparse
from dataclasses import dataclass

from reference_passes import pairs_in_window

from corrkit.frames.preparation import network_size
from corrkit.manifests.clips import official_clips
from corrkit.memory import memory_of_a_clip
from corrkit.propagation.memory import context_frames
from corrkit.protocols import Protocol, load_protocol
from corrkit.task_table import task_facts

ORIGINAL = {"davis": (480, 854), "vip": (720, 1280), "jhmdb": (240, 320)}


@dataclass(frozen=True, slots=True)
class Network:
    """A vision transformer."""

    name: str
    dim: int
    depth: int
    patch: int

    def flop(self, tokens: int) -> float:
        """Of a frame: patches, then linear layers and attention of each block."""
        blocks = self.depth * (24 * tokens * self.dim**2 + 4 * tokens**2 * self.dim)
        return 2.0 * 3 * self.patch**2 * self.dim * tokens + blocks

    @property
    def parameters(self) -> int:
        """Of the blocks and the patches; norms, biases and positions are next to nothing."""
        return 12 * self.depth * self.dim**2 + 3 * self.patch**2 * self.dim


NETWORKS = (
    Network("ViT-S/16", 384, 12, 16),
    Network("ViT-B/16", 768, 12, 16),
    Network("ViT-L/16", 1024, 24, 16),
    Network("ViT-S/8", 384, 12, 8),
    Network("ViT-B/8", 768, 12, 8),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoding", type=float, default=110, help="GFLOP/s of the network on one core")
    parser.add_argument("--matching", type=float, default=60, help="GFLOP/s of products inside the window on one core")
    args = parser.parse_args()
    print("| task, protocol | network | input | GFLOP to encode | to match | s per frame, one core | set | MB |")
    print("|---|---|---|---|---|---|---|---|")
    for task, original in ORIGINAL.items():
        protocol = load_protocol(f"{task}/{task_facts(task).default_protocol}")
        frames = sum(clip.num_frames or 0 for clip in official_clips(task, task_facts(task).default_split))
        for network in NETWORKS:
            size = network_size(original, protocol.frames, network.patch)
            grid = (size[0] // network.patch, size[1] // network.patch)
            encoding, matching = network.flop(grid[0] * grid[1] + 1) / 1e9, matching_flop(grid, network, protocol) / 1e9
            seconds = encoding / args.encoding + matching / args.matching
            cells = [
                f"{task}, {protocol.name}",
                network.name,
                f"{size[0]}x{size[1]}",
                f"{encoding:.0f}",
                f"{matching:.0f}",
                f"{seconds:.1f}",
                f"{seconds * frames / 3600:.1f} h" if frames else "",
                f"{memory(grid, network, protocol):.0f}",
            ]
            print(f"| {' | '.join(cells)} |")


def matching_flop(grid: tuple[int, int], network: Network, protocol: Protocol) -> float:
    """Products of a frame with full context."""
    windowed, free = _contexts(protocol)
    covers = protocol.affinity.shape == "none"
    inside = (grid[0] * grid[1]) ** 2 if covers else pairs_in_window(*grid, protocol.affinity)
    return 2.0 * network.dim * (windowed * inside + free * (grid[0] * grid[1]) ** 2)


def _contexts(protocol: Protocol) -> tuple[int, int]:
    """Context frames of a late frame that the window restricts, and those that it does not."""
    context = context_frames(1000, protocol.memory)
    return sum(one.free == 0 for one in context), sum(one.free > 0 for one in context)


def memory(grid: tuple[int, int], network: Network, protocol: Protocol) -> float:
    """MB of the weights and of a clip."""
    cells = grid[0] * grid[1]
    clip = memory_of_a_clip(
        cells=cells, channels=network.dim, context=sum(_contexts(protocol)), pixels=cells * network.patch**2
    )
    return (4 * network.parameters + clip) / 1e6


if __name__ == "__main__":
    main()
