"""Checkpoints of the Hugging Face hub: "hf:OWNER/NAME[@REVISION]", with the extra `hub`."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from corrkit.errors import CheckpointError

if TYPE_CHECKING:
    from corrkit.checkpoints.opening import Opened

_CONFIGS = "*.json"
# In the order of preference, as in a folder; what comes after the first that a model has is never downloaded.
_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin", "open_clip*.safetensors", "open_clip*.bin")


def open_model(name: str) -> "Opened":
    """A model of the hub, opened; the commit is part of its digest and stands in its notes.

    Args:
        name: see `download`.

    Raises:
        CheckpointError: see `download` and `open_checkpoint`.
    """
    from corrkit.checkpoints.opening import open_checkpoint

    folder = download(name)
    commit = folder.name
    opened = open_checkpoint(folder)
    return replace(
        opened,
        digest=hashlib.sha256(f"{opened.digest} hub commit {commit}".encode()).hexdigest(),
        notes=(*opened.notes, f"From the hub: commit {commit} of {name.partition('@')[0]}."),
    )


def download(name: str) -> Path:
    """The folder of a model in the hub's own cache, named by its commit; fetched where it isn't there yet.

    Without a connection, or with HF_HUB_OFFLINE=1, the commit that was fetched last is taken from the cache.

    Args:
        name: OWNER/NAME, with @REVISION (branch, tag or commit) for another than the main branch.

    Raises:
        CheckpointError: a malformed name, the extra isn't installed, or the hub doesn't give the files.
    """
    match = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", name)
    if match is None:
        raise CheckpointError(f"'hf:{name}' is malformed.", "Write hf:OWNER/NAME or hf:OWNER/NAME@REVISION.")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise CheckpointError(
            "hf: needs huggingface_hub, which isn't installed.", "Run: pip install 'corrkit[hub]'"
        ) from None
    revision = match[2]
    for weights in _WEIGHTS:
        try:
            folder = Path(snapshot_download(match[1], revision=revision, allow_patterns=[_CONFIGS, weights]))
        except Exception as error:  # its own, the system's, and those of the transport, which differ among its versions
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise CheckpointError(
                f"hf:{name} can't be had: {reason}", "Check name, revision, access rights and the network."
            ) from error
        revision = folder.name  # the commit: a branch may move between two calls
        if any(folder.glob(weights)):
            return folder
    raise CheckpointError(
        f"hf:{name} has none of {', '.join(_WEIGHTS)} at commit {revision}.",
        "Download its weights yourself and name the file.",
    )
