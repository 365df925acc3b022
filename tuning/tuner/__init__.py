"""Checks, starts, resumes, runs and ends one search.

`start` is imported by its own name: it needs Ray, and `--check` must not wait for it.
"""

from tuning.tuner.check import check
