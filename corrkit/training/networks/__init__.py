"""The networks that are trained: encoders, decoders, and which tokens they see."""
