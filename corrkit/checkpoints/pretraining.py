"""How a checkpoint was trained, where it says so itself."""

from collections.abc import Mapping

from corrkit.checkpoints.heads import entry
from corrkit.checkpoints.opening.inert import Tree


def pretraining(tree: Tree) -> str:
    """Recipe and step of a checkpoint of `corrkit pretrain`, "siammae, step 400"; "" for any other file."""
    if not isinstance(tree, Mapping) or "corrkit_pretrain" not in tree:
        return ""
    name, step = entry(tree, "recipe.name"), tree.get("step")
    if not isinstance(name, str):
        return ""
    return f"{name}, step {step}" if isinstance(step, int) else name
