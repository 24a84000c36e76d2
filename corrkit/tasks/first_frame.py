"""What predictions of the first frame tell: its labels are given, so that they should be found again there."""

import numpy as np

from corrkit.metrics.keypoints import figure_size, lengths
from corrkit.palette import VOID
from corrkit.tasks.contract import Notes
from corrkit.tasks.jhmdb_points import Points
from corrkit.tasks.masks import Mask

DIFFERS = (
    "the labels of the first frame, which are given, are not found again in its prediction: ids, order, size or scale "
    "of the predictions may be others"
)
_FOUND = 0.5
"""Share of the given labels, below which a prediction of the first frame is another thing than a coarse copy."""
_NEAR = 0.5
"""Of the figure's size: PCK's widest threshold."""
_SAME_FORM = 0.02
"""Of the figure's size: the largest distance that a mere change of scale leaves."""


def mask_notes(prediction: Mask, given: Mask) -> Notes:
    """A note where most labelled pixels of `given` [H, W] have another id in the first frame's prediction [H, W]."""
    labelled = (given > 0) & (given != VOID)
    if prediction.shape != given.shape or not labelled.any():
        return []
    share = float((prediction[labelled] == given[labelled]).mean())
    return [(DIFFERS, f"{share:.0%} of the labelled pixels")] if share < _FOUND else []


@np.errstate(over="ignore", invalid="ignore")  # joints that are infinitely far away
def joint_notes(prediction: Points, given: Points) -> Notes:
    """A note where most joints of the first frame's prediction [J, 2] lie far from the given ones [J, 2]."""
    size = figure_size(given[None], np.full((1, len(given)), True), floor="always")[0]
    apart = lengths(prediction - given)
    found = ~np.isnan(apart)
    if not found.any() or (apart[found] <= _NEAR * size).mean() >= _FOUND:
        return []
    shown, true = prediction[found], given[found]
    scale = (shown * true).sum(axis=0) / np.maximum((true**2).sum(axis=0), 1e-9)  # of x and y, least squares
    rest = np.abs(shown - scale * true).max()
    if rest <= _SAME_FORM * size * max(scale.max(), 1e-9):
        return [(DIFFERS, f"x is {scale[0]:.3g} and y {scale[1]:.3g} times what is given")]
    return [(DIFFERS, f"joints are {np.median(apart[found]):.0f} pixels apart")]
