"""Predictors turn a clip (frames and first labels) into predictions."""
