"""What a checkpoint's config.json may say about a timm network: arguments of its architecture, each with its range.

`timm.create_model` also takes paths, addresses and folders (`checkpoint_path`, `pretrained_cfg`, `cache_dir`, ...):
with these a file that is merely looked at would read, fetch and write others. So arguments of a file are checked
against this list, never against one of forbidden names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from corrkit.checkpoints.heads import entry
from corrkit.checkpoints.statistics import Channels, mean_and_std
from corrkit.errors import CheckpointError
from corrkit.files.jsontext import Json

if TYPE_CHECKING:
    from corrkit.checkpoints.opening import Opened


@dataclass(frozen=True, slots=True)
class _Number:
    """A number from `low` to `high`, or a list of up to `longest` of them (one per axis or stage)."""

    low: float
    high: float
    longest: int = 0
    whole: bool = True

    def allows(self, value: Json) -> bool:
        if isinstance(value, list):
            return 0 < len(value) <= self.longest and all(self._allows_one(item) for item in value)
        return self._allows_one(value)

    def _allows_one(self, value: Json) -> bool:
        known = type(value) is int or (type(value) is float and not self.whole)
        return known and isinstance(value, int | float) and self.low <= value <= self.high

    def __str__(self) -> str:
        some = f", or a list of up to {self.longest}" if self.longest else ""
        return f"a {'whole ' if self.whole else ''}number from {self.low} to {self.high}{some}"


@dataclass(frozen=True, slots=True)
class _Choice:
    """One of some plain values."""

    values: tuple[Json, ...]

    def allows(self, value: Json) -> bool:
        return any(type(value) is type(known) and value == known for known in self.values)

    def __str__(self) -> str:
        return f"one of {', '.join(map(repr, self.values))}"


_FLAG = _Choice((False, True))
_RATE = _Number(0, 1, whole=False)  # of dropout: without effect on a frozen network
_RATIO = _Number(0, 100, longest=8, whole=False)
_PIXELS = _Number(1, 4096, longest=2)
_WIDTH = _Number(1, 16384, longest=8)
_DEPTHS = {"depth", "depths", "layers"}
_NORMS = ("layernorm", "layernorm2d", "rmsnorm", "rmsnorm2d", "simplenorm", "batchnorm", "batchnorm2d", "groupnorm")
_ACTIVATIONS = ("gelu", "gelu_tanh", "quick_gelu", "relu", "relu6", "leaky_relu", "elu", "silu", "swish", "mish")

# Read from the signatures of timm 1.0.21 to 1.0.31: what the published config.json of its networks hold, and what else
# changes the shape or the computation of a common one. Arguments that choose classes or return values aren't there.
_ALLOWED: dict[str, _Number | _Choice] = {
    **dict.fromkeys(("img_size", "patch_size"), _PIXELS),
    "in_chans": _Number(3, 3),
    "num_classes": _Number(0, 1 << 20),  # replaced by 0
    **dict.fromkeys(("embed_dim", "embed_dims", "dims", "channels", "head_dim"), _WIDTH),
    **dict.fromkeys(_DEPTHS, _Number(0, 256, longest=8)),
    **dict.fromkeys(("num_heads", "heads", "num_kv_heads"), _Number(1, 256, longest=8)),
    "window_size": _Number(1, 64, longest=8),
    "reg_tokens": _Number(0, 1024),
    "output_stride": _Choice((8, 16, 32)),
    **dict.fromkeys(("mlp_ratio", "mlp_ratios", "init_values", "ls_init_value", "layer_scale_init_value"), _RATIO),
    **dict.fromkeys(("norm_eps", "bn_eps", "bn_momentum", "head_init_scale"), _RATE),
    **dict.fromkeys(
        ("drop_rate", "drop_path_rate", "attn_drop_rate", "proj_drop_rate", "pos_drop_rate", "patch_drop_rate"), _RATE
    ),
    **dict.fromkeys(("qkv_bias", "qk_norm", "scale_attn_norm", "scale_mlp_norm", "proj_bias"), _FLAG),
    **dict.fromkeys(("class_token", "no_embed_class", "pre_norm", "final_norm", "fc_norm"), _FLAG),
    **dict.fromkeys(("dynamic_img_size", "dynamic_img_pad", "strict_img_size", "always_partition"), _FLAG),
    **dict.fromkeys(("pool_include_prefix", "fix_init", "zero_init_last", "conv_mlp", "use_grn", "conv_bias"), _FLAG),
    "global_pool": _Choice(("", "avg", "max", "avgmax", "catavgmax", "token", "map", "prr", "fast")),
    "pos_embed": _Choice(("", "none", "learn")),
    "weight_init": _Choice(("", "skip", "reset", "jax", "jax_nlhb", "moco")),
    "act_layer": _Choice(_ACTIVATIONS),
    "norm_layer": _Choice(_NORMS),
}


def architecture_arguments(opened: "Opened", num_tensors: int) -> dict[str, Json]:
    """The `model_args` of a file's config.json, each of a known name, type and range; null ones are left to timm.

    Args:
        opened: the file.
        num_tensors: how many it holds, the most blocks that its network can have.

    Raises:
        CheckpointError: any other argument, which it names, or more blocks than tensors.
    """
    given = entry(opened.config, "model_args")
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise CheckpointError(f"{opened.path}: model_args in config.json is no JSON object.", "Get config.json again.")
    arguments = {name: value for name, value in given.items() if value is not None}
    for name, value in arguments.items():
        if name not in _ALLOWED:
            raise CheckpointError(
                f"{opened.path}: model_args in config.json sets {name[:60]!r}, which isn't passed on to timm.",
                f"corrkit passes on arguments of the architecture alone: {', '.join(sorted(_ALLOWED))}.",
            )
        if not _ALLOWED[name].allows(value):
            raise CheckpointError(
                f"{opened.path}: model_args in config.json sets {name} to {repr(value)[:60]}.",
                f"It must be {_ALLOWED[name]}.",
            )
    for name in _DEPTHS & arguments.keys():
        depths = arguments[name]
        blocks = sum(depths if isinstance(depths, list) else [depths])
        if blocks > num_tensors:
            raise CheckpointError(
                f"{opened.path}: model_args in config.json asks for {blocks} blocks ({name}), the file has "
                f"{num_tensors} tensors.",
                "Get config.json and weights from one source.",
            )
    return arguments


def statistics(opened: "Opened | None", default: Mapping[str, object]) -> tuple[Channels, Channels]:
    """Mean and std per channel: of `pretrained_cfg` in a file's config.json, else timm's own (`default`).

    Raises:
        CheckpointError: not three finite numbers each, or a std that isn't above 0.
    """
    values: dict[str, object] = {}
    for name in ("mean", "std"):
        given = None if opened is None else entry(opened.config, f"pretrained_cfg.{name}")
        values[name] = default[name] if given is None else given
    mean, std = ((f"pretrained_cfg.{name} in config.json", value) for name, value in values.items())
    return mean_and_std("timm" if opened is None else opened.path, mean, std)
