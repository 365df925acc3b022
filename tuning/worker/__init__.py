"""What runs in a Ray worker.

`trainable` and `training_task` are imported by their own names: they need torch, and a formula
stands in for training where training is not the point.
"""

from tuning.worker.guard import (
    DISK_ERRORS,
    describe_error,
    describe_hang,
    last_lines,
    log_name,
    logged_cause,
    stall_log,
    trial_log,
    write_failure,
)
