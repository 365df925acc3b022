"""Checks with the real classes: a space before a search, checkpoints after it."""

from tuning.verification.evaluation import Evaluation, evaluate
from tuning.verification.fingerprint import comparable, data_sum, differences, fingerprint
