"""Trials, the driver, Ray's processes and all at once are killed (SIGKILL) at random, again and
again. The search must end with the same trials as an undisturbed one.
"""

from __future__ import annotations

import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.formula import check, measured, space_in
from tests.processes import Command
from text_recognizer.metrics import Objective
from tuning.study.optuna_record import load_record
from tuning.study.storage import sqlite_url
from tuning.study.study import Study
from tuning.trials.trial import ranking

SEED = 7
KILLED = ("trial", "driver", "raylet", "gcs_server", "all")  # in turn


def begin(folder: Path, trials: int) -> Command:
    return Command(["-m", "tests.faults.drive", str(folder), str(trials)], folder)


def study_of(folder: Path, trials: int) -> Study:
    return Study(
        load_record(sqlite_url(folder / "study.db"), folder.name), space_in(folder), trials=trials
    )


def progress(folder: Path) -> int:
    """Epochs that trials acknowledged so far."""
    return sum(path.read_text().count("\n") for path in folder.glob("acknowledged-*"))


def wait_for_progress(folder: Path, least: int, driver: Command) -> None:
    """Until so many epochs are acknowledged, or the search has ended."""
    while progress(folder) < least and driver.process.poll() is None:
        time.sleep(0.01)  # between two looks at what is written


def processes(driver: Command, name: str) -> list[psutil.Process]:
    """Those of the search with a name that begins so, as soon as there are any."""
    while driver.process.poll() is None:
        found = []
        for process in driver.family():
            with suppress(psutil.NoSuchProcess):  # it ended while its name was read
                found += [process] * process.name().startswith(name)
        if found:
            return found
    raise AssertionError(f"no {name} was there to be killed")


def kill(driver: Command, what: str, search: str) -> bool:
    """Kill a part of a search, and wait for the driver's end if it cannot live without it. Returns
    whether it has ended.
    """
    # Ray calls the worker of the one slot after the search.
    names = {"trial": f"ray::{search}", "driver": "", "all": ""}
    found = processes(driver, names.get(what, what))
    for process in found[:1] if what == "driver" else found:  # the driver is the first
        with suppress(psutil.NoSuchProcess):
            process.kill()
    if what == "trial":
        return False
    code = driver.end()
    assert code == (-signal.SIGKILL if what in names else 6), f"{what}: {driver.errors}"
    return True


@pytest.mark.slow
@pytest.mark.parametrize(("kills", "trials"), [(5, 24), (30, 120)])
def test_a_search_killed_at_random_ends_like_one_that_was_not(
    kills: int, trials: int, tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    undisturbed = begin(whole, trials)
    assert undisturbed.end() == 0, undisturbed.errors
    step = progress(whole) // (kills + 1)

    driver = begin(cut, trials)
    for number in range(kills):
        wait_for_progress(cut, (number + 1) * step, driver)
        # the moment of the fault: anywhere within an epoch or two
        time.sleep(chance.uniform(0, 0.1))
        assert driver.process.poll() is None, "it is cut in its middle"
        if kill(driver, KILLED[number % len(KILLED)], cut.name):
            check(study_of(cut, trials), cut, ended=False)
            driver = begin(cut, trials)
    assert driver.end() == 0, driver.errors

    found, expected = study_of(cut, trials), study_of(whole, trials)
    check(found, cut)
    print(f"{kills} kills, {progress(cut)} acknowledged epochs, none lost")
    # A worker that is killed between two trials may fail none.
    assert sum(len(trial.failures) for trial in found.trials) > kills // 10
    assert measured(found.trials) == measured(expected.trials)
    best, wanted = (
        ranking(study.trials, Objective("val_acc", "max"))[0] for study in (found, expected)
    )
    assert (best.trial.number, best.epoch.epoch, best.value) == (
        wanted.trial.number,
        wanted.epoch.epoch,
        wanted.value,
    )
