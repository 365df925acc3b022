"""Hands over the result of a search: the best trial's weights and config, verified, and the last
files of the run.
"""

from collections.abc import Callable
from contextlib import suppress

import yaml

from text_recognizer.atomic import checksum
from text_recognizer.errors import CheckpointError, RunError
from text_recognizer.text import printable, shown_path
from tuning.analysis.html import write_report
from tuning.analysis.run_data import read_run_data
from tuning.callbacks import Artifacts, SearchConsole
from tuning.cli import typed_path, typed_script
from tuning.run import (
    RunFolder,
    Summary,
    Validation,
    changed_results,
    read_existing,
    read_model,
    read_whole,
    write_bytes,
    write_model,
    write_text,
)
from tuning.study import Search
from tuning.trials import Best
from tuning.verification import evaluation


def export_weights(search: Search, artifacts: Artifacts, console: SearchConsole) -> Best | None:
    """Export the best trial's weights, and check that they are as good as recorded.

    If a trial's checkpoint is damaged, the next best trial takes its place.

    Returns:
        The exported trial, or None if no trial can be best.

    Raises:
        CheckpointError: none of the kept checkpoints is sound.
    """
    folder, first = search.folder, None
    # Trials with a lower rank have no checkpoint any more.
    for best in search.study.ranked[: search.options.keep]:
        if is_exported(folder, best):
            return best
        try:
            settings = search.trial_settings | best.trial.params
            evaluation.export_best(folder.checkpoints, best, folder.best_checkpoint)
            answers = evaluation.verify(folder.best_checkpoint, best, settings, search.data)
        except CheckpointError as error:
            first = first or error
            lost = (
                f"trial {best.trial.number} with {search.study.objective.metric} {best.value:.4f} "
                f"cannot be exported: {error}"
            )
            artifacts.damaged[best.trial.number] = lost
            console.note(lost)
        else:
            write_model(folder.validation, answers)
            return best
    if first:
        for path in (folder.best_checkpoint, folder.validation):
            path.unlink(missing_ok=True)
        raise first
    return None


def is_exported(folder: RunFolder, best: Best) -> bool:
    """Whether an earlier process exported and evaluated this trial, and its weights are there."""
    with suppress(RunError, OSError):
        answers = read_model(folder.validation, Validation)
        if answers and answers.trial == best.trial.number:
            return checksum(folder.best_checkpoint) == answers.sha256
    return False


def write_result(search: Search, artifacts: Artifacts, best: Best, reason: str) -> None:
    """Write the best config, the summary and the report of a search that has ended.

    Args:
        best: the exported trial.
        reason: why the search ended.
    """
    write_config(search, best)
    artifacts.write_summary("complete", reason)
    # From the files, as `report.py` does: the page of a finished search shows what is on disk.
    write_report(read_run_data(search.folder, search.study.record))


def write_config(search: Search, best: Best) -> None:
    """Write the best trial as a configuration file of an experiment."""
    folder, trial = search.folder, best.trial
    metric = search.study.objective.metric
    header = [
        f"# The best of {folder.name}: trial {trial.number}, {metric} {best.value:.4f} at epoch "
        f"{best.epoch.epoch}.",
        f"# Train it again: {typed_script('training/run_experiment.py')} --config "
        f"{typed_path(folder.best_config)}",
    ]
    settings = search.trial_settings | trial.params
    del settings["gpus"]  # on which device it runs is left to the machine
    config = yaml.safe_dump(settings, sort_keys=False)
    write_text(folder.best_config, "\n".join([*map(printable, header), config]))


def is_finished(folder: RunFolder, note: Callable[[str], None]) -> bool:
    """Whether an earlier process wrote the whole result, and all of it is still as it was.

    Args:
        note: is told what is not. A config that was changed is kept beside the one to be written.
    """
    try:
        summary = read_existing(folder.summary, Summary)
    except RunError:
        return False
    files = (folder.report, folder.trials_csv, folder.validation)
    if summary.status != "complete" or not all(file.is_file() for file in files):
        return False
    changed = changed_results(folder, summary)
    for what in changed.values():
        note(f"{what}; it is written again from {shown_path(folder.checkpoints)}")
    if folder.best_config in changed and folder.best_config.exists():
        kept = folder.best_config.with_suffix(".changed.yaml")
        write_bytes(kept, read_whole(folder.best_config))
        note(f"the changed config is now {shown_path(kept)}")
    return not changed
