"""The durable record of a search: one Optuna study."""

from tuning.study.epoch_sampler import STARTUP
from tuning.study.learning_curves import running_best
from tuning.study.optuna_record import (
    check_direction,
    create_record,
    delete_record,
    get_attr,
    open_study,
    own_trials,
    set_attr,
)
from tuning.study.samplers import distribution_of
from tuning.study.search import Search
from tuning.study.storage import noted_url, reach, sqlite_url, write_storage_note
from tuning.study.study import Study
from tuning.study.surrogate import Observation, Surrogate
from tuning.study.unit_cube import UnitCube
from tuning.study.warm_start import read_warm_start
