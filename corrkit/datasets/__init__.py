"""Copies of the data sets: archives as data roots, checks, manifests, downloads. Nothing here writes into a data set."""
