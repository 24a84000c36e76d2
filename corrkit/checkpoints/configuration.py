"""The configuration beside a file: the part that is about the vision model, in transformers' words."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from corrkit.errors import CheckpointError
from corrkit.files.jsontext import Json

if TYPE_CHECKING:
    from corrkit.checkpoints.recognised import Recognised

# Where a model of several parts keeps the configuration of its images' encoder, outermost first.
_PARTS = ("vision_config", "backbone_config", "vision_encoder", "encoder")
_MAX_PARTS = 4
OPEN_CLIP = "open_clip"
"""The model type that stands for open_clip_config.json."""


def vision_part(config: Mapping[str, Json] | None) -> dict[str, Json]:
    """The innermost part of a configuration that is about images; of open_clip's, a translation; {} without any.

    Names are transformers' (hidden_size, num_attention_heads, ...); of the result, itself.
    """
    if not config:
        return {}
    if isinstance(model := config.get("model_cfg"), Mapping):
        return _from_open_clip(model)
    part = dict(config)
    for _ in range(_MAX_PARTS):
        inner = next((found for name in _PARTS if isinstance(found := part.get(name), Mapping)), None)
        if inner is None:
            break
        part = {**inner, "model_type": inner.get("model_type") or part.get("model_type")}
    return part


def model_type(config: Mapping[str, Json] | None) -> str | None:
    """The model type of the vision part; None where neither transformers nor open_clip wrote the configuration.

    Other programs use the word for other things.
    """
    known = any(name in (config or {}) for name in ("transformers_version", "architectures", "auto_map", "model_cfg"))
    kind = vision_part(config).get("model_type") if known else None
    return kind if isinstance(kind, str) and kind else None


# Part of a network -> switches that leave out its biases, as transformers' models/*/configuration_*.py name them.
_SWITCHES = {
    "qkv": (("qkv_bias",), ("attention_bias",), ("query_bias", "value_bias")),
    "proj": (("proj_bias",), ("attention_bias",)),
    "mlp": (("mlp_bias",),),
}


def switched_off(config: Mapping[str, Json]) -> frozenset[str]:
    """The parts whose biases a configuration leaves out."""
    return frozenset(
        part
        for part, switches in _SWITCHES.items()
        if any(all(config.get(name) is False for name in names) for names in switches)
    )


def rotary_base(config: Mapping[str, Json]) -> float | None:
    """The base of rotary frequencies that a configuration gives."""
    nested = config.get("rope_parameters")
    value = config.get("rope_theta", nested.get("rope_theta") if isinstance(nested, Mapping) else None)
    return float(value) if isinstance(value, int | float) else None


# Names of transformers' activations; quick_gelu is a sigmoid approximation.
_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu-tanh",
    "gelu_new": "gelu-tanh",
    "gelu_fast": "gelu-tanh",
    "gelu_accurate": "gelu-tanh",
    "quick_gelu": "quick-gelu",
}


def activation(recognised: "Recognised", default: str) -> str:
    """The activation that the configuration beside a file names, in `ViTRules`' words, else the default.

    Raises:
        CheckpointError: for one that no network here has.
    """
    named = recognised.config.get("hidden_act")
    if named is None or "model_type" not in recognised.config:
        return default
    if not isinstance(named, str) or named not in _ACTIVATIONS:
        raise CheckpointError(
            f"{recognised.path}: config.json names the activation {named!r}, which corrkit doesn't know.",
            f"Known: {', '.join(_ACTIVATIONS)}.",
        )
    return _ACTIVATIONS[named]


def epsilon(recognised: "Recognised", default: float) -> float:
    """What norms add to a variance, as the configuration beside a file says, else the default."""
    value = recognised.config.get("layer_norm_eps", recognised.config.get("rms_norm_eps"))
    return value if isinstance(value, float) else default


def require_obeyed(recognised: "Recognised", facts: Mapping[str, int | float | str | Sequence[int]]) -> None:
    """Raises CheckpointError where the configuration beside a file says something else than its network has.

    Args:
        recognised: the file.
        facts: of the network that is about to be filled, under transformers' names; a number stands for itself and
            for a list of nothing else.
    """
    contradictions = []
    for name, found in facts.items():
        said = recognised.config.get(name)
        if isinstance(said, list) and isinstance(found, int) and said:
            agrees = all(item == found for item in said)
        else:
            agrees = not isinstance(said, int | float | str | list) or said == found
        if not agrees:
            contradictions.append(f"{name} {said} (here: {found})")
    if contradictions:
        raise CheckpointError(
            f"{recognised.path}: the config beside it (transformers) says {', '.join(contradictions)}.",
            "Either it belongs to another file, or the network is a variant that corrkit doesn't know.",
        )


def _activation_of_open_clip(model: Mapping[str, Json], vision: Mapping[str, Json]) -> str:
    """In transformers' words; act_kwargs are arguments of torch's GELU."""
    named = "quick_gelu" if model.get("quick_gelu") else "gelu"
    arguments = vision.get("act_kwargs")
    if not arguments or arguments == {"approximate": "none"}:
        return named
    return "gelu_new" if (named, arguments) == ("gelu", {"approximate": "tanh"}) else f"{named} with {arguments}"


def _from_open_clip(model: Mapping[str, Json]) -> dict[str, Json]:
    """The model_cfg of open_clip_config.json: mlfoundations/open_clip src/open_clip/model.py, CLIPVisionCfg."""
    vision = model.get("vision_cfg")
    vision = vision if isinstance(vision, Mapping) else {}
    width, head_width = vision.get("width"), vision.get("head_width", 64)
    part: dict[str, Json] = {
        "model_type": OPEN_CLIP,
        "hidden_size": width,
        "num_hidden_layers": vision.get("layers"),
        "patch_size": vision.get("patch_size"),
        "image_size": vision.get("image_size"),
        "hidden_act": _activation_of_open_clip(model, vision),
        "timm_model_name": vision.get("timm_model_name"),
        "no_ln_pre": vision.get("no_ln_pre", False),
    }
    if isinstance(width, int) and isinstance(head_width, int) and head_width > 0:
        part["num_attention_heads"] = width // head_width
    norm = vision.get("norm_kwargs")
    if isinstance(norm, Mapping) and "eps" in norm:
        part["layer_norm_eps"] = norm["eps"]
    return {name: value for name, value in part.items() if value is not None}
