"""Naming schemes that several systems share."""

from corrkit.checkpoints.system import Layout

_CHUNKS = (r"blocks\.\d+\.(?=\d+\.)", "blocks.")  # DINOv2's FSDP chunks: blocks.CHUNK.INDEX, INDEX counts over all

TIMM = Layout(
    name="timm ViT",
    anchors={r"patch_embed\.proj\.weight": 4, r"blocks\.\d+\.(\d+\.)?attn\.qkv\.weight": 2},
    renames=(
        _CHUNKS,
        (r"register_tokens$", "reg_token"),
        (r"storage_tokens$", "reg_token"),
        (r"dist_token$", "reg_token"),
        (r"(blocks\.\d+\.)gamma_(\d)$", r"\1ls\2.gamma"),
    ),
)
