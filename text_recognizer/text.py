"""Text that is safe to show: on one line, escaped and clipped; and suggestions for wrong names."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

# Half a character of UTF-16. It is in Python's `str`, but cannot be encoded as UTF-8.
SURROGATE = re.compile("[\ud800-\udfff]")
TEXT_RULE = "text of whole characters"
MAX_LISTED = 12  # names in a hint
# our name -> what other tools and people call it
SYNONYMS = {
    # settings of an experiment
    "lr": "learning_rate learningrate eta step_size",
    "batch_size": "batch bs",
    "fc1": "hidden hidden_size hidden_dim units width n_units",
    "fc_dim": "hidden hidden_size hidden_dim units width n_units fc1",
    "conv_dim": "channels filters",
    "weight_decay": "wd l2 decay",
    "optimizer": "opt optim",
    "data_class": "data dataset",
    "model_class": "model net network arch architecture",
    "seed": "random_state random_seed",
    "gpus": "gpu device",
    "gpus_per_trial": "gpu gpus",
    "load_checkpoint": "checkpoint ckpt weights",
    # keys of a search space
    "space": "params parameters hyperparameters",
    "max_epochs": "epoch epochs n_epochs num_epochs max_t",
    "trials": "n_trials num_trials max_trials num_samples n_iter budget",
    "metric": "monitor objective",
    "mode": "direction maximize minimize",
    "sampler": "algo algorithm search_alg",
    "scheduler": "pruner",
    "start_with": "points_to_evaluate",
    "grace_epochs": "grace_period min_resource",
    "reduction_factor": "eta",
    "time": "timeout time_budget",
    "low": "min lower",
    "high": "max upper",
    "choices": "values options categories",
    "when": "if condition",
    # their values
    "int": "integer",
    "float": "real double uniform loguniform",
    "categorical": "choice enum",
    "max": "maximize",
    "min": "minimize",
    "val_acc": "acc accuracy val_accuracy test_acc",
    "val_loss": "loss test_loss",
    "gp": "bo bayes gaussian_process",
    "asha": "hyperband halving",
}


def shown(value: Any, limit: int = 80) -> str:
    """`repr(value)`, which is one line, with at most `limit` characters."""
    return clipped(repr(value), limit)


def clipped(text: str, limit: int = 80) -> str:
    """The first `limit` characters of `text`; an ellipsis marks a cut."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def printable(text: str) -> str:
    """`text` on one line, with line breaks and control characters as escapes.

    A terminal would obey or hide these characters: colours, titles, right-to-left marks.
    """
    # `repr` escapes a character and puts it in quotes, which are cut off here.
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def printable_lines(text: str) -> str:
    """Apply `printable` to each line of `text`."""
    return "\n".join(map(printable, text.split("\n")))


def reason_of(error: Exception) -> str:
    """The system's reason for an error, without the path; for a file of somebody else its owner."""
    reason = getattr(error, "strerror", None) or str(error)
    with suppress(OSError, KeyError, TypeError):  # it is hidden, or its owner has no name
        if isinstance(error, PermissionError) and Path(error.filename).stat().st_uid != os.getuid():
            return f"{reason}, {error.filename} belongs to {Path(error.filename).owner()}"
    return reason


def shown_path(path: Path) -> str:
    """A path as the user would type it in the current folder."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):  # it is elsewhere, or the current folder was deleted
        return str(path)


def is_text(value: Any) -> bool:
    """Whether `value` can be written to a file. YAML's "\\ud83d" is half a character, so not."""
    return not isinstance(value, str) or not SURROGATE.search(value)


def did_you_mean(name: str, known: Iterable[str], others: Iterable[str] = ()) -> str:
    """A hint: the `suggested` name, or else all `known` names, or the 12 nearest of them."""
    known = sorted(known)
    if found := suggested(name, known, others):
        return f"Did you mean {shown(found)}?"
    if len(known) <= MAX_LISTED:
        return f"Known: {', '.join(map(clipped, known))}." if known else ""
    near = closest(name, known, MAX_LISTED, cutoff=0.0)  # without a cutoff nothing is too far
    return f"The nearest of {len(known)} known ones: {', '.join(map(clipped, near))}."


def suggested(name: str, known: Iterable[str], others: Iterable[str] = ()) -> str:
    """The name that was probably meant, or "".

    Args:
        known, others: names such as `lr`, also with their place: `stop.time`. Of two with the same
            last part the `known` one is taken.
    """
    names = {full.rpartition(".")[2]: full for full in (*others, *known)}
    words = {
        word: names[ours]
        for ours, theirs in SYNONYMS.items()
        if ours in names
        for word in theirs.split()
    }
    name = name.replace("-", "_")
    # A synonym must be close: by chance a misspelt name resembles one of so many words.
    if close := closest(name, words, cutoff=0.85):
        return words[close[0]]
    return names[close[0]] if (close := closest(name, names)) else ""


def closest(name: str, known: Iterable[str], n: int = 1, cutoff: float = 0.6) -> list[str]:
    """Up to `n` of the `known` names that resemble `name`, ignoring case, the best first."""
    as_known = {other.lower(): other for other in known}  # difflib itself respects case
    return [
        as_known[other] for other in difflib.get_close_matches(name.lower(), as_known, n, cutoff)
    ]
