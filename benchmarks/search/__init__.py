"""Search policies on many tasks, by event simulation: `python -m benchmarks.search`."""
