"""Swin's blocks as timm hasn't them. The module is imported where such a network is built, with timm."""

from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor
from torch.nn.functional import pad


class PaddedInFront(SwinTransformerBlock):
    """A block that is given whole windows; timm's own pads what it has shifted."""

    def _attn(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        rows, columns = self.window_size
        padded = pad(x, (0, 0, 0, -width % columns, 0, -height % rows))
        attended: Tensor = super()._attn(padded)  # type: ignore[no-untyped-call]
        return attended[:, :height, :width]
