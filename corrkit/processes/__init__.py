"""Several processes on one run: shares of the clips, ranks of torchrun, workers."""
