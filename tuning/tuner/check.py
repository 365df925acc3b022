"""`search.py --check`: the whole preflight, then the plan; nothing is started, downloaded or
written.
"""

from __future__ import annotations

from pathlib import Path

from training.settings import RUN_DEFAULTS
from tuning.callbacks.console import SearchConsole
from tuning.run import forecast
from tuning.run.options import Options
from tuning.space.search_space import SearchSpace
from tuning.study.warm_start import read_warm_start
from tuning.verification import preflight


def check(
    space: SearchSpace, space_name: str, options: Options, warm_start: Path | None = None
) -> int:
    """Build every corner, then print what the search would do. Returns the exit code.

    Args:
        warm_start: an older run; how many of its trials fit is said where the space names its data
            set.

    Raises:
        InputError: with what is wrong with the space or the request.
    """
    named, usual = space.experiment.get("data_class"), RUN_DEFAULTS["data_class"]
    slots = options.slots([preflight.machine()], space.search.trials)
    for data_class in (named,) if named else (usual, preflight.FALLBACK_DATA):
        preflight.check_space(space, data_class)
    data = named or f"{usual} (else {preflight.FALLBACK_DATA})"
    weights = preflight.largest_network(space, named or usual)
    console = SearchConsole()
    trials = space.search.trials
    console.say(forecast.describe_search(space.search, trials, space_name, data, slots))
    for line in forecast.describe_plan(space.search, slots, weights, options.keep):
        console.say(line)
    for note in forecast.notes(space.search, trials, slots):
        console.note(note)
    if warm_start and named:
        console.say(str(read_warm_start(warm_start, space, RUN_DEFAULTS)))
    console.say(
        f"in order: {sum(1 for _ in space.corners())} corners of the space were built; nothing "
        "was started"
    )
    return 0
