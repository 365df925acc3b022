"""Starts or resumes a search: checks the space, prepares data, folder and study, then runs it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from text_recognizer.data.util import BaseDataset
from text_recognizer.errors import InputError, Problem, RunError
from training.experiment import build_data
from training.settings import RUN_DEFAULTS
from tuning.callbacks import SearchConsole
from tuning.ray_backend import own_cluster
from tuning.run import (
    NewRun,
    Options,
    Resources,
    RunFolder,
    Slots,
    StorageUrl,
    Summary,
    create_run,
    create_shared,
    environment,
    find_shared,
    locked,
    open_run,
    point_latest,
    read_as_ours,
    read_existing,
    read_mark,
    read_run_space,
    write_model,
    write_text,
)
from tuning.space import SearchSpace
from tuning.study import (
    Search,
    Study,
    create_record,
    get_attr,
    open_study,
    reach,
    read_warm_start,
    set_attr,
    sqlite_url,
    write_storage_note,
)
from tuning.tuner.tuner import StartRay, Tuner
from tuning.verification import differences, fingerprint, preflight


def start(space: SearchSpace, options: Options, new: NewRun) -> int:
    """Run a new search. Returns the exit code.

    Raises:
        RecogniserError: text_recognizer/errors.py lists the kinds and their exit codes.
    """
    console = SearchConsole(quiet=options.quiet)
    # Cheap checks come first: names and corners, then room for a trial, then the data.
    preflight.check_space(space, preflight.usual_data(space))
    workers_folder = Path(options.checkpoint_dir or new.runs_dir)
    with find_slots(options, space.search.trials, console, workers_folder) as (slots, start_ray):
        space, data = preflight.prepare_data(space, new.data_dir, console.note)
        earlier: list[FrozenTrial] = []
        if new.warm_start:
            warm_start = read_warm_start(new.warm_start, space, RUN_DEFAULTS)
            earlier = warm_start.trials
            console.say(str(warm_start))
        # A database that does not answer is noticed before the run has a folder.
        url = StorageUrl.parse(new.storage) if new.storage else None
        if url:
            reach(url)
        os.umask(0o077)  # a run is its owner's; downloaded data has the user's own umask
        folder = create_run(new.runs_dir, new.name, new.space_name)
        with locked(folder):
            with remove_on_error(folder.path):
                write_text(folder.space, space.as_yaml())
                write_model(folder.environment, environment(preflight.gpu_names()))
                if options.checkpoint_dir:
                    folder = create_shared(folder, Path(options.checkpoint_dir))
                with remove_on_error(folder.shared):
                    storage = url.engine_url if url else sqlite_url(folder.study)
                    record = create_record(storage, space, folder.name, earlier, console.note)
            # Only now: `latest` must never lead to a run that was refused.
            point_latest(new.runs_dir, folder.name)
            if url:
                write_storage_note(folder, url, folder.name)
            set_attr(record, "fingerprint", fingerprint(space, data))
            set_attr(record, "options", asdict(options))
            set_attr(record, "space_name", new.space_name)
            if folder.shared:
                set_attr(record, "mark", read_mark(folder.shared))
            study = study_of(record, space, options)
            search = Search(new.space_name, space, options, folder, study, slots, data)
            return Tuner(search, console, start_ray).run()


def resume(
    path: Path, *, trials: int | None = None, storage: str | None = None, **changes: Any
) -> int:
    """Continue a run after any death of its driver, or extend one that has ended. Returns the exit
    code.

    Args:
        path: the run's folder.
        trials: how many trials the search is to have; None leaves the number as it was.
        storage: the run's database, as the user gives it.
        changes: options that are to be other than they were.

    Raises:
        InputError: there is no run, or it cannot have that many trials.
        RunError: the run is locked or damaged, or its space, code or data were changed.
    """
    os.umask(0o077)
    console = SearchConsole()
    folder = open_run(path)
    with locked(folder):
        with read_as_ours(folder.path):
            record = open_study(folder, storage, console.note)
            space = read_run_space(folder)
            options = replace(Options(**get_attr(record, "options")), **changes)
            console.quiet = options.quiet
            if options.checkpoint_dir:
                mark, shared = get_attr(record, "mark"), Path(options.checkpoint_dir)
                folder = find_shared(folder, shared, record.study_name, mark)
            study = study_of(record, space, options, trials)
            # Ray's own experiment state is never read: it is pickled, written every ten seconds,
            # and has no rungs. The study has everything that a search needs to go on.
            data = unchanged_data(space, get_attr(record, "fingerprint"), folder)
            check_trials(study, trials)
            name = str(get_attr(record, "space_name"))
        if not study.has_work():  # a resume with nothing to do changes no option
            set_attr(record, "trials", study.wanted)
            search = Search(name, space, options, folder, study, recorded_slots(folder), data)
            return Tuner(search, console, partial(own_cluster, preflight.machine())).run()
        slots = find_slots(options, study.wanted, console, folder.for_workers, resuming=True)
        with slots as (slots_now, start_ray):
            set_attr(record, "trials", study.wanted)
            set_attr(record, "options", asdict(options))
            search = Search(name, space, options, folder, study, slots_now, data)
            return Tuner(search, console, start_ray).run()


@contextmanager
def find_slots(
    options: Options, trials: int, console: SearchConsole, folder: Path, *, resuming: bool = False
) -> Iterator[tuple[Slots, StartRay]]:
    """How many trials run at once, and how Ray is started: on this machine, where nothing starts
    yet, or on the cluster at `--address`, which is joined within the block.

    Args:
        folder: what all workers write to. It is created where it is missing.

    Raises:
        InputError: no node can hold a trial, the cluster cannot be joined, or its nodes do not
            share the folder.
    """
    if not options.address:
        # Nothing starts here: Ray takes five seconds, and the data may still be refused.
        node = preflight.machine()
        start_ray = partial(own_cluster, node, dashboard=options.dashboard)
        yield options.slots([node], trials), start_ray
        return
    # Only a cluster needs these modules, and they take time to import.
    from tuning.ray_backend.remote_cluster import joined_cluster
    from tuning.ray_backend.shared_storage import check_shared

    console.tell(f"joining Ray at {options.address} …")
    with joined_cluster(options.address, console.note) as cluster:
        nodes = cluster.nodes()
        slots = options.slots(nodes, trials)
        cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
        plural = "s" * (len(nodes) != 1)
        console.tell(f"cluster   {len(nodes)} node{plural}, {cpus:g} CPUs, {gpus:g} GPUs")
        where = "--checkpoint-dir" if options.checkpoint_dir else "--runs-dir"
        hint = "Name a folder of a shared file system with --checkpoint-dir: one path on all nodes."
        if resuming:
            where, hint = "--address", "Mount it there under the same path, or leave --address out."
        check_shared(folder.resolve(), nodes, slots, where, hint)
        yield slots, lambda: nullcontext(cluster)


@contextmanager
def remove_on_error(folder: Path | None) -> Iterator[None]:
    """Remove a new folder if the run cannot be created."""
    try:
        yield
    except BaseException:  # Ctrl-C, too
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def study_of(
    record: optuna.Study, space: SearchSpace, options: Options, trials: int | None = None
) -> Study:
    """The study of a run, new or continued.

    Args:
        trials: how many it is to have; None means as many as before.
    """
    wanted = trials or int(get_attr(record, "trials", space.search.trials))
    stop = space.search.stop
    if options.time_budget:
        stop = stop.model_copy(update={"time": options.time_budget})
    return Study(record, space, trials=wanted, retries=options.retries, stop=stop)


def check_trials(study: Study, trials: int | None) -> None:
    """Raise `InputError` if the search cannot have that many trials."""
    begun = len(study.trials)
    if begun > study.wanted:
        rule = f"trials >= {begun}, the trials it has already"
        raise InputError(Problem("--trials", rule, str(study.wanted)))
    if trials and study.stop_reason and trials > begun:
        rule = "more trials for a search that no limit has ended"
        hint = "Begin a new one with --warm-start. If its time was up: --time-budget gives it more."
        raise InputError(Problem("--trials", rule, f"{trials}, and {study.stop_reason}", hint))


def unchanged_data(space: SearchSpace, recorded: dict[str, Any], folder: RunFolder) -> BaseDataset:
    """The run's data. Raises `RunError` with every change of space, code or data."""
    # The space first: if its data set was changed, the data is not the run's.
    lines = list(differences(recorded["space"], space.as_plain()))
    if not lines:
        data = build_data(space.experiment)
        data.prepare_data()
        lines = list(differences(recorded, fingerprint(space, data.trainval)))
        if not lines:
            return data.trainval
    text = "\n".join(lines)
    raise RunError(f"{folder.path}: the search space, its code or its data were changed:\n{text}")


def recorded_slots(folder: RunFolder) -> Slots:
    """The slots that a search had. One that has no work needs no others."""
    try:
        had = read_existing(folder.summary, Summary).resources
    except RunError:
        had = Resources()
    return Slots(had.slots, had.cpus_per_trial, had.gpus_per_trial)
