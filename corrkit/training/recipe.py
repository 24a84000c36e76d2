"""Recipe files: TOML in, a checked frozen `Recipe` out; scales and overrides by leaf or dotted name."""

import copy
import dataclasses
import typing
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from corrkit.constants import Reader, Text, packaged, parse_toml, with_parents
from corrkit.errors import UsageError, closest
from corrkit.files.jsontext import Json, table_of
from corrkit.files.reading import regular_text
from corrkit.training.schema import OPTIONS, AnyRecipe, DecoderSpec, EncoderSpec, Recipe, TargetOptions

_ROOM, _FOLDER, _SUFFIX = "corrkit.training", "recipes", ".toml"
_NEEDED = {"bootmae": (2, 1), "siameseim": (2, 1), "sdae": (1, 1), "splitmask": (1, 1), "rsp": (1, 2),
           "omnimae": (1, 2), "ibot": (0, 2)}  # fmt: skip
_WORDS = ("name", "title", "source", "proven", "unverified")


def recipe_names() -> list[str]:
    """Names of the recipes, sorted."""
    entries = (resources.files(_ROOM) / _FOLDER).iterdir()
    return sorted(entry.name.removesuffix(_SUFFIX) for entry in entries if entry.name.endswith(_SUFFIX))


def scale_names() -> list[str]:
    """Names of the scales: tiny and demo for tests, small to large as published."""
    return sorted(packaged(_ROOM, "scales.toml"))


def load_recipe(name: str, *, scale: str | None = None, changes: Mapping[str, object] | None = None) -> AnyRecipe:
    """Reads a recipe.

    Args:
        name: one of `recipe_names`, or the path of a TOML file of one's own, which may extend one of them.
        scale: one of `scale_names`, whose sizes replace the recipe's own.
        changes: name to value, as text or of the right type: "masks.1.ratio", "encoder.patch", "views.gap", or the last
            part alone where only one constant has it ("gap"). Where a table is a list, "branches.*.loss" changes all
            of its entries.

    Raises:
        UsageError: an unknown recipe, scale or name, or a value of the wrong type or out of range; names file and
            field, and the nearest known ones.
    """
    own = name.endswith(_SUFFIX)
    reader = Reader(name if own else f"Recipe {name}", UsageError)
    document = with_parents(name, _own_document if own else _document, replaced=("unverified",))
    document.setdefault("options", {})
    given = dict(changes or {})
    if scale is not None:
        if scale not in scale_names():
            raise UsageError(f"There is no scale {scale!r}.", closest(scale, scale_names()))
        encoder = reader.table(document.get("encoder"), "encoder")
        network = str(given.get("encoder.network", encoder.get("network", "vit")))
        for dotted, size in _sizes(scale, network).items():
            _put(document, dotted, size, reader, only_existing=True)
    for short, value in given.items():
        dotted = short if "." in short or short in document else reader.full_name(short, _names(document))
        if dotted.partition(".")[0] in _WORDS:
            raise UsageError(f"{reader.file}: {dotted} is no constant.", "See corrkit pretrain RECIPE --show.")
        _put(document, dotted, Text(value) if isinstance(value, str) else value, reader)
    objective = reader.value(document.get("objective"), typing.Literal[tuple(OPTIONS)], "objective")
    named = {**document, "name": Path(name).stem if own else name}
    recipe: AnyRecipe = reader.read(Recipe, named, types_of={"options": OPTIONS[str(objective)]})
    _require_consistent(recipe, reader)
    return recipe


def _document(name: str) -> Mapping[str, Json]:
    """The TOML document of a recipe of corrkit."""
    if name not in recipe_names():
        raise UsageError(f"There is no recipe {name!r}.", closest(name, recipe_names()))
    return packaged(_ROOM, f"{_FOLDER}/{name}{_SUFFIX}")


def _own_document(name: str) -> Mapping[str, Json]:
    """That of a file of the user's own, or of the recipe that it extends."""
    if not name.endswith(_SUFFIX):
        return _document(name)
    try:
        document = parse_toml(regular_text(Path(name)))
    except (OSError, ValueError) as error:
        raise UsageError(f"{name} can't be read as a recipe ({error}).", "Correct the file.") from None
    parent = document.get("extends", "mae")
    if parent not in recipe_names():
        raise UsageError(f"{name} extends no recipe of corrkit: {parent!r}.", closest(str(parent), recipe_names()))
    return document


def _sizes(scale: str, network: str) -> dict[str, Json]:
    """A scale's constants: the common ones, whose encoder is a ViT, then those of another network's own table."""
    sizes = table_of(packaged(_ROOM, "scales.toml")[scale])
    own = {name: table for name, table in {"vit": {}, **sizes}.items() if isinstance(table, Mapping)}
    if network not in own:
        raise UsageError(f"There is no scale {scale!r} of {network}.", "Leave --scale out and set encoder.dim ...")
    return copy.deepcopy({**{name: value for name, value in sizes.items() if name not in own}, **own[network]})


def _names(document: Mapping[str, Json]) -> list[str]:
    """Dotted names of all constants, those of lists with their number."""
    hints = typing.get_type_hints(Recipe)
    tables = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    tables["options"] = OPTIONS.get(str(document.get("objective", "")), TargetOptions)
    for name, entries in document.items():
        if isinstance(entries, list) and name in hints:
            tables |= {f"{name}.{number}": typing.get_args(hints[name])[0] for number in range(len(entries))}
    return [f"{name}.{field.name}" for name, table in tables.items() for field in dataclasses.fields(table)]


def _put(document: object, dotted: str, value: object, reader: Reader, *, only_existing: bool = False) -> None:
    """Sets one leaf; with `only_existing`, tables and leaves that the recipe lacks are left alone."""
    head, _, rest = dotted.partition(".")
    if not isinstance(document, dict) or not head or dotted.endswith("."):
        raise UsageError(f"{reader.file} has no constant whose name ends with {dotted!r}.", "See RECIPE --show.")
    if isinstance(document.get(head), list) and rest:
        index, _, leaf = rest.partition(".")
        entries = document[head]
        numbers = range(len(entries)) if index == "*" else [int(index)] if index.isdecimal() else []
        if not only_existing and (not leaf or not numbers or max(numbers) >= len(entries)):
            raise UsageError(
                f"{reader.file}: there is no {dotted!r} among its {len(entries)} {head}.",
                f"Write {head}.0.NAME, or {head}.*.NAME for all.",
            )
        for number in numbers:
            _put(entries[number], leaf, value, reader, only_existing=only_existing)
    elif rest:
        if only_existing and head not in document:
            return
        _put(document.setdefault(head, {}), rest, value, reader, only_existing=only_existing)
    elif not only_existing or head in document:
        document[head] = value


def _require_consistent(recipe: AnyRecipe, reader: Reader) -> None:
    problems = [*_problems_of_views(recipe), *_problems_of_networks(recipe), *_problems_of_branches(recipe)]
    if problems:
        raise UsageError(f"{reader.file}: {'; '.join(problems)}.", "Correct the file, or the values given with --set.")


def _problems_of_views(recipe: AnyRecipe) -> list[str]:
    views, patch, tubelet = recipe.views, recipe.encoder.patch, recipe.encoder.tubelet
    sizes = (views.size, *views.sizes, *(own.size for own in recipe.image_views), views.local_size)
    problems = [f"views of {size} pixels are no multiple of patches of {patch}" for size in sizes if size % patch]
    for name in ("area", "aspect", "gap", "local_area"):
        pair = getattr(views, name)
        if len(pair) not in (0, 2) or list(pair) != sorted(pair) or (name.endswith("area") and pair[:1] == (0.0,)):
            problems.append(f"views.{name} is {list(pair)}, not [smallest, largest]")
    local = views.kind == "crops" or views.locals > 0
    return problems + _broken({
        f"views of kind {views.kind} need views.gap": views.kind in ("pair", "triple") and not views.gap,
        "local crops need views.local_area": local and not views.local_area,
        "local crops need views.local_size": views.locals > 0 and not views.local_size,
        "views.sizes need a share in views.until each": len(views.sizes) != len(views.until),
        "views.sizes need single images and positions that can be resampled":
            bool(views.sizes) and (views.kind != "single" or recipe.encoder.relative),
        f"{views.frames} frames are no multiple of tubelets of {tubelet}":
            any(own.frames % tubelet for own in (views, *recipe.image_views) if own.frames > 1),
    })  # fmt: skip


def _broken(rules: Mapping[str, bool]) -> list[str]:
    """The words of the rules that are broken."""
    return [words for words, is_broken in rules.items() if is_broken]


def _problems_of_networks(recipe: AnyRecipe) -> list[str]:
    encoder, problems = recipe.encoder, []
    named: dict[str, EncoderSpec | DecoderSpec] = {"encoder": encoder}
    named |= {f"decoders.{number}": spec for number, spec in enumerate(recipe.decoders)}
    for name, part in named.items():
        problems += _broken({
            f"{part.heads} heads don't divide the width {part.dim} ({name})": part.dim % part.heads > 0,
            f"{name}.dim is {part.dim}; its positions need a multiple of 4":
                part.position.startswith("sin") and part.dim % 4 > 0,
        })  # fmt: skip
    for number, spec in enumerate(recipe.decoders):
        problems += _broken({
            f"decoders.{number}.blocks is {spec.blocks!r}, not letters of c, s and m, v, or nothing":
                spec.blocks != "v" and bool(set(spec.blocks) - set("csm")),
            f"decoders.{number} has blocks but no dim or depth": spec.blocks != "" and 0 in (spec.dim, spec.depth),
            f"a decoder takes the class token of an encoder without one (decoders.{number}.cls=none)":
                spec.blocks != "" and spec.cls == "encoder" and not encoder.cls,
        })  # fmt: skip
    side = recipe.views.size // encoder.patch
    problems += [
        f"masks.cell of {rule.cell} doesn't divide the grid of {side}" for rule in recipe.masks if side % rule.cell
    ]
    return [*problems, *_problems_of_stages(recipe)]


def _problems_of_branches(recipe: AnyRecipe) -> list[str]:
    decoders, masks = _NEEDED.get(recipe.objective, (0, 0))
    problems = _broken({
        f"{recipe.objective} needs {decoders} decoders and {masks} masks":
            len(recipe.decoders) < decoders or len(recipe.masks) < masks,
        f"{recipe.objective} needs branches": recipe.objective in ("masked", "omnimae") and not recipe.branches,
    })  # fmt: skip
    for branch in recipe.branches:
        if max((branch.query, branch.cls_from, *branch.memory)) >= len(recipe.masks):
            problems.append(f"a branch names a view beyond the {len(recipe.masks)} masks")
        if branch.decoder >= len(recipe.decoders):
            problems.append(f"a branch names decoder {branch.decoder} of {len(recipe.decoders)}")
    return problems


def _problems_of_stages(recipe: AnyRecipe) -> list[str]:
    """What a network in stages can't do, in words."""
    spec = recipe.encoder
    stages, halvings = len(spec.widens), max(0, (spec.patch // 4).bit_length() - 1)
    plain = recipe.objective == "masked" and not spec.joint and spec.position == "none"
    mvit = (spec.patch, spec.hidden_tokens) == (4 << halvings, "replace") and spec.tubelet in (1, 2)
    fits = {
        "vit": stages == 0,
        "convnextv2": plain and (stages, spec.patch, spec.hidden_tokens, spec.cls) == (3, 32, "drop", False),
        "mvit": plain and mvit and halvings <= stages,
    }
    if fits[spec.network]:
        return []
    return [f"{spec.network} doesn't go with this patch, widens, hidden_tokens, cls, position, joint ..."]
