"""From a checkpoint to a file of its backbone alone."""

from pathlib import Path

from corrkit.backbones.contract import Report
from corrkit.backbones.loading import NO_OPTIONS, Loading, examine_opened, open_spec, own_system
from corrkit.checkpoints import converted
from corrkit.checkpoints.recognition import recognise
from corrkit.errors import CheckpointError


def convert(file: str | Path, out: str | Path, loading: Loading = NO_OPTIONS) -> Report:
    """Writes the cleaned backbone of a checkpoint as safetensors.

    Args:
        file: a checkpoint file or folder of a system of the registry, "demo" or "hf:...".
        out: the new file, *.safetensors.
        loading: heads, key, system and layout, as for `load_backbone`.

    Returns:
        The report of the original backbone, which was loaded completely.

    Raises:
        CheckpointError: a file that doesn't load, or a new one that exists or is named otherwise.
    """
    target = Path(out)
    if target.suffix != ".safetensors":
        raise CheckpointError(f"{target} isn't named *.safetensors.", "Name the new file so.")
    opened = open_spec(file)
    report = examine_opened(opened, loading).report
    if report.system == "timm":
        raise CheckpointError(f"{file} is a network in timm's own names and needs no converting.", "Use it as it is.")
    recognised = recognise(opened, loading.key, loading.system, own_system(loading))
    converted.write(recognised, target, digest=opened.digest, heads=loading.heads)
    return report
