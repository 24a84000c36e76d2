"""Naming schemes of Hugging Face transformers: as in files, and as in memory since version 5."""

from corrkit.checkpoints import conversions
from corrkit.checkpoints.system import Layout

_BLOCK = r"(blocks\.\d+\.)"

_EMBEDDINGS = (
    (r"embeddings\.cls_token$", "cls_token"),
    (r"embeddings\.register_tokens$", "reg_token"),
    (r"embeddings\.distillation_token$", "reg_token"),
    (r"embeddings\.position_embeddings$", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"embeddings\.patch_embeddings\.", "patch_embed.proj."),
)
_BLOCKS = (
    (rf"{_BLOCK}layernorm_before\.", r"\1norm1."),
    (rf"{_BLOCK}layernorm_after\.", r"\1norm2."),
    (rf"{_BLOCK}attention\.(attention\.)?([qkv])(uery|ey|alue|_proj)\.", r"\1attn.\3."),
    (rf"{_BLOCK}attention\.output\.dense\.", r"\1attn.proj."),
    (rf"{_BLOCK}attention\.o_proj\.", r"\1attn.proj."),
    (rf"{_BLOCK}attention\.(attention\.)?relative_position_bias\.", r"\1attn.relative."),
    (rf"{_BLOCK}intermediate\.dense\.", r"\1mlp.fc1."),
    (rf"{_BLOCK}output\.dense\.", r"\1mlp.fc2."),
    (rf"{_BLOCK}layer_scale(\d)\.lambda1$", r"\1ls\2.gamma"),
    (rf"{_BLOCK}lambda_(\d)$", r"\1ls\2.gamma"),
    (rf"{_BLOCK}mlp\.weights_in\.", r"\1mlp.w12."),
    (rf"{_BLOCK}mlp\.weights_out\.", r"\1mlp.w3."),
)
_ENCODER = (
    (r"encoder\.relative_position_bias\.", "rel_pos_bias."),
    (r"shared_position_bias\.", "rel_pos_bias."),
    (r"encoder\.layer\.", "blocks."),
    (r"layers\.", "blocks."),
    (r"layernorm\.", "norm."),
)
_PATCHES = {r"embeddings\.patch_embeddings\.projection\.weight": 4}

HF = Layout(
    name="Hugging Face ViT",
    anchors={**_PATCHES, r"encoder\.layer\.\d+\.attention\.attention\.query\.weight": 2},
    renames=(*_EMBEDDINGS, *_ENCODER, *_BLOCKS),
)
HF_MEMORY = Layout(
    name="Hugging Face ViT in memory (transformers 5)",
    anchors={**_PATCHES, r"(encoder\.layer|layers)\.\d+\.attention\.q_proj\.weight": 2},
    renames=(*_EMBEDDINGS, *_ENCODER, *_BLOCKS),
)
HF_BEIT_MIM = Layout(
    name="Hugging Face BEiT with a masked-modelling head",
    anchors={
        r"beit\.embeddings\.patch_embeddings\.projection\.weight": 4,
        r"beit\.encoder\.layer\.\d+\.attention\.attention\.query\.weight": 2,
        r"layernorm\.(weight|bias)": 1,
    },
    renames=(
        *((rf"beit\.{pattern}", replacement) for pattern, replacement in (*_EMBEDDINGS, *_ENCODER)),
        (r"layernorm\.", "norm."),
        *_BLOCKS,
    ),
)
_DINOV3 = {r"embeddings\.patch_embeddings\.weight": 4, r"(model\.)?layer\.\d+\.attention\.q_proj\.weight": 2}
_DINOV3_RENAMES = ((r"model\.(?=layer\.)", ""), *_EMBEDDINGS, (r"layer\.", "blocks."), *_BLOCKS)
HF_DINOV3_GATED = Layout(
    name="Hugging Face DINOv3 with a SwiGLU",
    anchors={**_DINOV3, r"(model\.)?layer\.\d+\.mlp\.gate_proj\.weight": 2},
    renames=(
        *_DINOV3_RENAMES,
        (rf"{_BLOCK}mlp\.gate_proj\.", r"\1mlp.gate."),
        (rf"{_BLOCK}mlp\.up_proj\.", r"\1mlp.value."),
        (rf"{_BLOCK}mlp\.down_proj\.", r"\1mlp.w3."),
    ),
)
HF_DINOV3 = Layout(
    name="Hugging Face DINOv3",
    anchors=_DINOV3,
    renames=(
        *_DINOV3_RENAMES,
        (rf"{_BLOCK}mlp\.up_proj\.", r"\1mlp.fc1."),
        (rf"{_BLOCK}mlp\.down_proj\.", r"\1mlp.fc2."),
    ),
)
_TOWER = (
    (r"embeddings\.class_embedding$", "cls_token"),
    (r"embeddings\.patch_embedding\.", "patch_embed.proj."),
    (r"embeddings\.position_embedding\.weight$", "pos_embed"),
    (r"pre_layrnorm\.", "norm_pre."),  # sic
    (r"class_pos_emb$", "rope.freqs"),
    (r"post_layernorm\.", "norm."),
    (r"encoder\.layers\.", "blocks."),
    (rf"{_BLOCK}layer_norm(\d)\.", r"\1norm\2."),
    (rf"{_BLOCK}self_attn\.([qkv])_proj\.", r"\1attn.\2."),
    (rf"{_BLOCK}self_attn\.out_proj\.", r"\1attn.proj."),
)
HF_TOWER = Layout(
    name="Hugging Face CLIP or SigLIP",
    anchors={r"embeddings\.patch_embedding\.weight": 4, r"encoder\.layers\.\d+\.self_attn\.q_proj\.weight": 2},
    renames=_TOWER,
)
HF_NAFLEX = Layout(
    name="Hugging Face SigLIP 2 NaFlex",
    anchors={r"embeddings\.patch_embedding\.weight": 2, r"encoder\.layers\.\d+\.self_attn\.q_proj\.weight": 2},
    renames=_TOWER,
    convert=conversions.channel_last_patches,
)
