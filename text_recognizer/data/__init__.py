"""Data sets as tensors, one module each."""
