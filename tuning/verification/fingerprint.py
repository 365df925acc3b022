"""Checks that the search space, the code and the data of a resumed run have not changed."""

import hashlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from text_recognizer import whole_epochs
from text_recognizer.atomic import checksum
from text_recognizer.data.util import BaseDataset
from text_recognizer.lit_models.base import BaseLitModel
from text_recognizer.models.dropout import Dropout
from text_recognizer.tables import DATASETS, MODELS
from training import experiment
from training.settings import chosen_classes
from tuning.space import SearchSpace

OWN_PACKAGES = ("text_recognizer.", "training.")


def fingerprint(space: SearchSpace, data: BaseDataset) -> dict[str, Any]:
    """What decides a trial's numbers: the space, and sha256 sums of the code and the data.

    Args:
        data: training and validation examples.
    """
    model_class, data_class = chosen_classes(space.experiment)
    model, data_module = MODELS[model_class], DATASETS[data_class]
    # Only what builds, trains and evaluates a trial: a change elsewhere must not stop a resume.
    used = {*model.__mro__, *data_module.__mro__, *BaseLitModel.__mro__, BaseDataset, Dropout}
    names = {cls.__module__ for cls in used} | {experiment.__name__, whole_epochs.__name__}
    own = sorted(name for name in names if name.startswith(OWN_PACKAGES))
    return {
        "space": comparable(space.as_plain()),
        "code": {name: checksum(Path(inspect.getfile(sys.modules[name]))) for name in own},
        "data": {data_class: data_sum(data)},
    }


def comparable(plain: dict[str, Any]) -> dict[str, Any]:
    """A space without the folder of its data, which may be moved: the data itself is compared."""
    experiment = {key: value for key, value in plain["experiment"].items() if key != "data_dir"}
    # older versions had no other type
    asha = {"type": "stopping"} | plain["search"]["asha"]
    return plain | {"experiment": experiment, "search": plain["search"] | {"asha": asha}}


def data_sum(data: BaseDataset) -> str:
    """The sha256 of all images and labels."""
    # Of the values, not of the files that they came from: only the values reach a trial.
    digest = hashlib.sha256(data.images.numpy().tobytes())
    digest.update(data.labels.numpy().tobytes())
    return digest.hexdigest()


def differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """One line for each key whose value has changed."""
    # Both ways, because a key may be new as well as gone.
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in {**old, **new}:
            yield from differences(old.get(key), new.get(key), f"{where}.{key}".lstrip("."))
    elif old != new:
        yield f"{where}: was {brief(old)}, is {brief(new)}"


def brief(value: Any) -> str:
    """A value as a message shows it, and only the first characters of a checksum."""
    text = "missing" if value is None else str(value)
    # 64 characters are a sha256
    return f"{text[:12]}…" if len(text) == 64 else text
