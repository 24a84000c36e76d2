"""Label propagation: which context frames, matching (label-free), transport (feature-free), feedback."""

from corrkit.propagation.affinity import SparseAffinity, transport
from corrkit.propagation.contexts import Context
from corrkit.propagation.matching import Matcher, match
from corrkit.propagation.propagator import AHEAD, propagate

__all__ = ["AHEAD", "Context", "Matcher", "SparseAffinity", "match", "propagate", "transport"]
