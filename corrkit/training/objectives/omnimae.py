"""OmniMAE: one masked autoencoder of images and videos."""

from torch import Tensor

from corrkit.training.networks.masks import Mask
from corrkit.training.objectives.masked import MaskedPrediction
from corrkit.training.schema import TargetOptions


class OmniMAE(MaskedPrediction[TargetOptions]):
    """Batches of clips, hidden by the first mask, or of images, by the second: facebookresearch/omnivore 1d55abd.

    An image is a clip that fills one tubelet with equal frames, and has the positions of the first slice of time.
    """

    def draw_masks(self, pixels: Tensor, seed: int) -> list[Mask | None]:
        """The mask of the kind that `pixels` are."""
        clips, images = super().draw_masks(pixels, seed)
        return [images if self.encoder.grid_of(pixels)[0] == 1 else clips]
