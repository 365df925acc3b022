"""Resumes a search after any death of its process, or extends one that has ended."""

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import optuna

from text_recognizer.data.base_data_module import find_data_dir
from text_recognizer.data.util import BaseDataset
from text_recognizer.errors import DataError, InputError, Problem, RunError, ensure
from training.experiment import build_data
from tuning.callbacks import SearchConsole
from tuning.run import (
    Node,
    Options,
    Resources,
    RunFolder,
    Slots,
    Summary,
    find_shared,
    locked,
    open_run,
    plain_name,
    read_as_ours,
    read_existing,
    read_run_space,
    write_text,
)
from tuning.space import SearchSpace, seconds_of
from tuning.study import Search, Study, get_attr, open_study, set_attr
from tuning.trials import epochs_trained
from tuning.tuner.start import find_slots, own_ray, study_of
from tuning.tuner.tuner import StartRay, Tuner
from tuning.verification import comparable, differences, fingerprint


def resume(
    path: Path,
    *,
    epochs: int | None = None,
    trials: int | None = None,
    storage: str | None = None,
    data_dir: str | None = None,
    **changes: Any,
) -> int:
    """Continue a run after any death of its driver, or extend it. Returns the exit code.

    Args:
        path: the run's folder.
        epochs: of all trials together; None leaves the limit, or raises it as `trials` is raised.
        trials: how many trials the search may have; None leaves the number as it was.
        storage: the run's database, as the user gives it.
        data_dir: where the run's data is now; None leaves it where it was.
        changes: options that are to be other than they were.

    Raises:
        InputError: there is no run, or it cannot have that many trials.
        RunError: the run is locked or damaged, or its space, code or data were changed.
    """
    os.umask(0o077)
    console = SearchConsole()
    folder = open_run(path)
    extended = epochs or trials or changes.get("time_budget")
    with locked(folder):
        with read_as_ours(folder.path):
            record = open_study(folder, storage, console.note)
            space = moved_data(read_run_space(folder), data_dir)
            options = replace(Options(**get_attr(record, "options")), **changes)
            console.quiet = options.quiet
            folder = with_shared(folder, record, options)
            study = study_of(record, space, options, trials, epochs)
            # Ray's own state, a pickle without rungs, is never read: the study has everything.
            data = unchanged_data(space, get_attr(record, "fingerprint"), folder)
            check_limits(study, epochs, trials, changes.get("time_budget"))
            name = plain_name(str(get_attr(record, "space_name")))
        with slots_for(study, options, folder, console) as (slots, start_ray):
            record_changes(study, options, carry_over=bool(extended))
            if data_dir:
                write_text(folder.space, space.as_yaml())
            search = Search(name, space, options, folder, study, slots, data)
            return Tuner(search, console, start_ray).run()


def record_changes(study: Study, options: Options, *, carry_over: bool) -> None:
    """Store the limits and options that the search has now, for the next resume."""
    if carry_over:
        study.carry_over()
    set_attr(study.record, "trials", study.wanted)
    if study.stop.epochs:
        set_attr(study.record, "epochs", study.stop.epochs)
    if study.has_work():  # a resume with nothing to do changes no option
        set_attr(study.record, "options", asdict(options))


def slots_for(
    study: Study, options: Options, folder: RunFolder, console: SearchConsole
) -> AbstractContextManager[tuple[Slots, StartRay]]:
    """What `find_slots` finds. A search that has nothing to do needs no room."""
    if study.has_work():
        return find_slots(options, study.wanted, console, folder.for_workers, resuming=True)
    return nullcontext((recorded_slots(folder), own_ray(Node(1, 0), options)))


def moved_data(space: SearchSpace, data_dir: str | None) -> SearchSpace:
    """The space, with the folder where its data is now. Raises `InputError`."""
    if data_dir is None:
        return space
    ensure("--data-dir", "the path of a folder", data_dir, bool(data_dir))
    return replace(space, experiment=space.experiment | {"data_dir": str(find_data_dir(data_dir))})


def with_shared(folder: RunFolder, record: optuna.Study, options: Options) -> RunFolder:
    """The run's folder with the one that its workers write to.

    Raises:
        InputError: --checkpoint-dir was given for a run without such a folder.
        RunError: the folder is missing or another one.
    """
    if not options.checkpoint_dir:
        return folder
    mark = str(get_attr(record, "mark", ""))
    if not mark:
        raise InputError(
            f"--checkpoint-dir: the checkpoints of {folder.name} are in its folder. Leave it out."
        )
    return find_shared(folder, Path(options.checkpoint_dir), record.study_name, mark)


def unchanged_data(space: SearchSpace, recorded: dict[str, Any], folder: RunFolder) -> BaseDataset:
    """The run's data. Raises `RunError` with every change of space, code or data."""
    # The space first: if its data set was changed, the data is not the run's.
    recorded = recorded | {"space": comparable(recorded["space"])}
    lines = list(differences(recorded["space"], comparable(space.as_plain())))
    if not lines:
        data = build_data(space.experiment)
        try:
            data.prepare_data()
        except DataError as error:
            raise DataError(
                error.what, "If it was moved, say where it is: --data-dir DIR."
            ) from None
        lines = list(differences(recorded, fingerprint(space, data.trainval)))
        if not lines:
            return data.trainval
    text = "\n".join(lines)
    raise RunError(f"{folder.path}: the search space, its code or its data were changed:\n{text}")


def check_limits(study: Study, epochs: int | None, trials: int | None, budget: str | None) -> None:
    """Raise `InputError` if the search cannot have that many epochs or trials, or that time."""
    # It would end at once, and with it the trials that wait to go on.
    if budget and study.has_work() and study.seconds >= seconds_of(budget):
        rule = f"more than {study.seconds:.0f}s, which the search has worked already"
        raise InputError(Problem("--time-budget", rule, budget))
    begun = len(study.trials)
    if begun > study.wanted:
        rule = f"trials >= {begun}, the trials it has already"
        raise InputError(Problem("--trials", rule, str(study.wanted)))
    trained, limit = epochs_trained(study.trials), study.stop.epochs
    if epochs and trained >= epochs:
        rule = f"more than {trained}, which the search has trained already"
        raise InputError(Problem("--epochs", rule, str(epochs)))
    for name, more in (("epochs", epochs), ("trials", trials)):
        if more and study.stop_reason and (name == "epochs" or more > begun):
            rule = f"more {name} for a search that no limit has ended"
            # The other limits are part of the space.
            hint = "Begin a new one with --warm-start."
            if study.stop.time and "time" in study.stop_reason:
                hint = "Give it more time, too: --time-budget T."
            elif limit and trained >= limit:
                hint = "Give it more epochs, too: --epochs N."
            raise InputError(Problem(f"--{name}", rule, f"{more}, and {study.stop_reason}", hint))


def recorded_slots(folder: RunFolder) -> Slots:
    """The slots that a search had. One that has no work needs no others."""
    try:
        had = read_existing(folder.summary, Summary).resources
    except RunError:
        had = Resources()
    return Slots(had.slots, had.cpus_per_trial, had.gpus_per_trial)
