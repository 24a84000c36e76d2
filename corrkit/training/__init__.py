"""Thin pre-training of SiamMAE and its relatives: recipes as data, one loop, checkpoints that `corrkit eval` reads."""
