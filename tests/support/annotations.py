"""Where annotations say `Any`: by name, or by an alias that stands for it, in whatever module it was made."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

_ANY = ("typing", "Any")
Name = tuple[str, str]
"""A module and a name in it."""


def lines_with_any(package: Path) -> list[tuple[Path, int]]:
    """File and line of every annotation, alias, base class and cast of a package that names Any or an alias of it."""
    files = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(package.rglob("*.py"))}
    modules = {_module(path, package): tree for path, tree in files.items()}
    known = {module: dict(_imported(tree)) for module, tree in modules.items()}
    aliases = {(module, name): value for module, tree in modules.items() for name, value in _aliases(tree)}
    found: set[tuple[Path, int]] = set()
    for path, tree in files.items():
        module = _module(path, package)
        for node in (*_annotations(tree), *(value for _, value in _aliases(tree))):
            for name, line in _names(node):
                if _origin((module, name), known, aliases) == _ANY:
                    found.add((path, line))
    return sorted(found)


def _module(path: Path, package: Path) -> str:
    return ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")


def _imported(tree: ast.Module) -> Iterator[tuple[str, Name]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((alias.asname or alias.name, (node.module, alias.name)) for alias in node.names)


def _aliases(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Names of a module that are given a value and look like types."""
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            if "TypeAlias" in ast.unparse(node.annotation):
                yield node.target.id, node.value
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name.lstrip("_")[:1].isupper() and not name.isupper():
                yield name, node.value


def _annotations(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            yield node.annotation
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is not None:
            yield node.returns
        elif isinstance(node, ast.ClassDef):
            yield from node.bases
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "cast":
            yield node.args[0]


def _names(node: ast.expr) -> Iterator[tuple[str, int]]:
    """Names in an annotation, those in quotes too, each with its line."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            yield part.id, part.lineno
        elif isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value.strip().isascii():
            try:
                inner = ast.parse(part.value.strip(), mode="eval").body
            except SyntaxError:  # words of a Literal
                continue
            yield from ((name, part.lineno) for name, _ in _names(inner) if not isinstance(inner, ast.Constant))


def _origin(name: Name, known: Mapping[str, Mapping[str, Name]], aliases: Mapping[Name, ast.expr]) -> Name:
    """What a name stands for, through imports and aliases that are nothing but another name."""
    seen: set[Name] = set()
    while name not in seen:
        seen.add(name)
        module, word = name
        value = aliases.get(name)
        if isinstance(value, ast.Name):
            name = (module, value.id)
        elif value is None and word in known.get(module, {}):
            name = known[module][word]
    return name
