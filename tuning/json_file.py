"""The JSON files of a run, checked against a model of what they must say when they are read."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from text_recognizer.errors import RunError


class Lenient(BaseModel):
    """A file that may say more than is read here."""

    model_config = ConfigDict(frozen=True)


Model = TypeVar("Model", bound=BaseModel)


def read_model(path: Path, model: type[Model]) -> Model | None:
    """What a file says; None where there is none. Raises `RunError` where it is damaged."""
    if not path.exists():
        return None
    try:
        return model.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(map(str, first["loc"]))
        raise RunError(f"{path}: `a file this project wrote` must hold, but got: {where} {first['msg']}") from None
