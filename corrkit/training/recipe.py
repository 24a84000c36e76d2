"""The only reader of recipe files: TOML in, a checked frozen `Recipe` out; scales and overrides by dotted name."""

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping
from importlib import resources
from typing import Any, Literal, get_args, get_origin

from corrkit.errors import UsageError, closest
from corrkit.training.schema import Recipe

_FOLDER = "recipes"


def recipe_names() -> list[str]:
    """Names of the recipes, sorted."""
    entries = (resources.files("corrkit.training") / _FOLDER).iterdir()
    return sorted(entry.name.removesuffix(".toml") for entry in entries if entry.name.endswith(".toml"))


def scale_names() -> list[str]:
    """Names of the scales: tiny and demo for tests, small to large as published."""
    return sorted(_scales())


def load_recipe(name: str, *, scale: str | None = None, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Reads a named recipe.

    Args:
        name: one of `recipe_names`.
        scale: one of `scale_names`, whose sizes replace the recipe's own.
        changes: dotted name to value, as text or of the right type: "masks.1.ratio", "encoder.patch", "views.gap".
            Where a table is a list, "branches.*.loss" changes all of its entries.

    Raises:
        UsageError: an unknown recipe, scale or name, or a value of the wrong type; names the nearest known ones.
    """
    document = _document(name)
    if scale is not None:
        if scale not in _scales():
            raise UsageError(f"There is no scale {scale!r}.", closest(scale, _scales()))
        network = str((changes or {}).get("encoder.network", document["encoder"].get("network", "vit")))
        for dotted, value in _sizes(scale, network).items():
            _put(document, dotted, value, only_existing=True)
    for dotted, value in (changes or {}).items():
        _put(document, dotted, value)
    recipe: Recipe = _read(Recipe, {**document, "name": name}, f"recipe {name}")
    _require_consistent(recipe)
    return recipe


def as_plain(recipe: Recipe) -> dict[str, Any]:
    """The recipe as nested dicts and lists, for checkpoints and run files."""
    return typing.cast(dict[str, Any], _plain(recipe))


def leaves(recipe: Recipe) -> list[tuple[str, Any]]:
    """Every constant by its dotted name, for printing."""

    def walk(value: Any, name: str) -> list[tuple[str, Any]]:
        nested = isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict) for item in value))
        if not nested:
            return [(name, value)]
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return [leaf for key, item in pairs for leaf in walk(item, f"{name}.{key}" if name else str(key))]

    return walk(as_plain(recipe), "")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _document(name: str) -> dict[str, Any]:
    """The TOML document with its parent merged in, table by table; lists of the child replace the parent's."""
    if name not in recipe_names():
        raise UsageError(f"There is no recipe {name!r}.", closest(name, recipe_names()))
    text = (resources.files("corrkit.training") / _FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    document = tomllib.loads(text)
    parent = document.pop("extends", None)
    if parent is None:
        return document
    merged = _document(parent)
    for key, value in document.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict) and key != "unverified"
        merged[key] = {**merged[key], **value} if both else value
    return merged


def _sizes(scale: str, network: str) -> dict[str, Any]:
    """A scale's constants: the common ones, whose encoder is a ViT, then those of another network's own table."""
    sizes = _scales()[scale]
    own = {name: table for name, table in {"vit": {}, **sizes}.items() if isinstance(table, dict)}
    if network not in own:
        raise UsageError(f"There is no scale {scale!r} of {network}.", "Leave --scale out and set encoder.dim ...")
    return {name: value for name, value in sizes.items() if name not in own} | own[network]


def _scales() -> dict[str, dict[str, Any]]:
    text = (resources.files("corrkit.training") / "scales.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _put(document: dict[str, Any], dotted: str, value: Any, *, only_existing: bool = False) -> None:
    """Sets one leaf; with `only_existing`, tables and leaves that the recipe lacks are left alone."""
    head, _, rest = dotted.partition(".")
    if isinstance(document.get(head), list) and rest:
        index, _, leaf = rest.partition(".")
        entries = document[head]
        chosen = (
            entries
            if index == "*"
            else [entries[int(index)]]
            if index.isdecimal() and int(index) < len(entries)
            else []
        )
        if not chosen and not only_existing:
            raise UsageError(f"{dotted}: the recipe has {len(entries)} {head}.", f"Write {head}.0.{leaf}.")
        for entry in chosen:
            _put(entry, leaf, value, only_existing=only_existing)
    elif rest:
        if only_existing and head not in document:
            return
        _put(document.setdefault(head, {}), rest, value, only_existing=only_existing)
    elif not only_existing or head in document:
        document[head] = value


def _read(cls: Any, table: Any, where: str) -> Any:
    fields = {field.name: field for field in dataclasses.fields(cls)}
    if not isinstance(table, Mapping):
        raise UsageError(f"{where} is {table!r}, not a table.", f"It must hold: {', '.join(fields)}.")
    for key in table:
        if key not in fields:
            raise UsageError(f"{where} has no constant named {key!r}.", closest(key, fields))
    absent = [
        name
        for name, field in fields.items()
        if name not in table and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if absent:
        raise UsageError(f"{where} lacks {', '.join(absent)}.", "Add them, or name a parent with extends.")
    hints = typing.get_type_hints(cls)
    return cls(**{key: _value(value, hints[key], f"{where} {key}") for key, value in table.items()})


def _value(value: Any, hint: Any, where: str) -> Any:
    origin = get_origin(hint)
    if origin is Literal:
        if value not in get_args(hint):
            raise UsageError(f"{where} is {value!r}.", f"Choose one of: {', '.join(map(str, get_args(hint)))}.")
        return value
    if dataclasses.is_dataclass(hint):
        return _read(hint, value, where)
    if origin is tuple:
        items = value.strip("[] ").split(",") if isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            raise UsageError(f"{where} is {value!r}, not a list.", "Write it as [a, b].")
        return tuple(
            _value(item, get_args(hint)[0], f"{where}.{index}") for index, item in enumerate(items) if item != ""
        )
    if origin is types.MappingProxyType:
        if not isinstance(value, Mapping):
            raise UsageError(f"{where} is {value!r}, not a table.", "Write name = value lines.")
        return types.MappingProxyType(dict(value))
    return _scalar(value, hint, where)


def _scalar(value: Any, hint: Any, where: str) -> Any:
    if isinstance(value, str) and hint is bool:
        value = {"true": True, "false": False}.get(value.lower(), value)
    elif isinstance(value, str) and hint in (int, float):
        try:
            value = hint(value)
        except ValueError:
            raise UsageError(f"{where} is {value!r}, not of type {hint.__name__}.", "Correct the value.") from None
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint:
        raise UsageError(f"{where} is {value!r}, not of type {hint.__name__}.", "Correct the value.")
    return value


def _require_consistent(recipe: Recipe) -> None:
    problems = []
    for size in (recipe.views.size, *recipe.views.sizes, *(views.size for views in recipe.image_views)):
        if size % recipe.encoder.patch:
            problems.append(f"views of {size} pixels are no multiple of patches of {recipe.encoder.patch}")
    if len(recipe.views.sizes) != len(recipe.views.until):
        problems.append("views.sizes need a share in views.until each")
    if recipe.views.sizes and (recipe.views.kind != "single" or recipe.encoder.relative):
        problems.append("views.sizes need single images and positions that can be resampled")
    if recipe.encoder.dim % recipe.encoder.heads:
        problems.append(f"{recipe.encoder.heads} heads don't divide the width {recipe.encoder.dim}")
    problems += _problems_of_stages(recipe)
    if not recipe.encoder.cls and any(spec.blocks and spec.cls == "encoder" for spec in recipe.decoders):
        problems.append("a decoder takes the encoder's class token, which there is none of (decoders.0.cls=none)")
    for branch in recipe.branches:
        if max((branch.query, branch.cls_from, *branch.memory)) >= len(recipe.masks):
            problems.append(f"a branch names a view beyond the {len(recipe.masks)} masks")
        if branch.decoder >= len(recipe.decoders):
            problems.append(f"a branch names decoder {branch.decoder} of {len(recipe.decoders)}")
    if problems:
        raise UsageError(f"Recipe {recipe.name}: {'; '.join(problems)}.", "Correct the values given with --set.")


def _problems_of_stages(recipe: Recipe) -> list[str]:
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
