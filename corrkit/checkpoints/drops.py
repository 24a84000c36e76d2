"""Groups of tensors that belong to no backbone, with the reason: every tensor that isn't used must be in one."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType

GENERAL: Mapping[str, str] = MappingProxyType(
    {
        r"(de_|de_?coder|dec_|decode_|decoder_)[\w.]*": "decoder of pre-training",
        r"(prediction_head|decoder)\b.*": "decoder of pre-training",
        r"(embeddings\.|beit\.embeddings\.)?(mask_token|mask(ed)?_embed)\w*(\.weight)?": "mask token of pre-training",
        r"(predictor|prediction)\w*\..*": "predictor of pre-training",
        r"(projector|projection|proj_head|projection_head)\w*\..*": "projection head of pre-training",
        r"(head|heads|head_dist|fc|classifier|linear|lm_head|pre_logits|_heads|dino_head|ibot_head|pred_head|cls_head"
        r"|classification_head|probe)(\.|_\w+\.|$).*": "head of pre-training or classification",
        r"(prototypes|queue|queue_ptr|center|centers)\b.*": "prototypes or queue of pre-training",
        r"(pooler|attn_pool)\..*": "pooling head",
        r"fc_norm\.(weight|bias)": "norm of the mean of all patches in classification, never of single ones",
        r"(bn|student_norm)\.(weight|bias|running_\w+|num_batches_tracked)": "head of pre-training or classification",
        r"(.*\.)?num_batches_tracked": "counter of training",
        r"(.*\.)?relative_position_index": "index that is rebuilt for every input size",
        r"(.*\.)?attn_mask": "mask that is rebuilt for every input size",
        r"(.*\.)?rope\.freqs_(cos|sin)": "rotary table that is rebuilt for every input size",
        r"(.*\.)?bias_mask": "fixed mask of the attention biases",
        r"(.*\.)?(position_ids|embeddings\.position_ids)": "numbers of positions, rebuilt for every input size",
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


def inside(dropped: Iterable[tuple[str, str]], prefix: str) -> tuple[tuple[str, str], ...]:
    """Groups of dropped names under the network's prefix: ("model.decoder_blocks", "decoder ... (24 tensors)")."""
    counts: Counter[tuple[str, str]] = Counter()
    for name, why in dropped:
        segments = name.split(".")
        inner = segments[0] in ("blocks", "encoder", "layers", "layer", "trunk") and len(segments) > 2
        group = f"{segments[0]}.*.{segments[-1]}" if inner else segments[0]
        counts[prefix + group, why] += 1
    return _counted(counts)


def outside(
    names: Iterable[str], prefix: str, left_out: Iterable[tuple[str, str]], key: str | None
) -> tuple[tuple[str, str], ...]:
    """Groups of names beside the network's prefix, with the reason why each isn't the backbone."""
    counts: Counter[tuple[str, str]] = Counter()
    left_out = list(left_out)
    for name in names:
        twin = next(((other, why) for other, why in left_out if other and name.startswith(other)), None)
        shared = _shared(name, prefix)
        rest = name.removeprefix(shared)
        group = shared + rest.split(".")[0]
        if twin is not None:
            counts[twin[0].removesuffix("."), twin[1]] += 1
        elif key is not None:
            counts[group, "outside --ckpt-key"] += 1
        else:
            why = reason(name, BESIDE) or reason(rest, {**BESIDE, **GENERAL})
            counts[group, why or "module beside the backbone"] += 1
    return _counted(counts)


def _shared(name: str, prefix: str) -> str:
    """The segments that a name shares with the prefix."""
    shared = ""
    for segment in prefix.split(".")[:-1]:
        if not name.startswith(f"{shared}{segment}."):
            break
        shared += f"{segment}."
    return shared


def _counted(counts: Counter[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (group, f"{why} ({number} tensor{'s' if number > 1 else ''})") for (group, why), number in counts.items()
    )
