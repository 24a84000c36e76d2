"""Whether this machine's float32 products depend on how they are cut into blocks."""

ROWS = (16, 64, 256)
CHANNELS = (64, 384, 768)


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
