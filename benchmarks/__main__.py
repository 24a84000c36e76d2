"""All figures of speed and memory that have a bar, as ratios taken in one run.

    python -m benchmarks --list
    python -m benchmarks                             # all: more than an hour of a quiet core
    python -m benchmarks startup matching/s8 jf      # some of them, or a part of one
    python -m benchmarks jf --data DAVIS --official davis2017-evaluation
    python -m benchmarks --quick                     # small inputs: does all of it work? no figures for the bars
    python -m benchmarks matching --out matching.csv --record

Run from the root of the repository, with nothing else to do for the machine. --out writes the rows as CSV, and beside
it a drawing (PNG) of where each stands to its bar. --record appends them to benchmarks/history.csv; rows that were
recorded on the same machine before are shown beside the new ones.
"""

import argparse
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # modules find each other as they do when run as scripts

from drawing import draw, write_csv
from history import History
from measuring import Row, Settings
from registry import REGISTRY, chosen


def main() -> int:
    args = _arguments()
    if args.list:
        for name, benchmark in REGISTRY.items():
            print(f"{name:18} {' '.join(benchmark.parts):38} {benchmark.shows}")
        return 0
    try:
        wanted = chosen(args.names)
    except KeyError as error:
        print(f"There is no benchmark {error}; --list names them.", file=sys.stderr)
        return 2
    settings = Settings(device=args.device, quick=args.quick, data=args.data, official=args.official)
    history, done, failed = History.read(), [], 0
    print(f"{history.machine}, {args.device}{', QUICK: no figures for the bars' if args.quick else ''}")
    print(_line("", "", "", "must", "aim", "", "before"))
    for name, part in wanted:
        full = f"{name}/{part}" if part else name
        try:
            for row in REGISTRY[name].rows(settings, part):
                done.append((full, row))
                print(_shown(full, row, history.last(full, row), quick=args.quick), flush=True)
        except Exception:
            failed += 1
            print(f"{full}: failed", file=sys.stderr)
            traceback.print_exc()
    _keep(args, history, done)
    return 1 if failed else 0


def _keep(args: argparse.Namespace, history: History, done: list[tuple[str, Row]]) -> None:
    if args.out:
        write_csv(args.out, done)
        draw(args.out.with_suffix(".png"), done)
    if args.record:
        history.append(done)


def _shown(name: str, row: Row, before: float | None, *, quick: bool) -> str:
    must, aim = "", ""
    if row.bar is not None:
        must, aim = (f"{row.bar.relation} {limit:g}" if limit else "" for limit in (row.bar.must, row.bar.aim))
    value, last = f"{row.value:.3g} {row.unit}", "" if before is None else f"{before:.3g}"
    return _line(name, row.what, value, must, aim, "" if quick else row.verdict, last)


def _line(name: str, what: str, value: str, must: str, aim: str, verdict: str, before: str) -> str:
    return f"{name:22} {what:74} {value:>10} {must:>8} {aim:>8} {verdict:>7} {before:>7}".rstrip()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="NAME or NAME/PART; default: all")
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--quick", action="store_true", help="small inputs, one round")
    parser.add_argument("--data", type=Path, metavar="ROOT", help="in DAVIS layout; default: embedded or drawn clips")
    parser.add_argument("--official", type=Path, metavar="FOLDER", help="checkout of davis2017-evaluation, for jf")
    parser.add_argument("--out", type=Path, metavar="CSV", help="write the rows, and a drawing beside them")
    parser.add_argument("--record", action="store_true", help="append the rows to benchmarks/history.csv")
    args = parser.parse_args()
    if args.record and args.quick:
        parser.error("--quick gives no figures to record")
    return args


if __name__ == "__main__":
    sys.exit(main())
