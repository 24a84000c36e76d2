"""What an MViT's own configuration may say; the numbers themselves are in the goldens."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from corrkit.backbones import load_backbone
from corrkit.errors import CheckpointError


@pytest.mark.golden
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POOL_Q_STRIDE", "1x2x2"),
        ("POOL_Q_STRIDE", [[1, 1, "2", 2]]),
        ("POOL_Q_STRIDE", [[0], [1, 1, 2, 2]]),
        ("POOL_KV_STRIDE", {"0": [1, 4, 4]}),
        ("POOL_KV_STRIDE_ADAPTIVE", 4),
        ("PATCH_STRIDE", [2.5, 4, 4]),
        ("PATCH_PADDING", [[1, 3, 3]]),
    ],
)
def test_settings_of_another_form_are_named(
    name: str, value: object, golden: Callable[[str], Path], tmp_path: Path
) -> None:
    tree = torch.load(golden("checkpoints/maskfeat_video/checkpoint_epoch_00300.pyth"), weights_only=True)
    config = yaml.safe_load(tree["cfg"])
    config["MVIT"][name] = value
    torch.save({**tree, "cfg": yaml.safe_dump(config)}, tmp_path / "checkpoint.pyth")
    with pytest.raises(CheckpointError, match=rf"sets {name} to .*, no list of whole numbers"):
        load_backbone(str(tmp_path / "checkpoint.pyth"))
