"""Whether this machine's float32 results depend on how the work is divided."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

ROWS = (16, 64, 256)
CHANNELS = (64, 384, 768)
TOKENS, WIDTH = 300, 64  # of a head of attention


def products_are_bit_equal() -> bool:
    """True where blocks of query rows give the same bits as one product of all rows, for usual numbers of channels.

    Then scores don't depend on tile sizes and thread counts; elsewhere soft maps agree within 1e-6 except near ties.
    Takes a few milliseconds; uses a generator of its own.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    for channels in CHANNELS:
        queries = torch.randn(256, channels, generator=generator)
        keys = torch.randn(512, channels, generator=generator)
        whole = queries @ keys.T
        for rows in ROWS:
            blocks = torch.cat([block @ keys.T for block in queries.split(rows)])
            if not torch.equal(blocks, whole):
                return False
    return True


def stability() -> dict[str, bool]:
    """Whether results keep their bits over "tiles", "batches" and "threads": products, and layers of a transformer.

    Takes some ten milliseconds; uses a generator of its own, and leaves torch's threads as they were.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 6, TOKENS, WIDTH, generator=generator)
    together = _layers(tokens)
    singly = torch.cat([_layers(one) for one in tokens.split(1)])
    threads = torch.get_num_threads()
    try:
        by_threads = []
        for count in (1, max(2, threads)):
            torch.set_num_threads(count)
            by_threads.append(_layers(tokens))
    finally:
        torch.set_num_threads(threads)
    return {
        "tiles": products_are_bit_equal(),
        "batches": torch.equal(together, singly),
        "threads": torch.equal(*by_threads),
    }


def _layers(tokens: "Tensor") -> "Tensor":
    """A linear layer and attention over tokens [B, heads, N, C]."""
    import torch
    from torch.nn.functional import linear, scaled_dot_product_attention

    weight = torch.linspace(-1, 1, WIDTH * WIDTH).view(WIDTH, WIDTH)
    return scaled_dot_product_attention(linear(tokens, weight), tokens, tokens)
