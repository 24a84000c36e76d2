"""Anybody's own video: labels of one frame carried through it, frame by frame, by the protocols' own propagation."""
