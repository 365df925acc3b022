"""What follows a search while it runs: console, TensorBoard, the run's files, retention."""

from tuning.callbacks.artifacts import Artifacts
from tuning.callbacks.console import SearchConsole, TrialTable, tally
from tuning.callbacks.retention import Retention
from tuning.callbacks.tensorboard import Curves
