"""`search.py --check`: checks the space and prints the plan. Nothing is started or written."""

from training.settings import RUN_DEFAULTS
from tuning.callbacks import SearchConsole
from tuning.run import NewRun, Options, forecast
from tuning.space import SearchSpace
from tuning.study import read_warm_start
from tuning.verification import preflight


def check(space: SearchSpace, options: Options, new: NewRun) -> int:
    """Build every corner, then print what the search would do. Returns the exit code.

    Raises:
        InputError: with all problems of the space or of the request.
    """
    usual, *others = data_classes = preflight.possible_data(space, new.data_dir)
    search = space.search
    slots = options.slots([preflight.machine()], search.trials)
    for data_class in data_classes:
        preflight.check_space(space, data_class)
    data = usual + "".join(f" (else {other})" for other in others)
    weights = preflight.largest_network(space)
    console = SearchConsole()
    console.say(forecast.describe_search(search, search.trials, new.space_name, data, slots))
    for line in forecast.describe_plan(search, slots, weights, options.keep):
        console.say(line)
    for note in forecast.notes(search, search.trials, slots):
        console.note(note)
    if new.warm_start and not others:  # else it is not known which trials fit
        console.say(str(read_warm_start(new.warm_start, space, RUN_DEFAULTS)))
    console.say(
        f"in order: {sum(1 for _ in space.corners())} corners of the space were built; nothing was "
        "started"
    )
    return 0
