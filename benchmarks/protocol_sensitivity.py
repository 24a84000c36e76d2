"""How much of a DAVIS number is the protocol? The same features under every protocol, and one factor changed at a time.

    python benchmarks/protocol_sensitivity.py OUT [--ckpt SPEC ...] [--data ROOT] [--clips NAME,NAME] [--part ...]
    python benchmarks/protocol_sensitivity.py OUT --table

One part evaluates each checkpoint under every DAVIS protocol; the other starts at `dino` and takes over one group
of constants at a time, and last all of them, from `cropmae` and from `dinov3-M`. Protocols that show the network frames
of one size are evaluated in one pass, small sizes first. Every evaluation is a run folder below OUT, resumed when the
command is repeated. The table (Markdown) and OUT/sensitivity.svg show J&F and its difference from `dino`, with the 95 %
interval of a bootstrap over clips. Networks keep their own colours under protocols that were made for Lab or grey ones.

For a machine with little time: `--scale 0.5` halves pictures, sizes and radii alike, `--frames 20` takes the first 20
of each clip. The differences between protocols stay of the same kind, the numbers are others.
"""

import argparse
import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from corrkit.evaluation import evaluate_together
from corrkit.metrics.intervals import compare_paired
from corrkit.predictors.loading import make_predictor
from corrkit.predictors.propagator import Propagator
from corrkit.protocols import Protocol, load_protocol, override, protocol_names
from corrkit.protocols.explaining import differences
from corrkit.runs.comparable import StoredRun, read_runs
from corrkit.runs.pairing import protocol_of
from corrkit.subject import Subject, open_subject
from corrkit.tasks import load_task
from corrkit.tasks.masks import resize_nearest, write_mask

BASE = "dino"
TARGETS = ("cropmae", "dinov3-M")
CHECKPOINTS = ("random:vit_tiny_patch16_224", "rgb", "hog", "demo")
FACTORS: Mapping[str, tuple[str, ...]] = {
    "size and resizing": ("frames.",),
    "std": ("features.std",),
    "position rule": ("features.position",),
    "queue and first frame": ("memory.",),
    "window": ("affinity.radius", "affinity.shape", "affinity.inclusive"),
    "neighbours": ("affinity.topk", "affinity.ties"),
    "temperature": ("affinity.temperature",),
    "labels to the grid": ("labels.",),
    "read-out": ("readout.",),
}
"""Groups of constants that are changed together, by the beginnings of their names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One evaluation: its place on the page, and the protocol."""

    section: str
    name: str
    protocol: Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What came out of a step for a checkpoint: J&F, and its difference from `dino` with interval, points."""

    section: str
    name: str
    checkpoint: str
    score: float
    difference: float
    interval: tuple[float, float] | None


def steps(parts: Sequence[str]) -> Iterator[Step]:
    """The base first: all others are compared with it."""
    yield Step(section="protocols", name=BASE, protocol=load_protocol(BASE, "davis"))
    for target in TARGETS if "factors" in parts else ():
        yield from steps_towards(target)
    for name in protocol_names("davis") if "protocols" in parts else ():
        if name != BASE:
            yield Step(section="protocols", name=name, protocol=load_protocol(name, "davis"))


def steps_towards(target: str) -> Iterator[Step]:
    base = load_protocol(BASE, "davis")
    changes = {name: values[1] for name, values in differences([base, load_protocol(target, "davis")]).items()}
    for factor, beginnings in FACTORS.items():
        own = {name: value for name, value in changes.items() if name.startswith(beginnings)}
        if own:
            yield Step(section=f"{BASE} to {target}", name=factor, protocol=override(base, own))
    left = [name for name in changes if not name.startswith(tuple(b for group in FACTORS.values() for b in group))]
    assert not left, f"constants of no factor: {left}"
    yield Step(section=f"{BASE} to {target}", name="all of them", protocol=override(base, changes))


def scaled(protocol: Protocol, factor: float) -> Protocol:
    """The protocol with sizes, roundings and radius multiplied, for a network that keeps its own colours."""
    frames = protocol.frames
    sizes = {"frames.size": frames.size, "frames.stored_size": getattr(frames, "stored_size", ())}
    changes: dict[str, object] = {name: [round(side * factor) for side in size] for name, size in sizes.items() if size}
    if frames.multiple > 1:
        changes["frames.multiple"] = round(frames.multiple * factor)
    changes["affinity.radius"] = protocol.affinity.radius * factor
    return override(protocol, {**changes, "features.colour": "published"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--ckpt", nargs="+", default=list(CHECKPOINTS), metavar="SPEC")
    parser.add_argument("--data", default="embedded", help="a root in DAVIS layout; default: the embedded clips")
    parser.add_argument("--clips", type=lambda text: text.split(","), help="only these clips (3 or more for intervals)")
    parser.add_argument("--scale", type=float, default=1.0, help="of pictures, sizes and radii")
    parser.add_argument("--frames", type=int, metavar="N", help="only the first N of each clip")
    parser.add_argument("--part", nargs="+", default=["factors", "protocols"], choices=["factors", "protocols"])
    parser.add_argument("--table", action="store_true", help="only print what is finished")
    args = parser.parse_args()
    if not args.table:
        subject = open_subject("davis", data=args.data, clips=args.clips)
        if (args.scale, args.frames) != (1, None):
            root = small_copy(subject, args.out, args.scale, args.frames)
            subject = open_subject("davis", data=root, clips=args.clips)
        for _, spec, predictor, chosen in sorted(pieces(subject, args), key=lambda piece: piece[0]):
            lanes = [(predictor, scaled(step.protocol, args.scale)) for step in chosen]
            found = evaluate_together(subject, lanes, outs=[folder_of(spec, step, args.out) for step in chosen])
            for step, result in zip(chosen, found, strict=True):
                assert not result.failures, result.failures
                score = 100 * result.summary["metrics"]["J&F-Mean"]
                print(f"{spec}, {step.section}, {step.name}: {score:.1f}", flush=True)
    rows = [row for spec in args.ckpt for row in rows_of(spec, args)]
    print(table(rows))
    (args.out / "sensitivity.svg").write_text(plot(rows), encoding="utf-8")


def small_copy(subject: Subject, out: Path, scale: float, frames: int | None) -> Path:
    """A data root of the first frames of each clip, scaled."""
    root = out / f"data-{scale:g}-{frames or 'all'}"
    names = [clip.name for clip in subject.dataset.clips]
    for clip in subject.dataset.clips:
        for index in range(min(frames or len(clip.frames), len(clip.frames))):
            frame, mask = clip.frames[index], clip.annotation(index)
            height, width = (round(side * scale) for side in frame.shape[:2])
            image = root / "JPEGImages/480p" / clip.name / f"{index:05d}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(image), cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)[..., ::-1])
            if mask is not None:
                write_mask(root / "Annotations/480p" / clip.name / image.name, resize_nearest(mask, (height, width)))
    (root / "ImageSets/2017").mkdir(parents=True, exist_ok=True)
    (root / "ImageSets/2017/val.txt").write_text("\n".join(names), encoding="utf-8")
    return root


def pieces(subject: Subject, args: argparse.Namespace) -> Iterator[tuple[float, str, Propagator, list[Step]]]:
    """What is still to be evaluated: for each checkpoint the steps that show it frames of one size; with the cost."""
    for spec in args.ckpt:
        predictor = make_predictor(spec)
        assert isinstance(predictor, Propagator), f"{spec} knows no protocol"
        found: dict[tuple[tuple[int, int], bool], list[Step]] = {}
        for step in steps(args.part):
            if not (folder_of(spec, step, args.out) / "summary.json").exists():
                protocol = scaled(step.protocol, args.scale)
                size = predictor.input_of(object, subject.clips[0].frames.size, protocol).size
                found.setdefault((size, protocol.affinity.shape == "none"), []).append(step)
        for ((height, width), has_no_window), chosen in found.items():
            cells = height * width / predictor.stride**2
            yield cells * (cells if has_no_window else 1), spec, predictor, chosen


def folder_of(spec: str, step: Step, out: Path) -> Path:
    return out / spec.replace("/", "_").replace(":", "_") / f"{step.section} - {step.name}".replace(" ", "_")


def rows_of(spec: str, args: argparse.Namespace) -> Iterator[Row]:
    """What is finished, in the order of the steps."""
    base: StoredRun | None = None
    for step in steps(args.part):
        folder = folder_of(spec, step, args.out)
        if not (folder / "summary.json").exists():
            continue
        (run,), _ = read_runs([folder])
        base = base or run
        difference, interval = paired(run, base)
        score = 100 * run.summary["metrics"]["J&F-Mean"]
        yield Row(
            section=step.section,
            name=step.name,
            checkpoint=spec,
            score=score,
            difference=difference,
            interval=interval,
        )


def paired(run: StoredRun, base: StoredRun) -> tuple[float, tuple[float, float] | None]:
    """J&F of a run less that of the base on the same clips, points; each scored as its own protocol says."""
    task = load_task("davis")
    evidence = []
    for one in (run, base):
        protocol = protocol_of(one)
        assert protocol is not None
        evidence.append(task.evidence({clip: record.statistics for clip, record in one.records.items()}, protocol))
    found = compare_paired(evidence[0].statistics, evidence[1].statistics, evidence[0].estimate)[0]
    interval = None if found.interval is None else (100 * found.interval[0], 100 * found.interval[1])
    return 100 * found.difference, interval


def table(rows: Sequence[Row]) -> str:
    """Markdown: a section for the protocols and one for each target, a column for each checkpoint."""
    checkpoints = list(dict.fromkeys(row.checkpoint for row in rows))
    lines = []
    for section in dict.fromkeys(row.section for row in rows):
        lines += [f"\n| {section} | {' | '.join(f'`{name}`' for name in checkpoints)} |"]
        lines += [f"|---|{'---|' * len(checkpoints)}"]
        for name in dict.fromkeys(row.name for row in rows if row.section == section):
            found = {row.checkpoint: row for row in rows if (row.section, row.name) == (section, name)}
            cells = [cell(found[one]) if one in found else "" for one in checkpoints]
            lines.append(f"| {f'`{name}`' if section == 'protocols' else name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(row: Row) -> str:
    if row.name == BASE:
        return f"{row.score:.1f}"
    ends = "" if row.interval is None else f" [{row.interval[0]:+.1f}, {row.interval[1]:+.1f}]"
    return f"{row.score:.1f} ({row.difference:+.1f}{ends})"


COLOURS = ("#1f6f8b", "#d1495b", "#66a182", "#8d6a9f")


def plot(rows: Sequence[Row]) -> str:
    """An SVG: differences from `dino` with their intervals, a line for each step, a colour for each checkpoint."""
    checkpoints = list(dict.fromkeys(row.checkpoint for row in rows))
    shown = [row for row in rows if row.name != BASE]
    names = list(dict.fromkeys((row.section, row.name) for row in shown))
    ends = [end for row in shown for end in (row.difference, *(row.interval or ()))]
    low, high = min([-1.0, *ends]), max([1.0, *ends])
    left, width, step = 260, 520, 20

    def x(value: float) -> float:
        return left + width * (value - low) / (high - low)

    height = 60 + step * len(names)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 40}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{left + width + 40}" height="{height}" fill="white"/>',
        f'<line x1="{x(0):.1f}" x2="{x(0):.1f}" y1="30" y2="{height - 25}" stroke="#999"/>',
    ]
    for number, spec in enumerate(checkpoints):
        colour, before = COLOURS[number % len(COLOURS)], sum(7 * len(one) + 25 for one in checkpoints[:number])
        parts.append(f'<text x="{left + before}" y="16" fill="{colour}">{html.escape(spec)}</text>')
    for line, (section, name) in enumerate(names):
        y = 40 + step * line
        label = name if section == "protocols" else f"{section}: {name}"
        parts.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{html.escape(label)}</text>')
        for row in shown:
            if (row.section, row.name) == (section, name):
                number = checkpoints.index(row.checkpoint)
                at, colour = y + 3 * (number - (len(checkpoints) - 1) / 2), COLOURS[number % len(COLOURS)]
                if row.interval is not None:
                    x1, x2 = map(x, row.interval)
                    parts.append(f'<line x1="{x1:.1f}" x2="{x2:.1f}" y1="{at}" y2="{at}" stroke="{colour}"/>')
                parts.append(f'<circle cx="{x(row.difference):.1f}" cy="{at}" r="3" fill="{colour}"/>')
    for value in sorted({round(low), 0, round(high)}):
        parts.append(f'<text x="{x(value):.1f}" y="{height - 8}" text-anchor="middle">{value:+d}</text>')
    return "\n".join([*parts, "</svg>\n"])


if __name__ == "__main__":
    main()
