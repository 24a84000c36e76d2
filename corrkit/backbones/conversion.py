"""From a checkpoint to a file of its backbone alone."""

from pathlib import Path

from corrkit.backbones.contract import Report
from corrkit.backbones.loading import Loading, examine_opened, open_spec
from corrkit.checkpoints import converted
from corrkit.checkpoints.recognition import recognise
from corrkit.errors import CheckpointError


def convert(
    file: str | Path, out: str | Path, *, heads: int | None = None, key: str | None = None, system: str | None = None
) -> Report:
    """Writes the cleaned backbone of a checkpoint as safetensors.

    Args:
        file: a checkpoint file or folder of a system of the registry, "demo" or "hf:...".
        out: the new file, *.safetensors.
        heads: attention heads, where the checkpoint can't tell.
        key: branch of a checkpoint that holds several networks.
        system: name of the system, where the checkpoint fits several.

    Returns:
        The report of the original backbone, which was loaded completely.

    Raises:
        CheckpointError: a file that doesn't load, or a new one that exists or is named otherwise.
    """
    target = Path(out)
    if target.suffix != ".safetensors":
        raise CheckpointError(f"{target} isn't named *.safetensors.", "Name the new file so.")
    opened = open_spec(file)
    report = examine_opened(opened, Loading(heads=heads, key=key, system=system)).report
    if report.system == "timm":
        raise CheckpointError(f"{file} is a network in timm's own names and needs no converting.", "Use it as it is.")
    converted.write(recognise(opened, key, system), target, digest=opened.digest, heads=heads)
    return report
