"""A proposal of a layout file for a checkpoint in unknown names: what looks like a vision transformer, by its shapes.

Shapes tell what most tensors are; where only words can (which norm comes first, which projection makes the queries), a
word that doesn't leaves the tensor open, and the file is refused until its owner has filled it in.
"""

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from corrkit.checkpoints import drops
from corrkit.checkpoints.branches import is_secondary, whole_key
from corrkit.checkpoints.naming import flatten
from corrkit.checkpoints.opening import Opened
from corrkit.documentation import see
from corrkit.errors import CheckpointError
from corrkit.text import one_line

Shapes = Mapping[str, tuple[int, ...]]
_QKV = {
    "q": re.compile(r"(^|[._])(to_|w|proj_)?(q|query|queries)([._]|$)", re.IGNORECASE),
    "k": re.compile(r"(^|[._])(to_|w|proj_)?(k|key|keys)([._]|$)", re.IGNORECASE),
    "v": re.compile(r"(^|[._])(to_|w|proj_)?(v|value|values)([._]|$)", re.IGNORECASE),
}
_SHOWN = 40  # names that are not understood
_FIRST = re.compile(r"[a-z](_?[01])$|attn|attention|before|pre|input", re.IGNORECASE)
_SECOND = re.compile(r"[a-z](_?2)$|mlp|ffn|feed|ff|after|post", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Proposal:
    """What was found, in a sentence, and the text of the layout file."""

    sentence: str
    text: str


@dataclass(slots=True)
class _Network:
    """Blocks of equal shapes whose names differ by a number, and what is known of the rest under their prefix.

    leaves, outside: shapes by what follows the block's number, and by the name relative to the prefix.
    roles: canonical name to name, relative to the prefix, with * for the number of a block. unclear: such names.
    """

    stem: str
    depth: int
    leaves: Shapes
    width: int = 0
    prefix: str = ""
    patch: int = 0
    outside: dict[str, tuple[int, ...]] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    unclear: list[str] = field(default_factory=list)


def propose(opened: Opened, key: str | None = None) -> Proposal:
    """A layout file for the vision transformer in an opened file.

    Args:
        opened: the file.
        key: dotted path of the branch, in a file that holds several.

    Raises:
        CheckpointError: nothing in the file looks like a vision transformer, or several things do.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in flatten(opened.tree).items()}
    if key is not None:
        whole = whole_key(key, shapes, opened.path)
        shapes = {name: shape for name, shape in shapes.items() if name.startswith(f"{whole}.")}
    patches = [name for name, shape in shapes.items() if len(shape) == 4 and shape[1] == 3 and shape[2] == shape[3]]
    described = (_described(stack, shapes, patches) for stack in _stacks(shapes))
    found = _nearest([network for network in described if network is not None])
    if not found:
        raise CheckpointError(
            f"{opened.path} holds nothing that looks like a vision transformer: no blocks of equal shapes with "
            "attention, beside a patch embedding of RGB pixels.",
            "For another network: py:FILE.py:FUNCTION, which builds it with its own code.",
        )
    if len(found) > 1:
        stems = ", ".join(network.stem.removesuffix(".") for network in found[:8])
        raise CheckpointError(
            f"{opened.path} holds several of what looks like a vision transformer, with the blocks {stems}.",
            f"Choose a part of the file with --ckpt-key, or write the layout file by hand ({see('checkpoints')}).",
        )
    (network,) = found
    where = f" under {one_line(network.prefix.removesuffix('.'))}" if network.prefix else ""
    blocks = f"{network.depth} block{'s' * (network.depth > 1)}"
    sentence = f"{blocks} of width {network.width}{where}, patches of {network.patch} pixels"
    return Proposal(sentence, _text(network, sentence, opened.path.name))


def _nearest(networks: list[_Network]) -> list[_Network]:
    """Of those that would share a patch embedding, the blocks whose names begin most like its; a decoder's are none."""
    patches: dict[str, list[_Network]] = defaultdict(list)
    for network in networks:
        patches[network.prefix + network.roles["patch_embed.proj.weight"]].append(network)
    best = []
    for rivals in patches.values():
        most = max(len(network.prefix) for network in rivals)
        rivals = [network for network in rivals if len(network.prefix) == most]
        best += [network for network in rivals if not _is_beside(network)] or rivals
    return best


def _is_beside(network: _Network) -> bool:
    """Whether the blocks' own name is a decoder's or the like."""
    inner = network.stem.removeprefix(network.prefix)
    return drops.reason(inner, drops.GENERAL) is not None or any(map(is_secondary, inner.split(".")))


def _stacks(shapes: Shapes) -> Iterable[_Network]:
    """Groups of names that differ by one number, from 0 on, with equal shapes behind each."""
    stacks: dict[str, dict[int, dict[str, tuple[int, ...]]]] = defaultdict(lambda: defaultdict(dict))
    for name, shape in shapes.items():
        for match in re.finditer(r"(?:^|(?<=\.))(\d{1,4})\.", name):
            stacks[name[: match.start()]][int(match[1])][name[match.end() :]] = shape
    for stem, blocks in stacks.items():
        if stem and sorted(blocks) == list(range(len(blocks))) and all(one == blocks[0] for one in blocks.values()):
            yield _Network(stem, len(blocks), blocks[0])


def _described(network: _Network, shapes: Shapes, patches: Iterable[str]) -> _Network | None:
    """The network with the roles of its tensors; None for what is no vision transformer."""
    widths = Counter(shape[0] for shape in network.leaves.values() if len(shape) == 1)
    squares = {shape[1] for shape in network.leaves.values() if len(shape) == 2}
    widths = Counter({width: number for width, number in widths.items() if width in squares})
    if not widths:
        return None
    network.width = widths.most_common(1)[0][0]
    patches = [name for name in patches if shapes[name][0] == network.width]
    if not patches:
        return None
    patch = max(patches, key=lambda name: len(_shared(name, network.stem)))
    network.prefix, network.patch = _shared(patch, network.stem), shapes[patch][2]
    if not _attention(network) or not _feed_forward(network):
        return None
    _block_vectors(network)
    _outside(network, shapes, patch)
    return network


def _shared(one: str, other: str) -> str:
    """The whole segments that two names begin with."""
    shared = ""
    for mine, theirs in zip(one.split(".")[:-1], other.split(".")[:-1], strict=False):
        if mine != theirs or mine.isdecimal():
            break
        shared += f"{mine}."
    return shared


def _take(network: _Network, leaf: str, canonical: str) -> None:
    """Gives a weight of a block its role, and its bias the same."""
    inner = network.stem.removeprefix(network.prefix)
    network.roles[f"blocks.*.{canonical}.weight"] = f"{inner}*.{leaf}"
    bias = re.sub(r"weight$", "bias", leaf)
    if bias != leaf and bias in network.leaves:
        network.roles[f"blocks.*.{canonical}.bias"] = f"{inner}*.{bias}"


def _attention(network: _Network) -> bool:
    width = network.width
    joint = [leaf for leaf, shape in network.leaves.items() if shape == (3 * width, width)]
    square = [leaf for leaf, shape in network.leaves.items() if shape == (width, width)]
    if len(joint) == 1 and len(square) == 1:
        _take(network, joint[0], "attn.qkv")
        _take(network, square[0], "attn.proj")
        return True
    parts = {part: [leaf for leaf in square if word.search(leaf)] for part, word in _QKV.items()}
    if joint or len(square) != 4 or any(len(leaves) != 1 for leaves in parts.values()):
        return False
    for part, (leaf,) in parts.items():
        _take(network, leaf, f"attn.{part}")
    (rest,) = set(square) - {leaf for (leaf,) in parts.values()}
    _take(network, rest, "attn.proj")
    return True


def _feed_forward(network: _Network) -> bool:
    width, taken = network.width, _taken(network)
    up = [leaf for leaf, shape in network.leaves.items() if len(shape) == 2 and shape[1] == width and leaf not in taken]
    down = [leaf for leaf, shape in network.leaves.items() if len(shape) == 2 and shape[0] == width]
    down = [leaf for leaf in down if leaf not in taken and leaf not in up]
    if len(down) != 1:
        return False
    hidden = network.leaves[down[0]][1]
    if len(up) == 1 and network.leaves[up[0]][0] == hidden:
        _take(network, up[0], "mlp.fc1")
        _take(network, down[0], "mlp.fc2")
        return True
    gates = [leaf for leaf in up if "gate" in leaf]
    if len(up) == 2 and len(gates) == 1 and all(network.leaves[leaf][0] == hidden for leaf in up):
        _take(network, gates[0], "mlp.gate")
        _take(network, next(leaf for leaf in up if leaf != gates[0]), "mlp.value")
        _take(network, down[0], "mlp.w3")
        return True
    return False


def _block_vectors(network: _Network) -> None:
    """Norms and layer scales of a block, in the order that their names tell."""
    taken = _taken(network)
    vectors = [leaf for leaf, shape in network.leaves.items() if shape == (network.width,) and leaf not in taken]
    norms = [leaf for leaf in vectors if re.search(r"(^|[._])weight$", leaf)]
    scales = [leaf for leaf in vectors if re.search(r"gamma|scale|lambda|(^|[._])ls", leaf, re.IGNORECASE)]
    scales = [leaf for leaf in scales if leaf not in norms]
    ordered = _beside_their_parts(network, norms) or _ordered(norms, lambda leaf: leaf.rpartition(".")[0])
    for leaf, number in ordered.items():
        _take(network, leaf, f"norm{number}")
    inner = network.stem.removeprefix(network.prefix)
    for leaf, number in _ordered(scales, lambda leaf: re.sub(r"\.(gamma|scale|lambda\d?)$", "", leaf)).items():
        network.roles[f"blocks.*.ls{number}.gamma"] = f"{inner}*.{leaf}"
    taken = _taken(network)
    network.unclear += [f"{inner}*.{leaf}" for leaf in network.leaves if leaf not in taken]


def _beside_their_parts(network: _Network, norms: list[str]) -> dict[str, int]:
    """The norm in the module of attention and that in the module of the MLP; {} where they stand elsewhere."""
    inner = f"{network.stem.removeprefix(network.prefix)}*."
    roles = {canonical: name.removeprefix(inner).split(".")[0] for canonical, name in network.roles.items()}
    attention, mlp = roles["blocks.*.attn.proj.weight"], roles.get("blocks.*.mlp.fc1.weight", "")
    found = {
        leaf: 1 if leaf.split(".")[0] == attention else 2 for leaf in norms if leaf.split(".")[0] in (attention, mlp)
    }
    return found if attention != mlp and len(norms) == 2 and {*found.values()} == {1, 2} else {}


def _ordered(leaves: list[str], stem: Callable[[str], str]) -> dict[str, int]:
    """The first and the second of two names; {} where their words don't tell, or there aren't two."""
    if len(leaves) != 2:
        return {}
    ranks = {}
    for leaf in leaves:
        words = re.sub(r"post_att(entio)?n", "post", stem(leaf))
        is_first, is_second = _FIRST.search(words) is not None, _SECOND.search(words) is not None
        if is_first == is_second:
            return {}
        ranks[leaf] = 1 if is_first else 2
    return ranks if set(ranks.values()) == {1, 2} else {}


def _taken(network: _Network) -> set[str]:
    inner = network.stem.removeprefix(network.prefix)
    return {name.removeprefix(f"{inner}*.") for name in network.roles.values()}


def _is_table(shape: tuple[int, ...], width: int) -> bool:
    """Whether a shape is that of positions of a square grid of at least 4x4, behind up to two tokens, by itself."""
    rows = shape[-2] if len(shape) > 1 and shape[-1] == width and shape[:-2] in ((), (1,)) else 0
    return any(rows - tokens >= 16 and math.isqrt(rows - tokens) ** 2 == rows - tokens for tokens in (0, 1, 2))


def _outside(network: _Network, shapes: Shapes, patch: str) -> None:
    """Patch embedding, tokens, positions and norms beside the blocks."""
    prefix, width = network.prefix, network.width
    network.outside = {
        name.removeprefix(prefix): shape
        for name, shape in shapes.items()
        if name.startswith(prefix) and not name.startswith(network.stem)
    }
    patch = patch.removeprefix(prefix)
    network.roles["patch_embed.proj.weight"] = patch
    bias = re.sub(r"weight$", "bias", patch)
    if bias != patch and network.outside.get(bias) == (width,):
        network.roles["patch_embed.proj.bias"] = bias
    rest = {name: shape for name, shape in network.outside.items() if name not in (patch, bias)}
    for canonical, word, is_one in (("cls_token", r"cls|class", True), ("reg_token", r"reg|storage", False)):
        names = [name for name, shape in rest.items() if re.search(word, name) and shape[-1:] == (width,)]
        names = [n for n in names if "pos" not in n and "norm" not in n and (len(rest[n]) == 3 or rest[n] == (width,))]
        names = [n for n in names if drops.reason(n, drops.GENERAL) is None]
        if len(names) == 1 and (not is_one or rest[names[0]] in ((1, 1, width), (width,))):
            network.roles[canonical] = names[0]
    tables = [name for name, shape in rest.items() if "pos" in name and shape[-1:] == (width,) and len(shape) > 1]
    tokens = network.roles.values()
    tables = tables or [name for name, shape in rest.items() if name not in tokens and _is_table(shape, width)]
    if len(tables) == 1:
        network.roles["pos_embed"] = tables[0]
    norms = [
        name
        for name, shape in rest.items()
        if shape == (width,) and re.search(r"(^|[._])weight$", name) and drops.reason(name, drops.GENERAL) is None
    ]
    for name in norms:
        before = re.search(r"pre", name) is not None
        if len(norms) == 1 or (len(norms) == 2 and sum("pre" in other for other in norms) == 1):
            stem = "norm_pre" if before else "norm"
            network.roles[f"{stem}.weight"] = name
            if (bias := re.sub(r"weight$", "bias", name)) in rest:
                network.roles[f"{stem}.bias"] = bias
    known = set(network.roles.values())
    network.unclear += [
        name for name in network.outside if name not in known and drops.reason(name, drops.GENERAL) is None
    ]


def _text(network: _Network, sentence: str, file: str) -> str:
    """The layout file."""
    roles = network.roles
    block = next(name for canonical, name in roles.items() if canonical in _BLOCK_ANCHORS)
    has_norm = "norm.weight" in roles
    parts = {"patch": "patch_embed.proj", "qkv": "blocks.*.attn.qkv", "proj": "blocks.*.attn.proj"}
    weights = {**parts, "mlp": "blocks.*.mlp.fc1"}
    bare = [part for part, stem in weights.items() if f"{stem}.weight" in roles and f"{stem}.bias" not in roles]
    bare += ["qkv"] if "blocks.*.attn.q.weight" in roles and "blocks.*.attn.q.bias" not in roles else []
    bare += ["mlp"] if "blocks.*.mlp.gate.weight" in roles and "blocks.*.mlp.gate.bias" not in roles else []
    biased = "blocks.*.norm1.bias" in roles or "norm.bias" in roles
    lines = [
        f"# Proposed for {json.dumps(file)}: {json.dumps(sentence)[1:-1]}.",
        "# Shapes and names tell what stands here, but not how the network computes: check each line marked so.",
        "# It is computed as a plain ViT: norms before attention and MLP, no rotary or relative positions; else py:.",
        *(f"# Not understood, refused until renamed or dropped: {_quoted(name)}" for name in network.unclear[:_SHOWN]),
        "",
        *([f"prefix = {_quoted(network.prefix.removesuffix('.'))}"] if network.prefix else []),
        "# heads = N  # else from the table of published models, or --heads",
        "mean = [0.485, 0.456, 0.406]  # check: of ImageNet",
        "std = [0.229, 0.224, 0.225]  # check: of ImageNet",
        f"final_norm = {_quoted('affine' if has_norm else 'none')}  # check: whether the patches go through it",
        f"norm = {_quoted('layer' if biased else 'rms')}" + ("" if biased else "  # check: it has no bias"),
        "eps = 1e-6  # check: 1e-5 is torch's default",
        f'activation = "gelu"  # {"a gate takes SiLU" if "blocks.*.mlp.gate.weight" in roles else "check"}',
        'position = "size"  # check: how the stored positions are resized (corrkit docs checkpoints)'
        if "pos_embed" in roles
        else '# position = "none"  # or "sincos": nothing that looks like a table is stored; rotary ones need py:',
        *([f"no_bias = [{', '.join(map(_quoted, bare))}]"] if bare else []),
        "",
        "[anchors]",
        f"{_quoted(roles['patch_embed.proj.weight'])} = 4",
        f"{_quoted(block)} = 2",
        "",
        "[renames]",
        *(f"{_quoted(name)} = {_quoted(canonical)}" for canonical, name in roles.items() if canonical != name),
        *(["", "[drop]"] if (dropped := _dropped(network)) else []),
        *(f"{_quoted(name)} = {_quoted(reason)}" for name, reason in dropped.items()),
    ]
    return "\n".join(lines) + "\n"


def _dropped(network: _Network) -> dict[str, str]:
    """What is known to be no part of a backbone, with the reason; whole modules where nothing of them is used."""
    reasons = {name: drops.reason(name, drops.GENERAL) for name in network.outside}
    used = {name.split(".")[0] for name in (*network.roles.values(), *network.unclear)}
    found = {}
    for name, reason in reasons.items():
        if reason is not None and name not in network.roles.values():
            top = name.split(".")[0]
            found[name if top in used else top] = reason
    return found


_BLOCK_ANCHORS = ("blocks.*.attn.qkv.weight", "blocks.*.attn.q.weight")


def _quoted(text: str) -> str:
    """A basic string of TOML, in which nothing invisible stands as it is."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)
