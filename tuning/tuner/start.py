"""How a search begins, and how it is taken up again: preflight, data, run folder, study; then a
session works on it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import optuna

from text_recognizer.data.util import BaseDataset
from text_recognizer.errors import InputError, Problem, RunError, StorageError
from training.experiment import build_data
from training.settings import RUN_DEFAULTS
from tuning.callbacks.console import SearchConsole
from tuning.run.environment import environment
from tuning.run.folder import RunFolder, create_run, open_run, point_latest
from tuning.run.lock import locked
from tuning.run.options import Options
from tuning.run.reading import read_as_ours, write_model, write_text
from tuning.space.search_space import SearchSpace
from tuning.study.optuna_record import create_record, get_attr, open_study, read_run_space, set_attr
from tuning.study.storage import StorageUrl, reach, sqlite_url, write_storage_note
from tuning.study.study import Study
from tuning.study.warm_start import read_warm_start
from tuning.tuner.place import begin_shared, find_shared, mark_of, nowhere, place, resume_flags
from tuning.tuner.tuner import Tuner
from tuning.verification import preflight
from tuning.verification.fingerprint import differences, fingerprint


def search(
    space: SearchSpace,
    space_name: str,
    runs_dir: Path,
    options: Options,
    *,
    name: str | None = None,
    data_dir: str | None = None,
    warm_start: Path | None = None,
    storage: str | None = None,
) -> int:
    """Run a search from its beginning; returns the exit code.

    Args:
        space_name: what the run and its workers are called after.
        name: of the run; None means `space_name` and the time.
        data_dir: where data sets are; None means the usual place.
        warm_start: an older run whose results the sampler learns from.
        storage: a PostgreSQL database for the study; None keeps it in the run's folder.

    Raises:
        RecogniserError: see `text_recognizer.errors` for the ways in which this can fail.
    """
    data_dir = data_dir or space.experiment.get("data_dir")
    console = SearchConsole(quiet=options.quiet)
    shared = Path(options.checkpoint_dir) if options.checkpoint_dir else None
    named = check_names(space)
    with place(options, space.search.trials, console, shared or runs_dir) as here:
        data_class, note = prepare(space, named, data_dir)
        if note:
            console.note(note)
        space = with_data(space, data_class, data_dir)
        earlier = read_warm_start(warm_start, space, RUN_DEFAULTS) if warm_start else None
        data = build_data(space.experiment).trainval
        address = StorageUrl.parse(storage) if storage else None
        if address:
            reach(address)
        text = space.as_yaml()  # refused here where it has become too long to be read again
        # what a run writes is its owner's; downloaded data is as the user's umask has it
        os.umask(0o077)
        folder = create_run(runs_dir, name, space_name)
        with locked(folder):
            with remove_on_error(folder.path):
                folder = begin_shared(folder, shared) if shared else folder
            with remove_on_error(folder.path, folder.shared):
                url = address.engine_url if address else sqlite_url(folder.study)
                record = create_record(
                    url, space, folder.name, earlier.trials if earlier else (), console.note
                )
            point_latest(runs_dir, folder.name)
            write_text(folder.space, text)
            write_model(folder.environment, environment(preflight.gpu_names()))
            if address:
                write_storage_note(folder, address, folder.name)
            remember_all(record, folder, options, space, space_name, data)
            if earlier:
                console.say(str(earlier))
            study = Study(record, space, trials=space.search.trials, retries=options.retries)
            again = resume_flags(options)
            return Tuner(
                options, space_name, space, folder, study, console, here.slots, here.start, again
            ).go(data)


def remember_all(
    record: optuna.Study,
    folder: RunFolder,
    options: Options,
    space: SearchSpace,
    space_name: str,
    data: BaseDataset,
) -> None:
    """Keep with the study what a resume goes by."""
    set_attr(record, "fingerprint", fingerprint_of(space, data))
    set_attr(record, "options", asdict(options))
    set_attr(record, "space_name", space_name)
    if folder.shared:
        set_attr(record, "mark", mark_of(folder.shared))


@contextmanager
def remove_on_error(*folders: Path | None) -> Iterator[None]:
    """Where the run's name is taken elsewhere, or there is no place for it, nothing may look
    like a run of that name here.
    """
    try:
        yield
    except (InputError, RunError, StorageError):
        for folder in filter(None, folders):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def resume(
    path: Path, *, trials: int | None = None, storage: str | None = None, **changes: Any
) -> int:
    """Go on with a run after any death of its driver, or extend one that has ended; returns the
    exit code.

    Args:
        path: the run's folder.
        trials: how many trials the search is to have now; None leaves the number as it was.
        storage: the run's database again, where it takes a password to open it.
        changes: options that are to be other than they were.

    Raises:
        InputError: there is no run.
        RunError: it is locked, damaged, or its space, code or data were changed.
    """
    os.umask(0o077)
    folder = open_run(path)
    with locked(folder):
        with read_as_ours(folder.path):
            space = read_run_space(folder)
            console = SearchConsole()
            record = open_study(folder, storage, console.note)
            options = replace(Options(**get_attr(record, "options")), **changes)
            wanted = trials or int(get_attr(record, "trials", space.search.trials))
            console.quiet = options.quiet
            if options.checkpoint_dir:
                folder = find_shared(folder, Path(options.checkpoint_dir), record)
            stop = space.search.stop.model_copy(
                update={"time": options.time_budget} if options.time_budget else {}
            )
            study = Study(record, space, trials=wanted, retries=options.retries, stop=stop)
            if trials and study.stop_reason and trials > len(study.trials):
                rule = "more trials for a search that no limit has ended"
                more = (
                    "Give it more with --time-budget, or begin"
                    if "time budget" in study.stop_reason
                    else "Begin"
                )
                hint = f"{more} a new one with --warm-start."
                raise InputError(
                    Problem("--trials", rule, f"{trials}, and {study.stop_reason}", hint)
                )
            data = unchanged_data(space, get_attr(record, "fingerprint"), folder)
            if len(study.trials) > wanted:
                rule = f"trials >= {len(study.trials)}, the trials it has already"
                raise InputError(Problem("--trials", rule, str(wanted)))
        work = study.has_work()
        where = (
            place(options, wanted, console, folder.for_workers, resuming=True)
            if work
            else nullcontext(nowhere(folder))
        )
        with where as here:
            if work:  # a resume with nothing to do leaves nothing behind
                set_attr(record, "trials", wanted)
                set_attr(record, "options", asdict(options))
            space_name = str(get_attr(record, "space_name"))
            again = resume_flags(options)
            return Tuner(
                options, space_name, space, folder, study, console, here.slots, here.start, again
            ).go(data)


def unchanged_data(space: SearchSpace, recorded: dict[str, Any], folder: RunFolder) -> BaseDataset:
    """The run's data, after space, code and data proved to be what they were.

    Raises:
        RunError: with every difference, key by key.
    """
    lines = list(differences(recorded["space"], space.as_plain()))
    if not lines:
        settings = recorded["space"]["experiment"]
        preflight.prepare(settings["data_class"], settings.get("data_dir"))
        data = build_data(space.experiment).trainval
        lines = list(differences(recorded, fingerprint_of(space, data)))
    if lines:
        text = "\n".join(lines)
        raise RunError(
            f"{folder.path}: `what is searched, its code and its data are unchanged` must hold, "
            f"but:\n{text}"
        )
    return data


def fingerprint_of(space: SearchSpace, data: BaseDataset) -> dict[str, Any]:
    """The fingerprint of a space with its data written down."""
    model_class = str(space.experiment.get("model_class", RUN_DEFAULTS["model_class"]))
    return fingerprint(space.as_plain(), model_class, space.experiment["data_class"], data)


def check_names(space: SearchSpace) -> str:
    """Refuse what needs neither data nor a cluster; returns the data set that is named, or the
    usual one.
    """
    named = str(space.experiment.get("data_class", RUN_DEFAULTS["data_class"]))
    preflight.check_space(space, named)
    return named


def prepare(space: SearchSpace, named: str, data_dir: str | None) -> tuple[str, str]:
    """Get the data. Returns the data set's name and a note on its choice."""
    data_class, note = preflight.choose_data(space, data_dir)
    if data_class != named:
        preflight.check_space(space, data_class)
    return data_class, note


def with_data(space: SearchSpace, data_class: str, data_dir: str | None) -> SearchSpace:
    """The space with its data set written down, so that `search.yaml` says what was searched on."""
    chosen = {"data_class": data_class} | (
        {"data_dir": str(Path(data_dir).resolve())} if data_dir else {}
    )
    return replace(space, experiment=space.experiment | chosen)
