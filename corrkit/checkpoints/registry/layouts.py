"""Naming schemes that several systems share.

Canonical names are timm's ViT names, with attn.{q,k,v} for projections that are stored apart, mlp.{gate,value} and
mlp.w3 for a SwiGLU, and reg_token for whatever stands between the class token and the patches.
"""

from corrkit.checkpoints import conversions
from corrkit.checkpoints.system import Layout

_CHUNKS = (r"blocks\.\d+\.(?=\d+\.)", "blocks.")  # DINOv2's FSDP chunks: blocks.CHUNK.INDEX, INDEX counts over all
_BLOCK = r"(blocks\.\d+\.)"

_TIMM_RENAMES = (
    _CHUNKS,
    (r"register_tokens$", "reg_token"),
    (r"storage_tokens$", "reg_token"),
    (r"dist_token$", "reg_token"),
    (r"rope_embed\.periods$", "rope.freqs"),
    (rf"{_BLOCK}gamma_(\d)$", r"\1ls\2.gamma"),
    (rf"{_BLOCK}attn\.(relative_position_bias_table)$", r"\1attn.relative.\2"),
    (rf"{_BLOCK}attn\.([qkv])_proj\.", r"\1attn.\2."),
    (rf"{_BLOCK}mlp\.w1\.", r"\1mlp.gate."),
    (rf"{_BLOCK}mlp\.w2\.", r"\1mlp.value."),
    (rf"{_BLOCK}mlp\.ffn_ln\.", r"\1mlp.norm."),
    (rf"{_BLOCK}mlp\.c_fc\.", r"\1mlp.fc1."),  # TIPS v2 as transformers writes it
    (rf"{_BLOCK}mlp\.c_proj\.", r"\1mlp.fc2."),
)

TIMM = Layout(
    name="timm ViT",
    anchors={r"patch_embed\.proj\.weight": 4, r"blocks\.\d+\.(\d+\.)?attn\.qkv\.weight": 2},
    renames=_TIMM_RENAMES,
    convert=conversions.packed_swiglu,
)
SPLIT = Layout(
    name="timm ViT with q, k, v apart",
    anchors={r"patch_embed\.proj\.weight": 4, r"blocks\.\d+\.attn\.q(_proj)?\.weight": 2},
    renames=_TIMM_RENAMES,
)
CONV_STEM = Layout(
    name="timm ViT with a convolutional stem",
    anchors={r"patch_embed\.proj\.0\.weight": 4, r"blocks\.\d+\.attn\.qkv\.weight": 2},
    renames=_TIMM_RENAMES,
)
DINOV3 = Layout(
    name="DINOv3",
    anchors={**TIMM.anchors, r"storage_tokens": 3},  # bias_mask is a buffer that exports leave out
    renames=_TIMM_RENAMES,
    convert=conversions.without_key_bias,
)
JEREMYLIN = Layout(
    name="Jeremylin's SiamMAE",
    anchors={r"patch_embed\.proj\.weight": 4, r"blocks\.\d+\.qkv\.weight": 2},
    renames=(
        (rf"{_BLOCK}(qkv|proj)\.", r"\1attn.\2."),
        (rf"{_BLOCK}mlp\.l1\.", r"\1mlp.fc1."),
        (rf"{_BLOCK}mlp\.l2\.", r"\1mlp.fc2."),
    ),
)
CROCO = Layout(
    name="CroCo",
    anchors={r"patch_embed\.proj\.weight": 4, r"enc_blocks\.\d+\.attn\.qkv\.weight": 2},
    renames=((r"enc_blocks\.", "blocks."), (r"enc_norm\.", "norm."), (r"enc_pos_embed$", "pos_embed")),
)
JAX = Layout(
    name="JAX ViT",
    anchors={
        r"embedding\.kernel": 4,
        r"Transformer\.encoderblock_\d+\.MultiHeadDotProductAttention_1\.query\.kernel": 3,
    },
    renames=(
        (r"cls$", "cls_token"),
        (r"embedding\.kernel$", "patch_embed.proj.kernel"),
        (r"embedding\.bias$", "patch_embed.proj.bias"),
        (r"Transformer\.posembed_input\.pos_embedding$", "pos_embed"),
        (r"Transformer\.encoder_norm\.", "norm."),
        (r"Transformer\.encoderblock_(\d+)\.", r"blocks.\1."),
        (rf"{_BLOCK}LayerNorm_0\.", r"\1norm1."),
        (rf"{_BLOCK}LayerNorm_2\.", r"\1norm2."),
        (rf"{_BLOCK}MultiHeadDotProductAttention_1\.([qkv])(uery|ey|alue)\.", r"\1attn.\2."),
        (rf"{_BLOCK}MultiHeadDotProductAttention_1\.out\.", r"\1attn.proj."),
        (rf"{_BLOCK}MlpBlock_3\.Dense_0\.", r"\1mlp.fc1."),
        (rf"{_BLOCK}MlpBlock_3\.Dense_1\.", r"\1mlp.fc2."),
        (r"(.*norm\d?)\.scale$", r"\1.weight"),
    ),
    convert=conversions.from_jax,
)
OPENAI = Layout(
    name="OpenAI CLIP",
    anchors={r"conv1\.weight": 4, r"transformer\.resblocks\.\d+\.attn\.in_proj_weight": 2},
    renames=(
        (r"class_embedding$", "cls_token"),
        (r"positional_embedding$", "pos_embed"),
        (r"conv1\.", "patch_embed.proj."),
        (r"ln_pre\.", "norm_pre."),
        (r"ln_post\.", "norm."),
        (r"transformer\.resblocks\.", "blocks."),
        (rf"{_BLOCK}ln_(\d)\.", r"\1norm\2."),
        (rf"{_BLOCK}ls_(\d)\.", r"\1ls\2."),
        (rf"{_BLOCK}attn\.in_proj_", r"\1attn.qkv."),
        (rf"{_BLOCK}attn\.out_proj\.", r"\1attn.proj."),
        (rf"{_BLOCK}mlp\.c_fc\.", r"\1mlp.fc1."),
        (rf"{_BLOCK}mlp\.c_proj\.", r"\1mlp.fc2."),
    ),
)
MMPRETRAIN = Layout(
    name="MMPretrain ViT",
    anchors={r"patch_embed\.projection\.weight": 4, r"layers\.\d+\.attn\.qkv\.weight": 2},
    renames=(
        (r"patch_embed\.projection\.", "patch_embed.proj."),
        (r"pre_norm\.", "norm_pre."),
        (r"ln1\.", "norm."),
        (r"layers\.", "blocks."),
        (rf"{_BLOCK}ln(\d)\.", r"\1norm\2."),
        (rf"{_BLOCK}attn\.gamma1\.weight$", r"\1ls1.gamma"),
        (rf"{_BLOCK}ffn\.gamma2\.weight$", r"\1ls2.gamma"),
        (rf"{_BLOCK}ffn\.layers\.0\.0\.", r"\1mlp.fc1."),
        (rf"{_BLOCK}ffn\.layers\.1\.", r"\1mlp.fc2."),
        (rf"{_BLOCK}ffn\.(w12|w3)\.", r"\1mlp.\2."),
    ),
)
AIM = Layout(
    name="AIMv2",
    anchors={r"preprocessor\.patchifier\.proj\.weight": 4, r"trunk\.blocks\.\d+\.attn\.qkv\.weight": 2},
    renames=(
        (r"preprocessor\.patchifier\.", "patch_embed."),
        (r"preprocessor\.pos_embed$", "pos_embed"),
        (r"trunk\.post_trunk_norm\.", "norm."),
        (r"trunk\.blocks\.", "blocks."),
        (rf"{_BLOCK}norm_(\d)\.", r"\1norm\2."),
        (rf"{_BLOCK}mlp\.fc1\.", r"\1mlp.gate."),
        (rf"{_BLOCK}mlp\.fc3\.", r"\1mlp.value."),
        (rf"{_BLOCK}mlp\.fc2\.", r"\1mlp.w3."),
    ),
)
RADIO = Layout(
    name="RADIO",
    anchors={r"patch_generator\.embedder\.weight": 2, r"blocks\.\d+\.attn\.qkv\.weight": 2},
    renames=(
        (r"model\.", ""),
        (r"patch_generator\.embedder\.", "patch_embed.proj."),
        (r"patch_generator\.pos_embed$", "pos_embed"),
        (r"patch_generator\.cls_token\.token$", "reg_token"),
        (rf"{_BLOCK}gamma_(\d)$", r"\1ls\2.gamma"),
        (rf"{_BLOCK}layer_scale(\d)\.lambda1$", r"\1ls\2.gamma"),
    ),
    convert=conversions.linear_patches,
)
CAPI = Layout(
    name="CAPI",
    anchors={r"patch_embed\.weight": 4, r"encoder\.blocks\.\d+\.residual1\.fn\.q_proj\.weight": 2},
    renames=(
        (r"patch_embed\.", "patch_embed.proj."),
        (r"registers$", "reg_token"),
        (r"encoder\.blocks\.", "blocks."),
        (rf"{_BLOCK}residual(\d)\.norm\.", r"\1norm\2."),
        (rf"{_BLOCK}residual1\.fn\.([qkv])_proj\.", r"\1attn.\2."),
        (rf"{_BLOCK}residual1\.fn\.(proj|rope)\.", r"\1attn.\2."),
        (rf"{_BLOCK}residual2\.fn\.", r"\1mlp."),
    ),
    convert=conversions.shared_frequencies,
)
SAM = Layout(
    name="SAM",
    anchors={
        r"patch_embed\.proj\.weight": 4,
        r"blocks\.\d+\.attn\.rel_pos_[hw]": 2,
    },
    renames=((rf"{_BLOCK}mlp\.lin(\d)\.", r"\1mlp.fc\2."),),
)
