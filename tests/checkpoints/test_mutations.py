"""Files whose tensors or config contradict themselves: loaded or refused, and never an error of corrkit's own.

Every golden checkpoint is taken apart: the rank, an extent or the type of a tensor, or a value of the config beside it
is changed at random, and the network is built as `corrkit inspect` builds it. What is loaded must also run.
"""

import collections
import copy
import dataclasses
import functools
import itertools
import json
import random
import re
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from corrkit.backbones.contract import interface_of
from corrkit.backbones.loading import Loading, examine_opened
from corrkit.checkpoints.opening import Opened, open_checkpoint
from corrkit.errors import CheckpointError
from corrkit.files.jsontext import Json
from tests.checkpoints.test_goldens import GOLDENS
from tests.checkpoints.test_video_goldens import SYSTEMS
from tests.checkpoints.test_wild import FIXTURES

VALUES: tuple[Json, ...] = (
    None,
    -1,
    0,
    1,
    3,
    7,
    10**9,
    10**30,
    0.5,
    -1.5,
    float("nan"),
    float("inf"),
    True,
    "",
    "x",
    [],
    [1],
    [[]],
    {},
    {"a": 1},
)
# Resampling a table warns of torch's and numpy's own future; that is no matter of these tests.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
DTYPES = (torch.int64, torch.uint8, torch.bool, torch.float16, torch.float64, torch.complex64)


NAMES = [
    *(f"checkpoints/{name}" for name in (*GOLDENS, *SYSTEMS, "fastmim_swin", "simmim_swin")),
    *(f"checkpoints_wild/{name}" for name in FIXTURES),
]


@functools.cache
def opened_golden(folder: Path) -> tuple[Opened, dict[str, Any]] | None:
    """None for a file of other code that is refused before anything is known of its tensors."""
    meta = json.loads((folder / "meta.json").read_text())
    try:
        return open_checkpoint(folder / meta["file"]), meta
    except CheckpointError:
        return None


def heads_of(meta: dict[str, Any]) -> int | None:
    heads = meta.get("heads_hint", meta.get("heads"))
    return heads if isinstance(heads, int) else None


def other_tensor(tensor: torch.Tensor, draw: random.Random) -> tuple[torch.Tensor, str]:
    """The tensor with another rank, extent or type."""
    kind = draw.choice(("rank", "extent", "extent", "type"))
    if kind == "type":
        dtype = draw.choice(DTYPES)
        return tensor.to(dtype), f"as {dtype}"
    if kind == "rank":
        way = draw.choice(("first", "last", "flat", "scalar", "drop"))
        changed = {
            "first": lambda: tensor[None],
            "last": lambda: tensor[..., None],
            "flat": tensor.flatten,
            "scalar": lambda: tensor.flatten()[0] if tensor.numel() else tensor,
            "drop": lambda: tensor[0] if tensor.ndim and len(tensor) else tensor,
        }[way]()
        return changed, f"rank {way} {list(changed.shape)}"
    if not tensor.ndim:
        return tensor[None], "rank first"
    axis = draw.randrange(tensor.ndim)
    extent = tensor.shape[axis]
    extent = max(draw.choice((0, 1, 2, extent - 1, extent + 1, 2 * extent, extent // 2, extent + 3)), 0)
    shape = [*tensor.shape[:axis], extent, *tensor.shape[axis + 1 :]]
    return torch.zeros(shape, dtype=tensor.dtype), f"shape {shape}"


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, item in items:
        yield from paths(item, (*path, key))


def at(tree: Any, path: Sequence[Any]) -> Any:
    return functools.reduce(lambda part, key: part[key], path, tree)


def replaced(tree: Any, path: Sequence[Any], value: Any) -> Any:
    """A copy of the containers on the way to a path, with another value there."""
    if not path:
        return value
    inner = replaced(tree[path[0]], path[1:], value)
    if isinstance(tree, dict):
        return {**tree, path[0]: inner}
    changed = [*tree[: path[0]], inner, *tree[path[0] + 1 :]]
    return tuple(changed) if isinstance(tree, tuple) else changed


def other_value(value: Any, draw: random.Random) -> Any:
    """Another value; of a text that holds settings, such as a YAML file, one with another setting."""
    settings = list(re.finditer(r"(?<=[:=] )[^\n,]+", value)) if isinstance(value, str) else []
    if not settings or draw.random() < 0.1:
        return draw.choice(VALUES)
    setting = draw.choice(settings)
    return f"{value[: setting.start()]}{draw.choice(VALUES)}{value[setting.end() :]}"


def mutate(opened: Opened, draw: random.Random) -> tuple[Opened, str]:
    """A copy with one to three changes, and what they are."""
    words: list[str] = []
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        tensors: list[tuple[str, tuple[Any, ...]]] = []
        values: list[tuple[str, tuple[Any, ...]]] = []
        for part in ("tree", "config", "preprocessor", "metadata"):
            for path in paths(getattr(opened, part)):
                is_tensor = isinstance(at(getattr(opened, part), path), torch.Tensor)
                (tensors if is_tensor else values).append((part, path))
        part, path = draw.choice(values if values and (draw.random() < 0.4 or not tensors) else tensors)
        whole = getattr(opened, part)
        found = at(whole, path)
        if isinstance(found, torch.Tensor):
            value, change = other_tensor(found, draw)
        else:
            value = other_value(found, draw)
            change = f"= {str(value)[:200]!r}"
        opened = dataclasses.replace(opened, **{part: replaced(whole, path, value)})
        words.append(f"{part} {list(path)} {change}")
    return opened, "; ".join(words)


@torch.no_grad()
def outcome(opened: Opened, meta: dict[str, Any]) -> str:
    """ "loaded", "refused", or where corrkit failed."""
    try:
        backbone = examine_opened(opened, Loading(heads=heads_of(meta)))
    except CheckpointError:
        return "refused"
    except Exception as error:
        return _place(error)
    try:
        backbone.network.float()
        multiple = interface_of(backbone).multiple
        side = -(-64 // multiple) * multiple
        backbone(torch.zeros(1, 3, side, side))
    except Exception as error:
        return f"run: {_place(error)}"
    return "loaded"


def _place(error: Exception) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "corrkit" in frame.filename]
    where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames[-2:]))
    return f"{where} {type(error).__name__}: {str(error)[:100]}"


def check(golden: Any, count: int, seed: int) -> collections.Counter[str]:
    draw = random.Random(seed)
    counts: collections.Counter[str] = collections.Counter()
    failed: dict[str, list[str]] = collections.defaultdict(list)
    files = {name: file for name in NAMES if (file := opened_golden(golden(name))) is not None}
    for _, name in zip(range(count), itertools.cycle(files), strict=False):
        opened, meta = files[name]
        mutated, words = mutate(opened, draw)
        found = outcome(mutated, meta)
        if found in ("loaded", "refused"):
            counts[found] += 1
        else:
            failed[found].append(f"{name}: {words}")
    print(dict(counts), sum(map(len, failed.values())), "failed")
    assert not failed, "\n".join(f"{len(cases)} x {where}: {cases[0]}" for where, cases in failed.items())
    return counts


DOUBLING = "l0: &l0 [a]\n" + "".join(f"l{i}: &l{i} [*l{i - 1}, *l{i - 1}]\n" for i in range(1, 60))
DOUBLING += "MVIT: {POOL_KV_STRIDE_ADAPTIVE: *l59}\n"  # printed, it would have 2**60 items

# Of the ten thousand below, those that once ended as errors of corrkit's own: file, part, place in it, and the shape of
# a tensor or a value that is put there.
FOUND = [
    ("checkpoints/mvitv2_image", "tree", ("model_state", "blocks.0.attn.pool_k.weight"), (16, 2, 3, 3)),
    ("checkpoints/mvitv2_image", "tree", ("model_state", "patch_embed.proj.weight"), (16, 3, 7, 7, 1)),
    ("checkpoints/maskfeat_video", "tree", ("model_state", "blocks.1.attn.pool_k.weight"), (12, 1, 3, 4, 3)),
    ("checkpoints/mvitv2_video", "tree", ("model_state", "blocks.1.norm1.weight"), ()),
    ("checkpoints/mvitv2_video", "tree", ("model_state", "blocks.3.attn.rel_pos_t"), (3, 13)),
    ("checkpoints/mae_st_finetuned", "tree", ("model_state", "pos_embed_class"), (1, 1, 2)),
    ("checkpoints/mae_st", "tree", ("model", "pos_embed_class"), (1, 1, 64)),
    ("checkpoints/dinov3", "tree", ("rope_embed.periods",), (2,)),
    ("checkpoints/fcmae", "tree", ("model", "encoder.downsample_layers.1.1.kernel"), (5, 8, 16)),
    *[
        ("checkpoints/mvitv2_image", "tree", ("cfg",), text)
        for text in ("!!int ''", "!!bool x", "!!float ''", "!!timestamp x", "[" * 9_000, DOUBLING)
    ],
    ("checkpoints_wild/r09_hf_sam2", "config", ("backbone_config", "num_attention_heads_per_stage"), True),
    ("checkpoints_wild/r07_hf_hiera", "config", ("num_heads", 0), "x"),
]


@pytest.mark.golden
@pytest.mark.parametrize(("name", "part", "path", "value"), FOUND)
def test_a_contradiction_that_was_found_is_no_error_of_corrkit(
    golden: Any, name: str, part: str, path: tuple[Any, ...], value: Any
) -> None:
    file = opened_golden(golden(name))
    assert file is not None
    opened, meta = file
    found = at(getattr(opened, part), path)
    put = torch.zeros(value, dtype=found.dtype) if isinstance(found, torch.Tensor) else value
    changed = dataclasses.replace(opened, **{part: replaced(getattr(opened, part), path, put)})
    assert outcome(changed, meta) in ("loaded", "refused")


@pytest.mark.golden
def test_contradictions_are_refused(golden: Any) -> None:
    counts = check(golden, 50, seed=1)
    assert counts["refused"] > 25
    assert counts["loaded"] > 3


@pytest.mark.golden
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
def test_many_contradictions_are_refused(golden: Any, seed: int) -> None:
    check(golden, 1_000, seed)


@pytest.mark.golden
@pytest.mark.slow
def test_headers_of_converted_files_are_checked(golden: Any, tmp_path: Path) -> None:
    """Every value of the header, nested ones too, replaced by every other kind of value."""
    from corrkit.backbones.conversion import convert

    folder = golden("checkpoints/dino")
    meta = json.loads((folder / "meta.json").read_text())
    convert(folder / meta["file"], tmp_path / "a.safetensors", Loading(heads=meta.get("heads_hint") or 3))
    opened = open_checkpoint(tmp_path / "a.safetensors")
    facts = json.loads(opened.metadata["corrkit"])
    failed, refused = [], 0
    for *above, last in paths(facts):
        for value in VALUES:
            changed = copy.deepcopy(facts)
            functools.reduce(lambda part, key: part[key], above, changed)[last] = value
            found = outcome(dataclasses.replace(opened, metadata={"corrkit": json.dumps(changed)}), {})
            refused += found == "refused"
            failed += [] if found in ("loaded", "refused") else [f"{[*above, last]} = {value!r}: {found}"]
    assert not failed, "\n".join(failed)
    assert refused > 100
