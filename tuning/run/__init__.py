"""One run: its options, slots, folder, lock and files."""

from tuning.run.environment import environment
from tuning.run.files import (
    WORST,
    Baseline,
    BestTrial,
    Candidate,
    Environment,
    FinalMetrics,
    Resources,
    StorageNote,
    Summary,
    TrainedOn,
    Validation,
    WorstImage,
)
from tuning.run.folder import (
    RunFolder,
    create_run,
    name_problem,
    open_run,
    plain_name,
    point_latest,
    unpoint_latest,
)
from tuning.run.forecast import describe_search, notes, time_left, waiting_kept
from tuning.run.listing import (
    RunInfo,
    all_runs,
    changed_results,
    current_summary,
    read_run_info,
    read_run_space,
)
from tuning.run.lock import locked
from tuning.run.options import NewRun, Options
from tuning.run.reading import (
    Model,
    make_folder,
    read_as_ours,
    read_existing,
    read_model,
    read_whole,
    unwritable,
    write_bytes,
    write_model,
    write_text,
)
from tuning.run.resources import Node, Slots, request_problems, room
from tuning.run.shared_folder import create_shared, find_shared, read_mark
from tuning.run.storage_url import StorageUrl
