"""J and F, mIoU, PCK as sufficient statistics; intervals and paired tests. Arrays in, numbers out, no files."""

VOID = 255
"""Pixels of an annotation that are nobody's: the score of each task says what they count as."""
