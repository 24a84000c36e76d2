"""Rendered clips to train on: none of their seeds is an evaluation seed."""

from pathlib import Path

from corrkit.files.atomic import write_atomic

TRAINING_FRAMES = 16


def training_clips(count: int) -> list[str]:
    """Names "task/seed" of as many clips, of which a third belongs to each task."""
    from corrkit.clips import TRAINING_SEEDS
    from corrkit.clips.embedded import TASKS

    return [f"{TASKS[number % 3]}/{TRAINING_SEEDS[number // 3]}" for number in range(count)]


def training_clip(name: str) -> Path:
    """The folder of a clip's frames in the user's cache, rendered on first use."""
    import cv2

    from corrkit.clips import render
    from corrkit.clips.embedded import embedded_root

    task, seed = name.split("/")
    folder = embedded_root(task).parent / "training" / task / seed
    if not (folder / "done").is_file():
        for number, frame in enumerate(render(task, int(seed), num_frames=TRAINING_FRAMES).frames):
            _, data = cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
            write_atomic(folder / f"{number:05d}.png", data.tobytes())
        write_atomic(folder / "done", "")
    return folder
