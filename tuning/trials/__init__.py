"""Trials as plain records, and pure functions of them."""

from tuning.trials.promotion import Promotion, explores
from tuning.trials.stopping import limit_reached, seconds_worked
from tuning.trials.table import plus_minus, score, short, trials_table
from tuning.trials.trial import (
    ENDINGS,
    RANKED,
    RUNNING,
    WAITING,
    Best,
    Epoch,
    Outcome,
    Trial,
    ahead,
    counts,
    epochs_saved,
    epochs_trained,
    ranking,
    reranked,
)
from tuning.trials.waiting_list import WaitingList
