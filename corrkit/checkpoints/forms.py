"""Tensors that stand for weights in another form: adapters, parametrisations, masks, scaled numbers, placeholders."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from corrkit.checkpoints import drops
from corrkit.checkpoints.opening import Opened
from corrkit.checkpoints.opening.inert import Tree
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
        r"(.*\.)?(lora_(A|B|E|embedding_A|embedding_B|magnitude_vector)|ia3_l|hada_w\w+|lokr_w\w+|oft_[rsR]|boft_[Rs]"
        r"|vera_lambda_\w+|randlora_\w+|vblora_\w+|hra_u|fourierft_spectrum|ln_tuning_layers|modules_to_save"
        r"|original_module)(\.[\w.]*)?"
        r"|(.*\.)?base_layer\.(weight|bias)",  # DLA has a base_layer of its own, with numbered parts
        "an adapter (LoRA or another of peft) that is not merged into its base model",
        "Merge it into the base model where it was trained: model.merge_and_unload().save_pretrained(DIR).",
    ),
    Form(
        r".*\.parametrizations\.\w+\.(original\d*|\d+\..*)",
        "parametrised weights (torch.nn.utils.parametrize), from which the weights would have to be computed",
        "Save it after torch.nn.utils.parametrize.remove_parametrizations(module, 'weight').",
    ),
    Form(
        r".*\.weight_(mask|u|v|g)|(.*\.)?\w+_orig",
        "pruned, or weight- or spectrally normalised weights (torch.nn.utils), which would have to be computed",
        "Save it after torch.nn.utils.prune.remove, remove_weight_norm or remove_spectral_norm.",
    ),
    Form(
        r".*\.(qweight|qzeros|weight_packed|weight\.(absmax|quant_map|quant_state\..*|_data|_scale)|SCB|W_q"
        r"|weight_scale(_inv)?|_packed_params.*)",
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
_SCALE = re.compile(r"(.*[._])?(de)?(scales?|quant\w*|amax\w*)([._].*)?", re.IGNORECASE)
_SHOWN = 3


def require_plain(network: "Mapping[str, Tensor]", tensors: "Mapping[str, Tensor]", opened: Opened) -> None:
    """Raises CheckpointError where tensors aren't the weights themselves.

    Args:
        network: those that a network takes, or that would be it, by their names in the file.
        tensors: of the whole file.
        opened: the file.
    """
    path = opened.path
    for form in _FORMS:
        found = [name for name in network if re.fullmatch(form.names, name) and not _of_a_head(name)]
        if found:
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
    if eighths and (scales := [*dict.fromkeys(_scales(eighths, tensors, opened))]):
        raise CheckpointError(
            f"{path} holds float8 weights ({_listed(eighths)}) and scales for them ({_listed(scales)}), with which "
            "they would have to be multiplied.",
            "Save the weights in float32, float16 or bfloat16.",
        )


def taken_as_they_are(network: "Mapping[str, Tensor]") -> tuple[str, ...]:
    """A note on float8 weights, which rarely stand for themselves."""
    if not any("float8" in str(tensor.dtype) for tensor in network.values()):
        return ()
    return ("float8 weights are taken as they are, since nothing in the file looks like scales for them (assumed).",)


def _of_a_head(name: str) -> bool:
    """Whether a name, from some dot on, is of what is no part of any backbone, such as DINO's normalised head."""
    parts = name.split(".")
    return any(drops.reason(".".join(parts[index:]), drops.GENERAL) for index in range(len(parts)))


def _scales(eighths: list[str], tensors: "Mapping[str, Tensor]", opened: Opened) -> Iterator[str]:
    """Whatever in a file, or in the configuration beside it, may hold the scales of its float8 weights.

    By its name; by the names of the weights that it is given under; by a length that is their number.
    """
    outside = {name: tensor for name, tensor in tensors.items() if name not in eighths}
    yield from (name for name in outside if _SCALE.fullmatch(name))
    leaves = {name[index + 1 :] for name in eighths for index in range(len(name)) if name[index] == "." or not index}
    leaves |= set(eighths)
    for name, tensor in outside.items():
        ends = {name.split(".", count)[-1] for count in range(1, name.count(".") + 1)}
        if tensor.numel() == len(eighths) > 1 or (ends & leaves and tensor.numel() == 1):
            yield name
    for source in (opened.tree, opened.metadata, opened.config):
        for name, value in _plain(source, ""):
            words = isinstance(value, str) and _SCALE.search(value) is not None and source is opened.metadata
            under = isinstance(value, int | float) and name.partition(".")[2] in leaves
            many = isinstance(value, list | tuple) and len(value) == len(eighths) > 1
            if _SCALE.fullmatch(name) or words or under or many:
                yield name


def _plain(tree: Tree, name: str) -> Iterator[tuple[str, Tree]]:
    """Everything in nested dicts that is neither a dict nor a tensor, by dotted name."""
    import torch

    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _plain(value, f"{name}.{key}" if name else str(key))
    elif tree is not None and not isinstance(tree, torch.Tensor):
        yield name, tree


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
