"""Checkpoints of the Hugging Face hub: "hf:OWNER/NAME[@REVISION]", with the extra `hub`."""

import re
from pathlib import Path

from corrkit.errors import CheckpointError

_FILES = ("*.json", "model*.safetensors", "pytorch_model*.bin", "*.safetensors.index.json", "*.bin.index.json")


def download(name: str) -> Path:
    """The folder of a model in the hub's own cache; fetched where it isn't there yet.

    Args:
        name: OWNER/NAME, with @REVISION for another than the main branch.

    Raises:
        CheckpointError: a malformed name, the extra isn't installed, or the hub doesn't give the files.
    """
    match = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", name)
    if match is None:
        raise CheckpointError(f"'hf:{name}' is malformed.", "Write hf:OWNER/NAME or hf:OWNER/NAME@REVISION.")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise CheckpointError(
            "hf: needs huggingface_hub, which isn't installed.", "Run: pip install 'corrkit[hub]'"
        ) from None
    try:
        return Path(snapshot_download(match[1], revision=match[2], allow_patterns=list(_FILES)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"hf:{name} can't be had: {reason}", "Check name, revision, access rights and the network."
        ) from error
