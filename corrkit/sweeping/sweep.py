"""`corrkit.sweep`: from a checkpoint and some values to a sweep."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from corrkit.backbones.contract import Backbone
from corrkit.backbones.loading import Loading
from corrkit.errors import UsageError
from corrkit.inference import standard_defaults
from corrkit.passes import Progress
from corrkit.predictors.contract import Predictor
from corrkit.predictors.loading import Request, make_predictor
from corrkit.processes.workers import Staff
from corrkit.protocols import Protocol
from corrkit.sweeping.files import write_sweep
from corrkit.sweeping.grid import Values
from corrkit.sweeping.running import Sweep, open_sweep, run_sweep

if TYPE_CHECKING:
    import torch


def sweep(
    task: str,
    model: "str | Path | Backbone | torch.nn.Module | Predictor",
    *,
    temperature: Sequence[float] = (),
    topk: Sequence[int] = (),
    context: Sequence[int] = (),
    radius: Sequence[float | str] = (),
    resolution: Sequence[int | Sequence[int]] = (),
    layers: Sequence[int | str] | None = None,
    preset: str | None = None,
    data: str | Path | None = None,
    protocol: str | Protocol | None = None,
    select_on: str | None = None,
    report_on: str | None = None,
    clips: Sequence[str] | None = None,
    dataset_name: str | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    heads: int | None = None,
    key: str | None = None,
    system: str | None = None,
    layout: str | Path | None = None,
    workers: int | None = 1,
    progress: Progress | None = None,
    **overrides: object,
) -> Sweep:
    """Evaluates all combinations of some constants in one pass, and says which is best and by how much.

    Frames are decoded once, encoded once for each size (all layers together), and matched once for each window; each
    number is that of an evaluation by itself, to the bit.

    Args:
        task: "davis", "vip" or "jhmdb".
        model: as for `corrkit.evaluate`.
        temperature: values to try, as are the next ones; an axis without any stays as the protocol has it.
        topk: see temperature.
        context: see temperature.
        radius: in cells; "none" for no window.
        resolution: N or (height, width) of the network's input.
        layers: of a checkpoint, numbers from 1, or ["all"]; the last one is the default.
        preset: "dinov3-table27" or "vjepa2.1-c3", a paper's grid, with a protocol of its own.
        data: as for `corrkit.evaluate`, as are protocol, clips, dataset_name, device and workers.
        protocol: see data.
        select_on: the split on which the best setting is chosen; None takes the training split where the data have one.
        report_on: the split on which it and the default are reported; None takes the task's default.
        clips: names of clips of the one split on which settings are chosen and reported then.
        dataset_name: see data.
        out: a folder, written and resumed: a run folder for each setting, sweep.json, sweep.csv and the figure.
        device: see data.
        heads: as for `corrkit.evaluate`, as are key, system and layout.
        key: see heads.
        system: see heads.
        layout: see heads.
        workers: see data.
        progress: called after every frame.
        **overrides: protocol constants that all settings have.

    Raises:
        CorrkitError: as `corrkit.evaluate`; UsageError where nothing is swept.
    """
    values: Values = {
        "temperature": temperature,
        "topk": topk,
        "context": context,
        "radius": radius,
        "size": [[size] if isinstance(size, int) else list(size) for size in resolution],
    }
    plan = open_sweep(
        task,
        values,
        preset=preset,
        protocol=protocol,
        overrides=overrides,
        select_on=select_on,
        report_on=report_on,
        data=data,
        clips=clips,
        dataset_name=dataset_name,
        has_layers=layers is not None,
    )
    request, loading = None, Loading(heads=heads, key=key, system=system, layout=layout)
    with standard_defaults():
        if isinstance(model, str | Path):
            named = None if layers is None else tuple(map(str, layers))
            request = Request(spec=model, device=device, loading=loading, layers=named)
            predictors = request.predictors()
        elif layers is not None:
            raise UsageError("A live model has one layer.", "Leave layers out, or give a checkpoint.")
        else:
            predictors = [make_predictor(model, device=device, loading=loading)]
    found = run_sweep(
        plan,
        predictors,
        out=None if out is None else Path(out),
        staff=Staff(request=request, workers=workers),
        progress=progress,
    )
    if out is not None:
        write_sweep(found, Path(out))
    return found
