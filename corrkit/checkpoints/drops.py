"""Groups of tensors that belong to no backbone, with the reason: every tensor that isn't used must be in one."""

import re
from collections.abc import Mapping
from types import MappingProxyType

GENERAL: Mapping[str, str] = MappingProxyType(
    {
        r"(de_|de_?coder|dec_|decode_|decoder_)[\w.]*": "decoder of pre-training",
        r"(prediction_head|decoder)\b.*": "decoder of pre-training",
        r"(mask_token|mask_embed|masked_embed|embeddings\.mask_token)\w*(\.weight)?": "mask token of pre-training",
        r"(predictor|prediction)\w*\..*": "predictor of pre-training",
        r"(projector|projection|proj_head|projection_head)\w*\..*": "projection head of pre-training",
        r"(head|heads|head_dist|fc|classifier|linear|lm_head|pre_logits|_heads|dino_head|ibot_head|pred_head|cls_head"
        r"|classification_head|probe)(\.|_\w+\.|$).*": "head of pre-training or classification",
        r"(prototypes|queue|queue_ptr|center|centers)\b.*": "prototypes or queue of pre-training",
        r"(bn|student_norm)\.(weight|bias|running_\w+|num_batches_tracked)": "head of pre-training or classification",
        r"(.*\.)?num_batches_tracked": "counter of training",
        r"(.*\.)?relative_position_index": "index that is rebuilt for every input size",
        r"(.*\.)?attn_mask": "mask that is rebuilt for every input size",
        r"(.*\.)?rope\.freqs_(cos|sin)": "rotary table that is rebuilt for every input size",
    }
)
"""Pattern of a name relative to the network's prefix, to the reason."""

BESIDE: Mapping[str, str] = MappingProxyType(
    {
        r"(optimizer|optim|opt|optimizer_states|lr_scheduler|lr_schedulers|scheduler|scaler|fp16_scaler|amp|grad_scaler"
        r"|loss_scaler|optimizers|callbacks|loops|hyper_parameters|rng\w*|random\w*)\b.*": "state of training",
        r"(dino_loss|ibot_loss|loss|criterion|\w+_loss)\b.*": "state of training",
        r"(args|config|cfg|hparams|meta|epoch|iter\w*|step|global_step|ema_step)\b.*": "settings of training",
        r"(.*\.)?(text|text_model|text_encoder|enc_txt|token_embedding|text_projection|ln_final|logit_scale|logit_bias"
        r"|context_length|vocab_size|input_resolution|bert)\b.*": "text model beside the vision model",
    }
)
"""Pattern of a name of the whole file that lies outside the network's prefix, to the reason."""


def reason(name: str, groups: Mapping[str, str]) -> str | None:
    """Why a tensor is left out, or None where no group knows it."""
    for pattern, why in groups.items():
        if re.fullmatch(pattern, name):
            return why
    return None
