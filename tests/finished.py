"""Makes a finished run without Ray: its study, best configuration and summary."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from text_recognizer.data.digits import Digits
from tuning.callbacks.artifacts import Artifacts
from tuning.run.environment import environment
from tuning.run.folder import RunFolder, create_run
from tuning.run.options import Options
from tuning.run.reading import write_model, write_text
from tuning.run.resources import Slots
from tuning.space.reader import read_space
from tuning.study.optuna_record import create_record, set_attr
from tuning.study.search import Search
from tuning.study.storage import sqlite_url
from tuning.study.study import Study
from tuning.trials.trial import Epoch, Outcome
from tuning.tuner.export import write_result
from tuning.verification.fingerprint import fingerprint

SPACE = """
experiment: {data_class: Digits}
space:
  fc1: {type: int, low: 8, high: 64}
  optimizer: {type: categorical, choices: [Adam, SGD]}
  momentum: {type: float, low: 0.5, high: 0.95, when: {optimizer: SGD}}
search:
  trials: 2
  max_epochs: 4
  start_with: [{fc1: 24, optimizer: SGD, momentum: 0.9}, {fc1: 32, optimizer: Adam}]
"""
Curve = Callable[[dict[str, Any]], Sequence[Epoch]]  # the settings of a trial -> its epochs


def finished_run(folder: Path, database: Path, curve: Curve, space: str = SPACE) -> RunFolder:
    """`folder/runs/done`, whose trials had the epochs that `curve` gives.

    Args:
        database: a SQLite file with Optuna's tables, to be copied.
    """
    (folder / "space.yaml").write_text(space, encoding="utf-8")
    searched = read_space(folder / "space.yaml")
    run = create_run(folder / "runs", "done", "small")
    write_text(run.space, searched.as_yaml())
    shutil.copy(database, run.study)
    record = create_record(sqlite_url(run.study), searched, run.name)
    data = Digits().trainval
    set_attr(record, "fingerprint", fingerprint(searched, data))
    write_model(run.environment, environment())
    study = Study(record, searched, trials=searched.search.trials)
    study.begin_session()
    search = Search("small", searched, Options(keep=1), run, study, Slots(1, 1, 0.0), data)
    while trial := study.next_trial():
        for epoch in curve(searched.experiment | trial.params):
            study.record_epoch(trial.number, epoch)
        study.close(trial.number, Outcome.COMPLETE)
    write_text(run.best_checkpoint, "not looked at by the final script\n")
    write_result(search, Artifacts(search), study.ranked[0], "all trials are done")
    return run
