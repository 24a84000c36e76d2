"""Checkpoints: bytes to tensors (`opening`), tensors to a system and a complete state dict."""
