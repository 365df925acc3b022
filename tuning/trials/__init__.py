"""Trials as plain records, and what follows from them."""
