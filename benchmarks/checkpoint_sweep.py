"""What becomes of the files of every network of timm, transformers or open_clip: one CSV row each, and the counts.

    python benchmarks/checkpoint_sweep.py timm OUT.csv [--match 'vit_*'] [--shard 0/2]

Weights are drawn anew. A state dict of the published size (constants, which take no memory) shows what is recognised
and how many heads are taken; where it loads, a network of the same class, as large as a CPU can run, shows whether the
features are those of the class's own code, at its native size and at a wider one. transformers and open_clip are asked
twice, with the configuration beside the weights and without ("lone"); their networks are made small through their
configurations. open_clip needs the package open_clip_torch. Outcomes:

    equal         within 1e-5 of the largest feature
    noted         equal, and a note names what the file leaves open
    assumed       not equal, and a note names what was assumed: a rule of positions, heads, an epsilon, ...
    asked         for heads, --system or a configuration
    refused       with a reason that holds
    not compared  recognised, but the class takes no size that could be compared
    unmade        the library itself couldn't make it

and what must not be: "wrong" (other features, heads or cells, and no word), "untrue" (called incomplete or damaged
though whole), "crashed".
"""

import argparse
import collections
import csv
import fnmatch
import importlib
import warnings
from dataclasses import asdict, fields
from pathlib import Path

from swept import Row

LIBRARIES = ("timm", "transformers", "open_clip")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("out")
    parser.add_argument("--match", default="*", help="pattern of names")
    parser.add_argument("--shard", default="0/1", help="every Nth name from the Kth on, as K/N")
    arguments = parser.parse_args()
    swept = importlib.import_module(f"swept_{arguments.library}")
    first, step = map(int, arguments.shard.split("/"))
    names = [name for name in swept.names() if fnmatch.fnmatch(name, arguments.match)][first::step]
    counts: collections.Counter[str] = collections.Counter()
    with Path(arguments.out).open("w", newline="", buffering=1) as file:
        table = csv.DictWriter(file, [field.name for field in fields(Row)])
        table.writeheader()
        for row in swept.rows(names):
            table.writerow(asdict(row))
            counts[row.outcome] += 1
    print(f"{arguments.library}: {len(names)} names, " + ", ".join(f"{n} {what}" for what, n in counts.most_common()))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
