"""Swin V2 by the rules of transformers: windows and shifts belong to the image size of its config, not to the input.

timm's network shrinks windows with its input and pads behind the shift, where transformers pads in front of it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, pad, scaled_dot_product_attention

from corrkit.backbones.building import Built, fill
from corrkit.backbones.networks.base import Network
from corrkit.backbones.networks.stages import Stage, blocks_per_stage, choose_stage
from corrkit.backbones.networks.vit import ACTIVATIONS
from corrkit.checkpoints.configuration import activation, epsilon, require_obeyed
from corrkit.checkpoints.recognised import Recognised
from corrkit.errors import CheckpointError

_STRONGEST = math.log(100)  # of the learned scale of similarities


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Of one stage: cells per side, by how many every second block shifts them, and their side in pre-training."""

    side: int
    shift: int
    pretrained: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """What a Swin V2 is made of; lists have one entry per stage.

    eps: of the norms of blocks and the last one; those behind the patches and the halvings have torch's.
    """

    dim: int
    patch: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    windows: tuple[Windows, ...]
    hidden: int
    eps: float
    activation: str
    bias: bool


def build(recognised: Recognised, *, heads: int | None = None, layer: int | str | None = None) -> Built:
    """The network of a recognised Swin V2, filled.

    Args:
        recognised: the file's tensors under timm's names, with the config beside it.
        heads: not needed: the scales of similarities tell. If given, it must agree with the first stage's.
        layer: a stage (1 is the first); None: the last one after the final norm.

    Raises:
        CheckpointError: no config beside the file, which alone tells the windows; incomplete or contradictory tensors,
            contradicting heads, a stage that doesn't exist.
    """
    depths = blocks_per_stage(recognised, r"layers\.(\d+)\.blocks\.(\d+)\.")
    scales = [recognised.tensor(f"layers.{number}.blocks.0.attn.logit_scale", 3) for number in range(len(depths))]
    every = tuple(int(scale.shape[0]) for scale in scales)
    if heads is not None and heads != every[0]:
        raise CheckpointError(
            f"{recognised.path} has {every[0]} heads in its first stage, not {heads}.", "Leave --heads out."
        )
    dim, channels, patch, _ = recognised.tensor("patch_embed.proj.weight", 4).shape
    bias = "layers.0.blocks.0.attn.qkv.bias" in recognised.state
    facts = {"embed_dim": dim, "num_channels": channels, "patch_size": patch, "qkv_bias": bias}
    lists = {"depths": list(depths), "num_heads": list(every)}
    require_obeyed(recognised, {**facts, **lists, "use_absolute_embeddings": False})
    design = Design(
        dim=dim,
        patch=patch,
        depths=depths,
        heads=every,
        windows=_windows(recognised, patch, len(depths)),
        hidden=int(recognised.tensor("layers.0.blocks.0.mlp.fc1.weight", 2).shape[0]),
        eps=epsilon(recognised, 1e-5),
        activation=activation(recognised, "gelu"),
        bias=bias,
    )
    stage = choose_stage(recognised, layer, len(depths), has_norm=True)
    with torch.device("meta"):
        network = SwinV2(design, stage)
    fill(network, recognised)
    sides = [windows.side for windows in design.windows]
    return Built(
        network=network,
        architecture=f"swinv2_{dim}_{'_'.join(map(str, depths))}_window{sides[0]}",
        stride=patch * 2 ** (stage.number - 1),
        multiple=patch * 2 ** (len(depths) - 1),
        layer=stage.label,
        position="relative",
        evidence=(
            ("heads", f"{every}: the scales of similarities"),
            ("windows", f"{sides}: window_size and image_size of the config beside the file"),
            ("layer", stage.words(len(depths))),
        ),
    )


def _windows(recognised: Recognised, patch: int, stages: int) -> tuple[Windows, ...]:
    """Of each stage, by the config: a grid that fits into one window is one, and isn't shifted."""
    config = recognised.config
    size, side = config.get("image_size"), config.get("window_size")
    height = size[0] if isinstance(size, list) and size else size
    listed = config.get("pretrained_window_sizes") or [0] * stages
    pretrained = [number for number in listed if isinstance(number, int)] if isinstance(listed, list) else []
    if not (isinstance(height, int) and isinstance(side, int) and height > 0 < side and len(pretrained) >= stages):
        raise CheckpointError(
            f"{recognised.path} is a Swin V2, whose windows only the config beside it tells (image_size, window_size, "
            "pretrained_window_sizes), and there is none that does.",
            "Put the model's config.json beside it, and name the file as transformers does: model.safetensors.",
        )
    found = []
    for number in range(stages):
        cells = height // patch // 2**number
        shift = 0 if cells <= side else side // 2
        found.append(Windows(side=min(cells, side), shift=shift, pretrained=pretrained[number]))
    return tuple(found)


class SwinV2(Network):
    """Normalised frames [B, 3, H, W] to features [B, h, w, C] of a stage."""

    def __init__(self, design: Design, stage: Stage) -> None:
        super().__init__()
        self.stage, self.layer, self.num_layers = stage, stage.number, len(design.depths)
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, design.dim, design.patch, design.patch)
        self.patch_embed.norm = nn.LayerNorm(design.dim)
        self.layers = nn.ModuleList(SwinV2Stage(design, number) for number in range(len(design.depths)))
        self.norm = nn.LayerNorm(design.dim * 2 ** (len(design.depths) - 1), eps=design.eps)

    def published(self, features: Tensor) -> Tensor:
        """After the final norm, where the last stage's published features were chosen."""
        return self.norm(features) if self.stage.normed else features

    def outputs(self, pixels: Tensor, upto: int) -> Iterator[Tensor]:
        """Output [B, h, w, C] of each stage, without a norm."""
        x = self.patch_embed.norm(self.patch_embed.proj(pixels).movedim(1, -1))  # type: ignore[operator]
        for stage in self.layers[:upto]:
            x = stage(x)
            yield x


class SwinV2Stage(nn.Module):
    """Halving of the grid, but in front of the first stage; blocks, every second one with shifted windows."""

    def __init__(self, design: Design, number: int) -> None:
        super().__init__()
        self.downsample = Halving(design.dim * 2 ** (number - 1)) if number else nn.Identity()
        self.blocks = nn.ModuleList(SwinV2Block(design, number, index % 2) for index in range(design.depths[number]))

    def forward(self, x: Tensor) -> Tensor:
        """[B, h, w, C] to [B, h', w', C']."""
        x = self.downsample(x)
        for block in self.blocks:
            x = block(x)
        return x


class Halving(nn.Module):
    """Four neighbours side by side, projected to twice the channels, then normalised."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction, self.norm = nn.Linear(4 * dim, 2 * dim, bias=False), nn.LayerNorm(2 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """[B, h, w, C] to [B, ceil(h / 2), ceil(w / 2), 2 C]."""
        x = pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        four = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.norm(self.reduction(torch.cat(four, -1)))  # type: ignore[no-any-return]


class SwinV2Block(nn.Module):
    """Attention within windows and MLP, each normalised before it is added."""

    def __init__(self, design: Design, number: int, odd: int) -> None:
        super().__init__()
        dim, windows = design.dim * 2**number, design.windows[number]
        self.side, self.shift = windows.side, windows.shift * odd
        self.attn = ContinuousAttention(dim, design.heads[number], windows, bias=design.bias)
        self.norm1, self.norm2 = (nn.LayerNorm(dim, eps=design.eps) for _ in range(2))
        self.mlp = nn.Module()
        self.mlp.fc1 = nn.Linear(dim, design.hidden * 2**number)
        self.mlp.fc2 = nn.Linear(design.hidden * 2**number, dim)
        self.act = ACTIVATIONS[design.activation]()

    def forward(self, x: Tensor) -> Tensor:
        """[B, h, w, C] to the same."""
        x = x + self.norm1(self._attended(x))
        return x + self.norm2(self.mlp.fc2(self.act(self.mlp.fc1(x))))  # type: ignore[no-any-return, operator]

    def _attended(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        padded = pad(x, (0, 0, 0, -width % self.side, 0, -height % self.side))
        rows, columns = padded.shape[1] // self.side, padded.shape[2] // self.side
        shifted = padded.roll((-self.shift, -self.shift), (1, 2))
        windows = shifted.unflatten(2, (columns, self.side)).unflatten(1, (rows, self.side)).transpose(2, 3)
        apart = self._apart(padded.shape[1], padded.shape[2], x.device) if self.shift else None
        attended = self.attn(windows.flatten(1, 2).flatten(2, 3), apart)  # [B, windows, side², C]
        grid = attended.unflatten(2, (self.side, self.side)).unflatten(1, (rows, columns)).transpose(2, 3)
        merged = grid.flatten(3, 4).flatten(1, 2).roll((self.shift, self.shift), (1, 2))
        return merged[:, :height, :width]  # type: ignore[no-any-return]

    def _apart(self, height: int, width: int, device: torch.device) -> Tensor:
        """-200 for cells of a window that the shift brought together, else 0: [windows, 1, side², side²].

        transformers adds its -100 twice (5.24.0 models/swinv2/modeling_swinv2.py, Swinv2SelfAttention.forward).
        """
        regions = []
        for length in (height, width):
            places = torch.arange(length, device=device)
            regions.append((places >= length - self.side).long() + (places >= length - self.shift).long())
        areas = regions[0][:, None] * 3 + regions[1]
        windows = areas.unflatten(1, (-1, self.side)).unflatten(0, (-1, self.side)).transpose(1, 2)
        cells = windows.flatten(0, 1).flatten(1)
        differ: Tensor = cells[:, None, :, None] != cells[:, None, None, :]
        return -200.0 * differ


class ContinuousAttention(nn.Module):
    """Attention by cosines, with a bias that a small network computes from log-spaced offsets.

    microsoft/Swin-Transformer f82860b models/swin_transformer_v2.py (WindowAttention).
    """

    def __init__(self, dim: int, heads: int, windows: Windows, *, bias: bool) -> None:
        super().__init__()
        self.heads, self.windows = heads, windows
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=bias), nn.Linear(dim, dim)
        self.logit_scale = nn.Parameter(torch.empty(heads, 1, 1))
        self.cpb_mlp = nn.Sequential(nn.Linear(2, 512), nn.ReLU(), nn.Linear(512, heads, bias=False))

    def forward(self, x: Tensor, apart: Tensor | None) -> Tensor:
        """Cells of windows [B, windows, side², C] to the same; `apart` [windows, 1, side², side²] is added."""
        q, k, v = self.qkv(x).unflatten(3, (3, self.heads, -1)).movedim(3, 0).transpose(3, 4).unbind(0)
        scale = self.logit_scale.clamp(max=_STRONGEST).exp()
        bias = self._bias(x) if apart is None else self._bias(x) + apart
        x = scaled_dot_product_attention(
            normalize(q, dim=-1) * scale, normalize(k, dim=-1), v, attn_mask=bias.expand(*q.shape[:-1], -1), scale=1.0
        )
        return self.proj(x.transpose(2, 3).flatten(3))  # type: ignore[no-any-return]

    def _bias(self, like: Tensor) -> Tensor:
        """[heads, side², side²] of pairs of cells."""
        side = self.windows.side
        offsets = torch.arange(1 - side, side, dtype=torch.float32)
        spaced = 8 * offsets / max((self.windows.pretrained or side) - 1, 1)
        spaced = spaced.sign() * (spaced.abs() + 1).log2() / 3
        table = torch.stack(torch.meshgrid(spaced, spaced, indexing="ij"), -1).to(like)
        biases = 16 * self.cpb_mlp(table).sigmoid()  # [2 side - 1, 2 side - 1, heads]
        apart = torch.arange(side)[:, None] - torch.arange(side) + side - 1
        pairs = biases[apart[:, None, :, None], apart[None, :, None, :]]  # [side, side, side, side, heads]
        return pairs.flatten(2, 3).flatten(0, 1).movedim(-1, 0)  # type: ignore[no-any-return]
