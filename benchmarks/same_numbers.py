"""Whether two revisions print the same numbers, to the last bit.

    python benchmarks/same_numbers.py OLD [NEW] [--data FOLDER] [--quick]

OLD and NEW are git revisions; NEW defaults to the working tree. Each is run by itself: soft maps, records, summaries,
tables, official CSVs, saved predictions, their scores and the leaderboard, for several backbones and layers on the
embedded clips of the three tasks and, where FOLDER has them, on real clips (DAVIS, DAVIS_240p, VIP_derived,
VIP_rendered, JHMDB). Prints what changed, what is gone and how much is new; exits with 1 unless all that was is equal.
"""

import argparse
import csv
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parent.parent
SPECS = ("rgb", "hog", "demo", "random:vit_tiny_patch16_224@0")
LAYERS = ("demo", "2,4")
REAL = {
    "davis": ("DAVIS", "DAVIS_240p", "DAVIS_composite"),
    "vip": ("VIP_derived", "VIP_rendered"),
    "jhmdb": ("JHMDB",),
}
SPLITS = {"davis": "val", "vip": "val", "jhmdb": "split1"}
SOFT_FRAMES = 6  # of each embedded clip that soft maps are compared on
UNCOMPARED = {"timing", "spec", "versions", "frames_per_second"}  # seconds; paths; the revisions' own versions
Values = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new", nargs="?")
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data", help="folder of real clips")
    parser.add_argument("--quick", action="store_true", help="the embedded clips and rgb only")
    args = parser.parse_args()
    if args.old == "measure":
        json.dump(measure(args.data, quick=args.quick), sys.stdout)
        return
    data = args.data.resolve()
    with revision(args.old) as old_tree, revision(args.new) as new_tree:
        old, new = (measured_by(tree, data, args.quick) for tree in (old_tree, new_tree))
    sys.exit(report(old, new))


@contextmanager
def revision(name: str | None) -> Iterator[Path]:
    """A checkout of a revision, removed afterwards; the working tree itself where no name is given."""
    if name is None:
        yield REPOSITORY
        return
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        git = ["git", "-C", str(REPOSITORY), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), name], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def measured_by(tree: Path, data: Path, quick: bool) -> Values:
    """What this script measures with the package of `tree`."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, str(Path(__file__).resolve()), "measure", "--data", str(data)]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*command, *(["--quick"] if quick else [])], env=environment, cwd=folder, stdout=subprocess.PIPE, check=True
        )
    values: Values = json.loads(done.stdout)
    if not Path(values.pop("package")).is_relative_to(tree):
        sys.exit(f"{tree} did not run its own package")
    return values


def measure(data: Path, *, quick: bool) -> Values:
    """Name to value (or hash) of everything that the package on the path prints and writes."""
    import corrkit

    values: Values = {"package": corrkit.__file__}
    folders: list[str] = []
    for task in ("davis", "vip", "jhmdb"):
        for spec in SPECS[:1] if quick else SPECS:
            values |= soft_maps(task, spec)
            values |= run(task, f"embedded-{task}-{spec}", folders, "--ckpt", spec)
        if not quick:
            values |= run(task, f"embedded-{task}-layers", folders, "--ckpt", LAYERS[0], "--layers", LAYERS[1])
            for name in REAL[task]:
                if (data / name).is_dir():
                    for spec in (SPECS[0], SPECS[-1]):
                        values |= run(
                            task, f"{name}-{spec}", folders, "--ckpt", spec, "--data", str(data / name), real=True
                        )
    # Revisions without the option write all columns.
    every_column = ["--wide"] if "--wide" in command(["leaderboard", "--help"]) else []
    command(["leaderboard", *folders, "--out", "leaderboard.csv", *every_column])
    for row in csv.DictReader(Path("leaderboard.csv").read_text(encoding="utf-8").splitlines()):
        values |= {f"leaderboard/{row['runs']}/{name}": value for name, value in row.items() if name not in UNCOMPARED}
    return values


def soft_maps(task: str, spec: str) -> Values:
    """Hashes of features and soft maps of the embedded clips, through the Python API."""
    import numpy as np
    import torch

    import corrkit
    from corrkit.clips.embedded import embedded_root
    from corrkit.tasks import load_task

    opened = load_task(task)
    backbone = corrkit.load_backbone(spec)
    values: Values = {}
    dataset = opened.open(embedded_root(task), split=SPLITS[task], dataset_name=None)
    for clip in dataset.clips:
        frames = [torch.from_numpy(np.array(clip.frames[i])) for i in range(min(SOFT_FRAMES, len(clip.frames)))]
        sides = [side // 16 * 16 for side in frames[0].shape[:2]]
        inputs = torch.stack(frames)[:, : sides[0], : sides[1]].permute(0, 3, 1, 2).float() / 255
        statistics = [torch.tensor(part)[:, None, None] for part in (backbone.mean, backbone.std)]
        with torch.no_grad():
            features = torch.stack(list(backbone.encode((inputs - statistics[0]) / statistics[1])))
            generator = torch.Generator().manual_seed(0)
            labels = torch.rand(*features.shape[1:3], 4, generator=generator)
            values[f"features/{task}/{spec}/{clip.name}"] = digest(features)
            protocol = f"{task}/{'dino' if task == 'davis' else 'cropmae'}"
            for index, soft in enumerate(islice(corrkit.propagate(features, labels, protocol=protocol), SOFT_FRAMES)):
                values[f"soft/{task}/{spec}/{clip.name}/{index}"] = digest(soft)
    return values


def digest(tensor: Any) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()[:16]


def run(task: str, name: str, folders: list[str], *options: str, real: bool = False) -> Values:
    """One evaluation as a process: its table, its folder, and `score` of its predictions."""
    out = Path("runs") / name.replace(":", "-")
    values: Values = {f"{name}/table": command(["eval", task, *options, "--out", str(out), "-q", "--save-predictions"])}
    lanes = sorted(path.parent for path in out.rglob("summary.json"))
    for lane in lanes:
        folders.append(str(lane))
        values |= of_folder(f"{name}/{lane.relative_to(out)}", lane)
        given = ["--data", options[options.index("--data") + 1]] if real else []
        scored = command(["score", task, *given, "--pred", str(lane / "predictions"), "--json"])
        values |= leaves(f"{name}/{lane.relative_to(out)}/score", json.loads(scored))
    return values


def of_folder(name: str, folder: Path) -> Values:
    """Everything in a run folder: JSON by its leaves, other files by their bytes."""
    values: Values = {}
    for path in sorted(folder.rglob("*")):
        place = f"{name}/{path.relative_to(folder)}"
        if path.suffix == ".json" and path.name != "run.json":
            values |= leaves(place, json.loads(path.read_text()).get("record") or json.loads(path.read_text()))
        elif path.is_file() and path.name != "run.json":
            values[place] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return values


def leaves(place: str, value: Any) -> Values:
    """A JSON document as place to leaf."""
    if isinstance(value, dict):
        found: Values = {}
        for key, part in value.items():
            if key not in UNCOMPARED:
                found |= leaves(f"{place}/{key}", part)
        return found
    if isinstance(value, list) and any(isinstance(part, dict) for part in value):
        return {key: leaf for index, part in enumerate(value) for key, leaf in leaves(f"{place}/{index}", part).items()}
    return {place: value}


def command(arguments: Sequence[str]) -> str:
    done = subprocess.run([sys.executable, "-m", "corrkit", *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def report(old: Values, new: Values) -> int:
    changed = [key for key in old if key in new and repr(old[key]) != repr(new[key])]
    gone = [key for key in old if key not in new]
    for key in changed:
        print(f"changed: {key}\n  {old[key]!r}\n  {new[key]!r}")
    for key in gone:
        print(f"gone: {key}")
    print(
        f"{len(old)} values compared: {len(old) - len(changed) - len(gone)} equal, {len(changed)} changed, "
        f"{len(gone)} gone; {len(new) - (len(old) - len(gone))} new"
    )
    return 1 if changed or gone else 0


if __name__ == "__main__":
    main()
