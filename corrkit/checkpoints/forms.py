"""Tensors that stand for weights in another form: adapters, parametrisations, masks, scaled numbers, placeholders."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from corrkit.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Form:
    """A form by the names of its tensors (patterns of whole names), what it is, and how weights are had from it."""

    names: str
    words: str
    remedy: str


_FORMS = (
    Form(
        r"(.*\.)?(lora_(A|B|E|embedding_A|embedding_B|magnitude_vector)|ia3_l|hada_w\w+|lokr_w\w+|oft_[rs]|vera_lambda_\w+"
        r")(\.[\w.]*)?|(.*\.)?base_layer\.(weight|bias)",  # DLA has a base_layer of its own, with numbered parts
        "an adapter (LoRA or another of peft) that is not merged into its base model",
        "Merge it into the base model where it was trained: model.merge_and_unload().save_pretrained(DIR).",
    ),
    Form(
        r".*\.parametrizations\.\w+\.(original\d*|\d+\..*)",
        "parametrised weights (torch.nn.utils.parametrize), from which the weights would have to be computed",
        "Save it after torch.nn.utils.parametrize.remove_parametrizations(module, 'weight').",
    ),
    Form(
        r".*\.weight_(orig|mask|u|v|g)",
        "pruned, or weight- or spectrally normalised weights (torch.nn.utils), which would have to be computed",
        "Save it after torch.nn.utils.prune.remove, remove_weight_norm or remove_spectral_norm.",
    ),
    Form(
        r".*\.(qweight|qzeros|weight_packed|weight\.(absmax|quant_map|quant_state\..*)|SCB|weight_scale(_inv)?|_packed_params.*)",
        "quantised weights",
        "Get the weights in float32, float16 or bfloat16.",
    ),
    Form(
        r"(.*\.)?_?flat_param(_\d+)?",
        "parameters that FSDP has flattened, of one process",
        "Save it where it was trained with StateDictType.FULL_STATE_DICT, or by "
        "torch.distributed.checkpoint.state_dict.get_model_state_dict with full_state_dict=True.",
    ),
)
_SCALE = re.compile(r"(.*[._])?(scale|scales|scale_inv|amax)([._].*)?")
_SHOWN = 3


def require_plain(network: "Mapping[str, Tensor]", tensors: "Mapping[str, Tensor]", path: object) -> None:
    """Raises CheckpointError where tensors aren't the weights themselves.

    Args:
        network: those that a network takes, or that would be it, by their names in the file.
        tensors: of the whole file.
        path: of the file.
    """
    for form in _FORMS:
        if found := [name for name in network if re.fullmatch(form.names, name)]:
            raise CheckpointError(f"{path} holds {form.words}: {_listed(found)}.", form.remedy)
    placeholders = [name for name, tensor in network.items() if tensor.numel() == 0]
    if placeholders and len(placeholders) == len(network):
        raise CheckpointError(
            f"{path} holds placeholders of size 0 in place of weights: DeepSpeed ZeRO-3 keeps them in the "
            "*_optim_states.pt files beside it.",
            "Put them together with the script that DeepSpeed writes into the run folder: "
            "python zero_to_fp32.py . pytorch_model.bin",
        )
    eighths = [name for name, tensor in network.items() if "float8" in str(tensor.dtype)]
    scales = [name for name in tensors if _SCALE.fullmatch(name) and name not in network]
    if eighths and scales:
        raise CheckpointError(
            f"{path} holds float8 weights ({_listed(eighths)}) and scales for them ({_listed(scales)}), with which "
            "they would have to be multiplied.",
            "Save the weights in float32, float16 or bfloat16.",
        )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
