"""Proofs with the real classes, before a search and after it."""
