"""The Optuna study where it is kept: made, opened, read as plain records."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from text_recognizer.errors import InputError, RunError
from text_recognizer.metrics import Mode
from tuning.run.folder import RunFolder
from tuning.space.reader import read_space
from tuning.space.search_space import SearchSpace
from tuning.study.storage import Say, open_storage, read_storage_note, storage_errors
from tuning.trials.trial import Epoch, Outcome, Trial

optuna.logging.set_verbosity(optuna.logging.WARNING)

# marks the trials of another run that the sampler learns from; they are none of this search's
EARLIER = "earlier_run"


def create_record(
    url: str,
    space: SearchSpace,
    name: str,
    earlier: Sequence[FrozenTrial] = (),
    on_wait: Say | None = None,
) -> optuna.Study:
    """A new study at `url` (`sqlite:///…`, `postgresql://…`) that begins with the space's
    `start_with` points.

    Args:
        earlier: trials of another run, marked with `EARLIER`; the search's own are numbered on from
            them.
        on_wait: see `open_storage`.

    Raises:
        StorageError: it cannot be written.
        RunError: there is a study of that name already.
    """
    direction = (
        optuna.study.StudyDirection.MAXIMIZE
        if space.search.objective.mode == "max"
        else optuna.study.StudyDirection.MINIMIZE
    )
    with storage_errors():
        try:
            record = optuna.create_study(
                storage=open_storage(url, on_wait), study_name=name, direction=direction
            )
        except optuna.exceptions.DuplicatedStudyError:
            raise RunError(
                f"{name}: `no study of that name in the storage` must hold. Choose another --name."
            ) from None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            record.set_metric_names([space.search.metric])
        record.set_user_attr("space", space.as_plain())
        record.add_trials(earlier)
        for point in space.search.start_with:  # more of them than trials wait for an extension
            record.enqueue_trial(point)
    return record


def load_record(url: str, name: str, on_wait: Say | None = None) -> optuna.Study:
    """The study called `name` at `url`. Raises `RunError` where there is none, `StorageError`
    where it cannot be read.
    """
    with storage_errors():
        try:
            return optuna.load_study(storage=open_storage(url, on_wait), study_name=name)
        except KeyError:
            raise RunError(
                f"{name}: `a study of that name in the storage` must hold, but there is none."
            ) from None


def open_record(folder: RunFolder) -> tuple[SearchSpace, optuna.Study]:
    """The search space and the study of a run that exists. Raises `RunError`, `StorageError`."""
    return read_run_space(folder), open_study(folder)


def read_run_space(folder: RunFolder) -> SearchSpace:
    """The space of a run. Raises `RunError` where it is missing, or was changed: we wrote it."""
    try:
        return read_space(folder.space)
    except InputError as error:
        raise RunError(f"{folder.space} was changed or is damaged:\n{error}") from None


def open_study(
    folder: RunFolder, storage: str | None = None, on_wait: Say | None = None
) -> optuna.Study:
    """The study of a run.

    Args:
        storage: the user's own words for its database.
        on_wait: see `open_storage`.

    Raises:
        RunError: it is missing or damaged.
        StorageError: it cannot be read.
        InputError: `storage` is not the run's.
    """
    url, name = read_storage_note(folder, storage)
    return load_record(url, name or only_study(folder, url), on_wait)


def only_study(folder: RunFolder, url: str) -> str:
    """The name of the study in a run's own file, whatever the folder is called now. Raises
    `RunError`.
    """
    with storage_errors():
        names = optuna.get_all_study_names(open_storage(url))
    if len(names) != 1:
        raise RunError(
            f"{folder.study}: `one study` must hold, but got {len(names)}. The run is damaged."
        )
    return names[0]


def set_attr(record: optuna.Study, key: str, value: Any) -> None:
    """Keep a plain value with the study. Raises `StorageError`."""
    with storage_errors():
        record.set_user_attr(key, value)


def get_attr(record: optuna.Study, key: str, default: Any = None) -> Any:
    """What was kept. Raises `RunError` where there is nothing and no default."""
    with storage_errors():
        found = record.user_attrs.get(key, default)
    if found is None:
        raise RunError(
            f"the study has no {key!r}: it was not made by a search of this project, or is damaged."
        )
    return found


def check_direction(record: optuna.Study, mode: Mode) -> None:
    """Optuna itself would not mind. Raises `RunError` where the study goes the other way than
    the search.
    """
    if record.direction.name[:3].lower() != mode:
        raise RunError(
            f"the study is damaged: `direction {mode}` must hold, but got "
            f"{record.direction.name.lower()}."
        )


def own_trials(record: optuna.Study, metric: str) -> list[Trial]:
    """The search's own trials, by number. Raises `RunError` where one is not as this project
    wrote it, `StorageError`.
    """
    with storage_errors():
        frozen = record.get_trials(deepcopy=False)
    return [trial_of(trial, metric) for trial in frozen if is_own(trial)]


def is_own(trial: FrozenTrial) -> bool:
    """Whether a trial was handed out by this search: not waiting to be, and none of another run."""
    return trial.state != TrialState.WAITING and EARLIER not in trial.user_attrs


def trial_of(frozen: FrozenTrial, metric: str) -> Trial:
    """Optuna's trial as a plain record. Raises `RunError` where it is not one that this project
    wrote.
    """
    attributes, values = frozen.user_attrs, frozen.intermediate_values
    try:
        epochs = [epoch_of(step, attributes[f"epoch:{step}"]) for step in sorted(values)]
        outcome = Outcome(attributes["outcome"]) if frozen.state.is_finished() else None
        # as text: NaN is NaN
        differing = [e for e in epochs if str(e.metrics[metric]) != str(values[e.epoch])]
        cause, failures = (
            str(attributes.get("cause", "")),
            tuple(map(str, attributes.get("failures", ()))),
        )
        trial = Trial(frozen.number, dict(frozen.params), tuple(epochs), outcome, cause, failures)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise RunError(
            f"the study is damaged: trial {frozen.number} has no sound {error}."
        ) from None
    if differing:
        epoch = differing[0]
        rule = f"trial {frozen.number}, epoch {epoch.epoch}: {metric} == {epoch.metrics[metric]}"
        raise RunError(f"the study is damaged: `{rule}` must hold, but got {values[epoch.epoch]}.")
    return trial


def epoch_to_plain(epoch: Epoch) -> dict[str, Any]:
    """JSON has no NaN and no infinity: those go as text, which `float` reads back."""
    metrics = {
        name: value if math.isfinite(value) else str(value) for name, value in epoch.metrics.items()
    }
    return {
        "metrics": metrics,
        "checkpoint": epoch.checkpoint,
        "sha256": epoch.sha256,
        "time": epoch.time,
        "gpu_seconds": epoch.gpu_seconds,
    }


def epoch_of(step: int, plain: dict[str, Any]) -> Epoch:
    """The inverse of `epoch_to_plain`."""
    metrics = {name: float(value) for name, value in plain["metrics"].items()}
    return Epoch(
        step, metrics, plain["checkpoint"], plain["sha256"], plain["time"], plain["gpu_seconds"]
    )
