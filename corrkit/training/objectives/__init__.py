"""The objectives by name; each is imported when a recipe asks for it."""

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from corrkit.training.schema import AnyRecipe

if TYPE_CHECKING:
    from corrkit.training.objectives.masked import AnyObjective

OBJECTIVES: Mapping[str, str] = MappingProxyType(
    {
        "masked": "corrkit.training.objectives.masked:MaskedPrediction",
        "bootmae": "corrkit.training.objectives.bootstrapping:BootMAE",
        "sdae": "corrkit.training.objectives.bootstrapping:SdAE",
        "dino": "corrkit.training.objectives.distillation:DINO",
        "ibot": "corrkit.training.objectives.distillation:IBOT",
        "rsp": "corrkit.training.objectives.rsp:RSP",
        "splitmask": "corrkit.training.objectives.splitmask:SplitMask",
        "omnimae": "corrkit.training.objectives.omnimae:OmniMAE",
        "siameseim": "corrkit.training.objectives.siameseim:SiameseIM",
    }
)
"""Name in a recipe to "module:class"."""


def make_objective(recipe: AnyRecipe) -> "AnyObjective":
    """The network that a recipe trains, freshly initialised from torch's global generator."""
    module, name = OBJECTIVES[recipe.objective].split(":")
    made: AnyObjective = getattr(importlib.import_module(module), name)(recipe)
    return made
