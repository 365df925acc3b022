"""What a search space file may say, and how it is read into a `SearchSpace`."""

from tuning.space.durations import seconds_of, shown_duration
from tuning.space.owned_settings import OWNED_BY_SEARCH, SAME_FOR_ALL_TRIALS
from tuning.space.reader import parse_space, read_recorded_space, read_space
from tuning.space.schema import (
    MAX_PARAMETERS,
    PARAMETER,
    CategoricalParameter,
    FloatParameter,
    FrozenModel,
    IntParameter,
    Parameter,
    Real,
    SearchSettings,
    Stop,
)
from tuning.space.search_space import SearchSpace
from tuning.space.settings_list import SCHEMA_FILE, is_all_known
from tuning.space.strict_yaml import quotes_hint
