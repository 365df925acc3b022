"""Checks, starts, resumes, runs and ends one search.

`start` and `resume` are imported by their own names: they need Ray, and `--check` must not wait
for it.
"""

from tuning.tuner.check import check
