"""Randomness as a function instead of a state. Imports nothing heavy."""

import hashlib


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed that is a function of `parts`, independent of the seeds of other parts."""
    # Python's own `hash` of a text differs in each process.
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1
