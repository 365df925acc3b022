"""Starts a search: checks the space, prepares data, folder and study, then runs it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict
from functools import partial
from math import ceil
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from text_recognizer.errors import StorageError
from training.settings import RUN_DEFAULTS
from tuning.callbacks import SearchConsole
from tuning.ray_backend import Cluster, LastWords, own_cluster
from tuning.run import (
    NewRun,
    Node,
    Options,
    Slots,
    StorageUrl,
    create_run,
    create_shared,
    environment,
    locked,
    point_latest,
    read_mark,
    unpoint_latest,
    write_model,
    write_text,
)
from tuning.space import SearchSpace
from tuning.study import (
    Search,
    Study,
    create_record,
    delete_record,
    get_attr,
    reach,
    read_warm_start,
    set_attr,
    sqlite_url,
    write_storage_note,
)
from tuning.tuner.tuner import StartRay, Tuner
from tuning.verification import fingerprint, preflight


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
        earlier = earlier_trials(new.warm_start, space, console)
        # A database that does not answer is noticed before the run has a folder.
        url = StorageUrl.parse(new.storage) if new.storage else None
        if url:
            reach(url)
        os.umask(0o077)  # a run is its owner's; downloaded data has the user's own umask
        folder = create_run(new.runs_dir, new.name, new.space_name)
        with ExitStack() as until:
            with remove_on_error(folder.path):
                until.enter_context(locked(folder))
                write_text(folder.space, space.as_yaml())
                write_model(folder.environment, environment(preflight.gpu_names()))
                if options.checkpoint_dir:
                    folder = create_shared(folder, Path(options.checkpoint_dir))
                with remove_on_error(folder.shared):
                    if url:  # first: a study that no folder names would be lost
                        write_storage_note(folder, url, folder.name)
                    storage = url.engine_url if url else sqlite_url(folder.study)
                    record = create_record(storage, space, folder.name, earlier, console.note)
            set_attr(record, "fingerprint", fingerprint(space, data))
            set_attr(record, "options", asdict(options))
            set_attr(record, "space_name", new.space_name)
            if folder.shared:
                set_attr(record, "mark", read_mark(folder.shared))
            study = study_of(record, space, options)
            search = Search(new.space_name, space, options, folder, study, slots, data)
            # `latest` must never lead to a run that was refused.
            started = pointing_latest(start_ray, new.runs_dir, folder.name)
            return Tuner(search, console, started, partial(discard, search, new.runs_dir)).run()


def earlier_trials(
    run: Path | None, space: SearchSpace, console: SearchConsole
) -> list[FrozenTrial]:
    """The trials of an older run that the sampler learns from."""
    if not run:
        return []
    warm_start = read_warm_start(run, space, RUN_DEFAULTS)
    console.say(str(warm_start))
    return warm_start.trials


def pointing_latest(start_ray: StartRay, runs_dir: Path, name: str) -> StartRay:
    """Point `runs/latest` to a run once its Ray has started."""

    @contextmanager
    def started(last_words: LastWords) -> Iterator[Cluster]:
        with start_ray(last_words) as cluster:
            point_latest(runs_dir, name)
            yield cluster

    return started


def discard(search: Search, runs_dir: Path) -> None:
    """Remove a new run that has trained nothing."""
    folder = search.folder
    with suppress(StorageError):
        if folder.storage.exists():
            delete_record(search.study.record)
    for path in filter(None, (folder.path, folder.shared)):
        shutil.rmtree(path, ignore_errors=True)
    unpoint_latest(runs_dir, folder.name)  # after it: the newest run that is left is taken


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
        yield options.slots([node], trials), own_ray(node, options)
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
        yield slots, lambda _: nullcontext(cluster)


def own_ray(machine: Node, options: Options) -> StartRay:
    """Starts a Ray on this machine."""
    return lambda last_words: own_cluster(
        machine, dashboard=options.dashboard, last_words=last_words
    )


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
    record: optuna.Study,
    space: SearchSpace,
    options: Options,
    trials: int | None = None,
    epochs: int | None = None,
) -> Study:
    """The study of a run, new or continued.

    Args:
        trials: how many it may have; None means as many as before.
        epochs: of all trials together; None means as many as before, for each of the trials.
    """
    had = int(get_attr(record, "trials", space.search.trials))
    wanted = trials or had
    stop = space.search.stop
    if stop.epochs or epochs:
        limit = int(get_attr(record, "epochs", stop.epochs or epochs))
        stop = stop.model_copy(update={"epochs": epochs or ceil(limit * max(1, wanted / had))})
    if options.time_budget:
        stop = stop.model_copy(update={"time": options.time_budget})
    return Study(record, space, trials=wanted, retries=options.retries, stop=stop)
