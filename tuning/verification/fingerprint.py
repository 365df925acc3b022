"""What must be unchanged when a run is continued: its search space, its code and its data."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from text_recognizer import whole_epochs
from text_recognizer.data.util import BaseDataset
from text_recognizer.models.dropout import Dropout
from text_recognizer.tables import DATASETS, LIT_MODELS, MODELS
from text_recognizer.util import checksum
from training import experiment
from training.settings import RUN_DEFAULTS
from tuning.space.search_space import SearchSpace

OWN_PACKAGES = ("text_recognizer", "training")


def fingerprint(space: SearchSpace, data: BaseDataset) -> dict[str, Any]:
    """The space as plain values, and sha256 sums of the code and the data that make a trial's
    numbers.

    Args:
        space: names its data set.
    """
    model_class = str(space.experiment.get("model_class", RUN_DEFAULTS["model_class"]))
    data_class = space.experiment["data_class"]
    return {
        "space": space.as_plain(),
        "code": code_sums(model_class, data_class),
        "data": {data_class: data_sum(data)},
    }


def code_sums(model_class: str, data_class: str) -> dict[str, str]:
    """Module -> sha256 of its source, for the modules that build, train and evaluate a trial."""
    classes = (
        *MODELS[model_class].__mro__,
        *DATASETS[data_class].__mro__,
        *LIT_MODELS["BaseLitModel"].__mro__,
        BaseDataset,
        Dropout,
    )
    names = {cls.__module__ for cls in classes} | {experiment.__name__, whole_epochs.__name__}
    own = sorted(name for name in names if name.split(".")[0] in OWN_PACKAGES)
    return {name: checksum(Path(inspect.getfile(sys.modules[name]))) for name in own}


def data_sum(data: BaseDataset) -> str:
    """The sha256 of all images and labels."""
    digest = hashlib.sha256(data.images.numpy().tobytes())
    digest.update(data.labels.numpy().tobytes())
    return digest.hexdigest()


def differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """One line for each key whose value has changed."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in {**old, **new}:
            yield from differences(old.get(key), new.get(key), f"{where}.{key}".lstrip("."))
    elif old != new:
        yield f"{where}: was {brief(old)}, is {brief(new)}"


def brief(value: Any) -> str:
    """A value as a message shows it: a checksum by its first characters."""
    text = "missing" if value is None else str(value)
    return text[:12] + "…" if len(text) == 64 else text
