"""Video systems of 2025-26: V-JEPA 2.1 with its two paths, RVM with its recurrent state."""

from corrkit.checkpoints import conversions
from corrkit.checkpoints.rules import ViTRules
from corrkit.checkpoints.system import UNIT, Layout, System

_BLOCK = r"((?:blocks|core)\.\d+\.)"

VJEPA21 = Layout(
    name="V-JEPA 2.1",
    anchors={r"patch_embed\.proj\.weight": 5, r"norms_block\.\d+\.weight": 1, r"blocks\.\d+\.attn\.qkv\.weight": 2},
)
RVM = Layout(
    name="RVM",
    anchors={
        r"tokenizer\.patch_embedding\.Conv_0\.kernel": 5,
        r"rnn_core\.transformer\.xa_blocks_\d+\.ca_attention\.query\.kernel": 3,
    },
    renames=(
        (r"tokenizer\.patch_embedding\.Conv_0\.", "patch_embed.proj."),
        (r"encoder\.LayerNorm_0\.", "norm."),
        (r"encoder\.layers_(\d+)\.", r"blocks.\1."),
        (r"rnn_core\.transformer\.xa_blocks_(\d+)\.", r"core.\1."),
        (r"rnn_core\.transformer\.output_norm\.", "core_norm."),
        (r"rnn_core\.state_layer_norm\.", "state_norm."),
        (r"rnn_core\.input_update\.", "input_update."),
        (r"rnn_core\.input_reset\.", "input_reset."),
        (r"rnn_core\.state_update\.", "state_update."),
        (r"rnn_core\.state_reset\.", "state_reset."),
        (rf"{_BLOCK}attention_norm\.", r"\1norm1."),
        (rf"{_BLOCK}mlp_norm\.", r"\1norm2."),
        (rf"{_BLOCK}ca_attention_norm\.", r"\1cross_norm."),
        (rf"{_BLOCK}ca_attention\.([qkv])(?:uery|ey|alue)\.", r"\1cross.\2."),
        (rf"{_BLOCK}ca_attention\.out\.", r"\1cross.proj."),
        (rf"{_BLOCK}attention\.([qkv])(?:uery|ey|alue)\.", r"\1attn.\2."),
        (rf"{_BLOCK}attention\.out\.", r"\1attn.proj."),
        (rf"{_BLOCK}mlp\.dense_in\.", r"\1mlp.fc1."),
        (rf"{_BLOCK}mlp\.dense_out\.", r"\1mlp.fc2."),
        (r"(.*norm\d?)\.scale$", r"\1.weight"),
    ),
    convert=conversions.from_jax,
)

VATT = Layout(
    name="VATT",
    anchors={r"voxel_to_patch\.kernel(\.+ATTRIBUTES\.VARIABLE_VALUE)?": 5},
)

ENTRIES = (
    System(
        name="vatt",
        title="VATT",
        layouts=(VATT,),
        refuse=(
            "its network is not implemented here. A converter would have to map voxel_to_patch (kernel "
            "[4, 16, 16, 3, D] to a convolution [D, 3, 4, 16, 16]), agg_embedding, the three pos_embedding_lookup "
            "tables with their layer norm, tx/layers/N/{layer_norm, mha/{q, k, v, o}, feed_forward/{layer_norm, "
            "mlp/{wi, wo}}} (kernels transposed) and tx/final_layer_norm.",
            "Evaluate it with py:FILE.py:FUNCTION, a function that builds the model with its own code.",
        ),
        source="google-research/google-research 355ce03 vatt",
        proven="unknown",
    ),
    System(
        name="vjepa2_1",
        title="V-JEPA 2.1",
        layouts=(VJEPA21,),
        prefers=(("ema_encoder", "encoder"), ("target_encoder", "encoder")),
        build="corrkit.backbones.networks.vjepa21:build",
        rules=ViTRules(heads="vjepa2"),
        source="facebookresearch/vjepa2 app/vjepa_2_1 (be434e4, 16de6c8)",
        proven="golden",
    ),
    System(
        name="rvm",
        title="RVM",
        layouts=(RVM,),
        build="corrkit.backbones.networks.rvm:build",
        mean=UNIT[0],
        std=UNIT[1],
        source="google-deepmind/representations4d 75aca30",
        proven="golden",
        notes=("RVM carries a state from the first frame on: features of a frame depend on all frames before it.",),
    ),
)
