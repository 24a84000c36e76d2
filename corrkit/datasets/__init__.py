"""Copies of data sets: archives as roots, checks, manifests, downloads. Nothing here writes into a data set."""
