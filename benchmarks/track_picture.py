"""The picture of docs/track.md: what `corrkit.Tracker` makes of a first mask and of first points on embedded clips.

python benchmarks/track_picture.py docs/images/track.jpg
"""

import sys
from pathlib import Path

import numpy as np

import corrkit
from corrkit.clips import embedded_root
from corrkit.report.pictures import painted_label, strip
from corrkit.task_table import task_facts
from corrkit.tasks import load_task

WIDTH = 250
SHOWN = 4
ROWS = (("davis", 1, "hog", "objects"), ("davis", 3, "hog", "objects"), ("jhmdb", 1, "hog", "points"))


def main(path: Path) -> None:
    """Writes the picture."""
    rows, frames = [], []
    for task, number, spec, name in ROWS:
        facts = task_facts(task)
        data = load_task(task).open(embedded_root(task), split=facts.default_split, dataset_name="embedded")
        clip = data.clips[number]
        tracker = corrkit.Tracker(spec, protocol=f"{task}/{facts.default_protocol}")
        labels = [tracker.start(clip.frames[0], clip.annotation(0))]
        labels += [tracker.step(clip.frames[index]) for index in range(1, len(clip.frames))]
        chosen = np.linspace(0, len(labels) - 1, SHOWN).round().astype(int).tolist()
        rows.append((name, [painted_label(clip.frames[i], labels[i], WIDTH) for i in chosen]))
        frames.append(chosen)
    heads = ["given in the first frame", *(f"frame {index}" for index in frames[0][1:])]
    strip(rows, heads).save(path, quality=88)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
