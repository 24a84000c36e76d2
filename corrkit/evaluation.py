"""The one pipeline that joins the rooms: data, predictor and protocol in; predictions, scores and a run folder out."""

import platform
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corrkit import __version__
from corrkit.backbones.contract import Backbone
from corrkit.errors import CorrkitError, RunError, UsageError
from corrkit.predictors import Identity, Oracle, Predictor, Propagator
from corrkit.protocols import DEFAULTS, Protocol, load_protocol, override
from corrkit.runs.folder import Run, default_folder
from corrkit.runs.results import Data, Summary, build_summary
from corrkit.tasks import load_task
from corrkit.tasks.contract import Clip, DataSet, Task, select_clips
from corrkit.tasks.identity import data_identity
from corrkit.tasks.sources import open_data

if TYPE_CHECKING:
    import pandas
    import torch

Progress = Callable[[str, int, int], None]
"""Called after every frame with the clip's name, frames done, and frames of the clip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What an evaluation gives: `summary` is the one results format; `failures` maps a clip to why it has no score.

    notes: what was ignored or odd about data and checkpoint. csvs: the task's official files, name to text.
    """

    summary: Summary
    failures: Mapping[str, CorrkitError] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    csvs: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def table(self) -> "pandas.DataFrame":
        """One row per metric with `value`, `low` and `high` (95 % interval), fractions between 0 and 1."""
        import pandas

        intervals = self.summary["intervals"]
        rows = [
            (name, value, *(intervals.get(name) or (None, None))) for name, value in self.summary["metrics"].items()
        ]
        return pandas.DataFrame(rows, columns=["metric", "value", "low", "high"]).set_index("metric")


def evaluate(
    task: str,
    model: "str | Path | Backbone | torch.nn.Module | Predictor",
    *,
    data: str | Path | None = None,
    protocol: str | Protocol | None = None,
    out: str | Path | None = None,
    split: str | None = None,
    clips: Sequence[str] | None = None,
    dataset_name: str | None = None,
    device: str = "auto",
    save_predictions: bool = False,
    heads: int | None = None,
    layer: int | str | None = None,
    key: str | None = None,
    progress: Progress | None = None,
    **overrides: Any,
) -> Result:
    """Evaluates a checkpoint or a live backbone on one task.

    Args:
        task: "davis", "vip" or "jhmdb".
        model: a spec (path, "rgb", "hog", "identity", "oracle", "random:NAME", ...), a backbone, or a module that
            `corrkit.wrap` understands; also a predictor made by `make_predictor`.
        data: the data root; None takes $CORRKIT_DATA/<task>, else the embedded clips.
        protocol: name or constants; None takes the task's default.
        out: run folder, created or resumed; None writes nothing.
        split: None takes the task's default split.
        clips: names of the clips to evaluate; None takes all. A subset marks the result partial.
        dataset_name: name of a data set of one's own in the task's layout.
        device: "auto" (CUDA where there is one, else CPU), "cpu", "cuda", "cuda:1", "mps".
        save_predictions: also write predictions into the run folder.
        heads: attention heads of a checkpoint that can't tell.
        layer: layer of a checkpoint; None takes the system's default.
        key: branch of a checkpoint that holds several networks.
        progress: called after every frame.
        **overrides: protocol constants by leaf name; any marks the result as modified.

    Returns:
        Summary and table. Clips that can't be evaluated are in `failures`, and the summary is marked partial.

    Raises:
        CorrkitError: for anything that concerns the whole evaluation (data root, checkpoint, protocol, run folder).
    """
    opened_task = load_task(task)
    constants = constants_of(opened_task, protocol, overrides)
    dataset = open_data(opened_task, data, split, dataset_name)
    chosen = dataset.clips if clips is None else select_clips(dataset, clips)
    predictor = make_predictor(model, device=device, heads=heads, layer=layer, key=key)
    predictor.require(constants)
    if save_predictions and out is None:
        raise UsageError("Predictions are saved in the run folder, but none was named.", "Give out= as well.")
    identity = data_identity(chosen)
    run = None if out is None else _open_run(Path(out), predictor, constants, identity)
    records, failures = evaluate_clips(
        predictor, chosen, opened_task, constants, run=run, save_predictions=save_predictions, progress=progress
    )
    scores = opened_task.scores(
        {name: record["statistics"] for name, record in records.items()}, constants, split=dataset.split
    )
    summary = build_summary(
        scores,
        constants,
        checkpoint=_checkpoint(predictor),
        data=described(dataset, chosen, identity),
        precision="float32",
        device=predictor.device_type,
        layer=predictor.report.layer,
        stride=predictor.stride,
        parameters=predictor.report.parameters,
        versions=_versions(),
        missing=[clip.name for clip in dataset.clips if clip.name not in records],
    )
    if run is not None:
        run.finish(summary, scores.csvs)
    notes = (*dataset.notes, *predictor.report.notes, *scores.notes, *(() if run is None else run.notes))
    folder = None if run is None else run.folder
    return Result(summary=summary, failures=failures, notes=notes, csvs=scores.csvs, folder=folder)


def evaluate_clips(
    predictor: Predictor,
    clips: Sequence[Clip],
    task: Task,
    protocol: Protocol,
    *,
    run: Run | None = None,
    save_predictions: bool = False,
    progress: Progress | None = None,
) -> tuple[dict[str, dict[str, Any]], dict[str, CorrkitError]]:
    """Records of all clips that could be evaluated, in order, and the reasons for those that could not."""
    finished = {} if run is None else run.finished
    predictions = run.predictions if run is not None and save_predictions else None
    records: dict[str, dict[str, Any]] = {}
    failures: dict[str, CorrkitError] = {}
    with exact_inference():
        for clip in clips:
            if clip.name in finished:
                records[clip.name] = finished[clip.name]
                continue
            try:
                record = evaluate_clip(predictor, clip, task, protocol, predictions=predictions, progress=progress)
            except CorrkitError as error:
                failures[clip.name] = error
                continue
            records[clip.name] = record
            if run is not None:
                run.write_clip(clip.name, record)
    return records, failures


def evaluate_clip(
    predictor: Predictor,
    clip: Clip,
    task: Task,
    protocol: Protocol,
    *,
    truth: Callable[[int], Any] | None = None,
    predictions: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """One pass over a clip: predict, score and save frame by frame."""
    started = time.perf_counter()
    num_frames = len(clip.frames)
    scorer = task.scorer(clip, protocol, truth or task.truth(clip, protocol))
    with closing(predictor.predict(clip, task, protocol)) as stream:  # type: ignore[type-var]  # a generator
        for index, prediction in enumerate(stream):
            if prediction is not None:
                scorer.update(index, prediction)
                if predictions is not None:
                    task.write_prediction(predictions, clip, index, prediction)
            if progress is not None:
                progress(clip.name, index + 1, num_frames)
    return {
        "clip": clip.name,
        "frames": num_frames,
        "statistics": scorer.result(),
        "timing": {"seconds": time.perf_counter() - started},
    }


def make_predictor(
    model: "str | Path | Backbone | torch.nn.Module | Predictor",
    *,
    device: str = "auto",
    heads: int | None = None,
    layer: int | str | None = None,
    key: str | None = None,
) -> Predictor:
    """The predictor of a spec, backbone or module. Raises CheckpointError or UsageError."""
    if isinstance(model, Predictor):
        return model
    if model == "identity":
        return Identity()
    if isinstance(model, str) and model.partition("@")[0] == "oracle":
        return _oracle(model)
    target = resolve_device(device)
    if isinstance(model, str | Path):
        from corrkit.backbones import load_backbone

        return Propagator(load_backbone(str(model), heads=heads, layer=layer, key=key), target, name=spec_name(model))
    if heads is not None or layer is not None or key is not None:
        raise UsageError("heads, layer and key are options of loading a file.", "Leave them out for a live model.")
    backbone = model if isinstance(model, Backbone) else _wrapped(model)
    return Propagator(backbone, target, name=backbone.report.architecture)


def _wrapped(module: "torch.nn.Module") -> Backbone:
    from corrkit.backbones import wrap

    backbone: Backbone = wrap(module)
    return backbone


def spec_name(spec: str | Path) -> str:
    """A name for tables and run folders: a file's stem, or the spec with its separators replaced."""
    path = Path(spec)
    if path.exists():
        return path.stem if path.is_file() else path.name
    return re.sub(r"[^A-Za-z0-9._@+-]+", "-", str(spec))


def run_folder(predictor: Predictor, task: str, protocol: str | None) -> Path:
    """Where a run goes by default. Raises ProtocolError for an unknown protocol."""
    constants = load_protocol(protocol or DEFAULTS[load_task(task).name], task)
    return default_folder(predictor.name, predictor.digest or "unknown", task, constants.name)


def resolve_device(name: str) -> "torch.device":
    """Torch's device for "auto" or a torch device name. Raises UsageError for a device that this machine lacks."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"The device {name!r} can't be used ({reason}).", "Use --device cpu, cuda or mps.") from None
    return device


@contextmanager
def exact_inference() -> Iterator[None]:
    """No gradients, no autocast, no TF32: float32 products as the goldens have them; all settings are put back."""
    import torch

    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.no_grad(), ExitStack() as stack:
            for kind in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
                stack.enter_context(torch.autocast(kind, enabled=False))
            yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def constants_of(task: Task, protocol: str | Protocol | None, overrides: Mapping[str, Any]) -> Protocol:
    """A task's protocol, by name or as it is, with overrides. Raises ProtocolError or UsageError."""
    constants = protocol if isinstance(protocol, Protocol) else None
    if constants is None:
        constants = load_protocol(str(protocol or DEFAULTS[task.name]), task.name)
    elif constants.task != task.name:
        raise UsageError(f"{constants.identifier} is no protocol for {task.name}.", "Choose one of the task's own.")
    return override(constants, overrides)


def _oracle(spec: str) -> Oracle:
    """From "oracle", or "oracle@8" for the grid of another stride."""
    stride = spec.partition("@")[2]
    if not stride:
        return Oracle()
    if not stride.isdecimal() or int(stride) == 0:
        raise UsageError(f"{spec!r} does not name a stride.", "Write oracle@16 or oracle@8.")
    return Oracle(stride=int(stride))


def described(dataset: DataSet, clips: Sequence[Clip], identity: str) -> Data:
    """The data part of a summary; a subset of an official data set is not official."""
    official = dataset.official and len(clips) == len(dataset.clips)
    return {"name": dataset.name, "split": dataset.split, "identity": identity, "official": official}


def _checkpoint(predictor: Predictor) -> dict[str, Any]:
    return {
        "spec": predictor.name,
        "digest": predictor.digest,
        "system": predictor.report.system,
        "architecture": predictor.report.architecture,
        "mode": predictor.mode.kind,
        "sees_future": predictor.mode.sees_future,
    }


def _open_run(folder: Path, predictor: Predictor, protocol: Protocol, identity: str) -> Run:
    """Creates or resumes the run. Raises RunError for another run's folder."""
    if predictor.digest is None and (folder / "run.json").exists():
        raise RunError(
            f"The run in {folder} can't be resumed: nothing tells whether {predictor.name} is the backbone it had.",
            "Give another folder, or give the backbone a `digest`.",
        )
    return Run.open(folder, _fingerprint(predictor, protocol, identity), _circumstances())


def _fingerprint(predictor: Predictor, protocol: Protocol, identity: str) -> dict[str, Any]:
    """What must be equal for a run to be resumed."""
    return {
        "task": protocol.task,
        "checkpoint": predictor.digest,
        "layer": predictor.report.layer,
        "protocol": protocol.identifier,
        "overrides": dict(protocol.overrides),
        "data": identity,
        "precision": "float32",
        "device": predictor.device_type,
        **_versions(),
    }


def _versions() -> dict[str, str]:
    import torch

    return {"corrkit": __version__, "torch": torch.__version__}


def _circumstances() -> dict[str, Any]:
    """What is recorded but may differ when a run is resumed."""
    import torch

    from corrkit.propagation.probe import products_are_bit_equal

    return {
        "host": platform.node(),
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "products_bit_equal": products_are_bit_equal(),
    }
