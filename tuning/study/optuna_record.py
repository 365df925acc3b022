"""The Optuna study in its storage: created, opened, and read as plain records."""

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from text_recognizer.errors import RunError
from text_recognizer.metrics import Objective
from tuning.run import RunFolder
from tuning.space import SearchSpace
from tuning.study.storage import Say, open_storage, read_storage_note, storage_errors
from tuning.trials import Epoch, Outcome, Trial, seconds_worked

EARLIER = "earlier_run"  # marks a trial of another run, from which the sampler learns
CONTINUES = "continues"  # marks a trial that goes on with an ended one, and takes its number


def create_record(
    url: str,
    space: SearchSpace,
    name: str,
    earlier: Sequence[FrozenTrial] = (),
    on_wait: Say | None = None,
) -> optuna.Study:
    """Create a study that begins with the space's `start_with` points.

    Args:
        url: `sqlite:///…` or `postgresql://…`.
        earlier: trials of another run, marked with `EARLIER`. The search's own trials are numbered
            after them.
        on_wait: see `open_storage`.

    Raises:
        StorageError: the storage cannot be written.
        RunError: the storage has a study of that name.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with storage_errors():
        try:
            record = optuna.create_study(
                storage=open_storage(url, on_wait),
                study_name=name,
                direction="maximize" if space.search.objective.mode == "max" else "minimize",
            )
        except optuna.exceptions.DuplicatedStudyError:
            raise RunError(
                f"{name}: the storage has a study of that name. Choose another --name."
            ) from None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # optuna-dashboard labels its axes with it.
            record.set_metric_names([space.search.metric])
        record.set_user_attr("space", space.as_plain())
        record.add_trials(earlier)
        # If there are more points than trials, the rest waits until the search is extended.
        for point in space.search.start_with:
            record.enqueue_trial(point)
    return record


def delete_record(record: optuna.Study) -> None:
    """Remove a study from its storage. Raises `StorageError`."""
    with storage_errors():
        optuna.delete_study(study_name=record.study_name, storage=record._storage)


def load_record(url: str, name: str | None = None, on_wait: Say | None = None) -> optuna.Study:
    """Open a study.

    Args:
        name: None takes the only study of the storage: a run's folder may have been renamed.

    Raises:
        RunError: there is no such study.
        StorageError: the storage cannot be read.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with storage_errors():
        storage = open_storage(url, on_wait)
        names = [name] if name else optuna.get_all_study_names(storage)
        if len(names) != 1:
            raise RunError(f"{url}: {len(names)} studies instead of one. The run is damaged.")
        try:
            return optuna.load_study(storage=storage, study_name=names[0])
        except KeyError:
            raise RunError(f"{names[0]}: the storage has no study of that name.") from None


def open_study(
    folder: RunFolder, storage: str | None = None, on_wait: Say | None = None
) -> optuna.Study:
    """Open the study of a run.

    Args:
        storage: what the user gave for its database.

    Raises:
        RunError: the study is missing or damaged.
        StorageError: it cannot be read.
        InputError: `storage` is not the run's database.
    """
    return load_record(*read_storage_note(folder, storage), on_wait)


def set_attr(record: optuna.Study, key: str, value: Any) -> None:
    """Store a plain value in the study. Raises `StorageError`."""
    with storage_errors():
        record.set_user_attr(key, value)


def get_attr(record: optuna.Study, key: str, default: Any = None) -> Any:
    """A stored value. Raises `RunError` if there is neither a value nor a default."""
    with storage_errors():
        found = record.user_attrs.get(key, default)
    if found is None:
        raise RunError(
            f"the study has no {key!r}: this project did not write it, or it is damaged."
        )
    return found


def check_direction(record: optuna.Study, objective: Objective) -> None:
    """Raise `RunError` if the study has the other direction: Optuna does not check that."""
    found = record.direction.name.lower()
    if found[:3] != objective.mode:
        raise RunError(
            f"the study is damaged: its direction is {found}, the search's {objective.mode}."
        )


def own_trials(record: optuna.Study, objective: Objective) -> list[Trial]:
    """The search's own trials, by number. Raises `RunError` if one is damaged, `StorageError`."""
    with storage_errors():
        frozen = record.get_trials(deepcopy=False)
        sessions = record.user_attrs.get("sessions", ())
    read = (read_trial(trial, objective) for trial in current(frozen) if is_own(trial))
    return list(with_worked(sorted(read, key=lambda trial: trial.number), sessions))


def current(frozen: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials without those that a later one goes on with: Optuna opens no ended trial again."""
    return [*{number_of(trial): trial for trial in frozen}.values()]


def number_of(frozen: FrozenTrial) -> int:
    """The search's number of a trial, which is Optuna's unless it goes on with an ended one."""
    first = frozen.user_attrs.get(CONTINUES)
    return first if isinstance(first, int) else frozen.number


def continued(frozen: FrozenTrial, number: int) -> FrozenTrial:
    """A running trial for the study that goes on with an ended one.

    Args:
        number: of the search's trial that both are.
    """
    attributes = {
        key: value for key, value in frozen.user_attrs.items() if key not in ("outcome", "cause")
    }
    return optuna.trial.create_trial(
        state=TrialState.RUNNING,
        params=frozen.params,
        distributions=frozen.distributions,
        intermediate_values=frozen.intermediate_values,
        user_attrs=attributes | {CONTINUES: number},
    )


def with_worked(trials: Sequence[Trial], sessions: Sequence[float]) -> Iterable[Trial]:
    """The trials, with the time worked in the epochs of older versions, which did not record it.

    Args:
        sessions: when each process of such a version began, in seconds since 1970.
    """
    times = sorted(one.time for trial in trials for one in trial.epochs if not one.worked)
    worked = dict(zip(times, seconds_worked(times, sessions), strict=True))
    for trial in trials:
        epochs = (
            one if one.worked else replace(one, worked=worked[one.time]) for one in trial.epochs
        )
        yield replace(trial, epochs=tuple(epochs))


def is_own(trial: FrozenTrial) -> bool:
    """Whether this search handed the trial out: it does not wait, and is not of another run."""
    return trial.state != TrialState.WAITING and EARLIER not in trial.user_attrs


def read_trial(frozen: FrozenTrial, objective: Objective) -> Trial:
    """Optuna's trial as a plain record. Raises `RunError` if this project did not write it so."""
    # An attribute without a value is an epoch that was never committed: the process was killed
    # between the two writes, and the epoch is trained again.
    attributes, values = frozen.user_attrs, frozen.intermediate_values
    try:
        epochs = [read_epoch(step, attributes[f"epoch:{step}"]) for step in sorted(values)]
        trial = Trial(
            number=number_of(frozen),
            params=dict(frozen.params),
            epochs=tuple(epochs),
            outcome=Outcome(attributes["outcome"]) if frozen.state.is_finished() else None,
            cause=str(attributes.get("cause", "")),
            failures=tuple(map(str, attributes.get("failures", ()))),
            waits_after=int(attributes.get("waits_after", 0)),
            went_on_after=int(attributes.get("went_on_after", 0)),
            proposal={k: float(v) for k, v in attributes.get("proposal", {}).items()},
        )
        measured = {epoch.epoch: epoch.metrics[objective.metric] for epoch in epochs}
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise RunError(
            f"the study is damaged: trial {frozen.number} has no sound {error}."
        ) from None
    # Somebody may have changed a value with a database client.
    for step, value in measured.items():
        if str(value) != str(values[step]):  # as text, because NaN does not equal NaN
            raise RunError(
                f"the study is damaged: trial {frozen.number}, epoch {step} has "
                f"{objective.metric} {value} and the value {values[step]}."
            )
    return trial


def epoch_to_plain(epoch: Epoch) -> dict[str, Any]:
    """An epoch as JSON, which has no NaN and no infinity: they become text that `float` reads."""
    plain = asdict(epoch)
    del plain["epoch"]
    plain["metrics"] = {
        name: value if math.isfinite(value) else str(value) for name, value in epoch.metrics.items()
    }
    return plain


def read_epoch(step: int, plain: dict[str, Any]) -> Epoch:
    """The inverse of `epoch_to_plain`."""
    metrics = {name: float(value) for name, value in plain["metrics"].items()}
    return Epoch(
        step,
        metrics,
        plain["checkpoint"],
        plain["sha256"],
        plain["time"],
        plain["gpu_seconds"],
        plain.get("worked", 0.0),  # older versions did not record it
    )
