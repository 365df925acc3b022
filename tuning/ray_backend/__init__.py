"""All of the driver that imports Ray.

Ray reads some of its settings when it is imported, so this file sets them first. `remote_cluster`
and `shared_storage` are imported by their own names: only a search on a cluster needs them.
"""

import os

os.environ.update(
    RAY_USAGE_STATS_ENABLED="0",
    RAY_AUTH_MODE="token",  # the dashboard and the job API ask for the token in ~/.ray
    # keeps 127.0.0.1 as the node's address, so that its agents listen there only
    RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
    # else the driver waits for workers that Tune does not use; `StartWatch` waits for Tune's
    RAY_prestart_worker_first_driver="0",
    RAY_CHDIR_TO_TRIAL_DIR="0",
    RAY_AIR_NEW_OUTPUT="0",  # the other output prints a box even when told to be silent
    TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
    TUNE_DISABLE_SIGINT_HANDLER="1",
    # a slow teardown must not fail the next trial; one that hangs ends its process
    TUNE_FUNCTION_THREAD_TIMEOUT_S="86400",
    TUNE_GLOBAL_CHECKPOINT_S="86400",  # Tune's own state is never read
    TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S="0",
)

from tuning.ray_backend.private import ensure_home

ensure_home()

from tuning.ray_backend.ending import LastWords
from tuning.ray_backend.local_cluster import Cluster, own_cluster
from tuning.ray_backend.signals import Interruptions
from tuning.ray_backend.tasks import run_tasks
from tuning.ray_backend.tune_run import run_trials
