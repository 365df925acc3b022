"""The JSON schema of a search space file, for editors: completion, and what is wrong while one
types. `make schema` writes it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from text_recognizer.command import exit_code_of
from text_recognizer.tables import DATASETS, MODELS
from training.settings import known_settings
from tuning.run.reading import write_text
from tuning.space.reader import NOT_SEARCHED, OWNED_BY_SEARCH
from tuning.space.schema import PARAMETER, SearchSettings

TARGET = Path(__file__).resolve().parents[2] / "search_spaces" / "schema.json"
SINGLE = {"int": "integer", "float": "number", "str": "string", "bool": "boolean", "None": "null"}


def json_schema() -> dict[str, Any]:
    """The schema: the form and the ranges from the models that read a file, the names from the
    constructors.
    """
    search = TypeAdapter(SearchSettings).json_schema(ref_template="#/$defs/{model}")
    parameter = PARAMETER.json_schema(ref_template="#/$defs/{model}")
    definitions = {
        **search.pop("$defs", {}),
        **parameter.pop("$defs", {}),
        "parameter": parameter,
        "search": search,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Search space",
        "type": "object",
        "additionalProperties": False,
        "required": ["space"],
        "properties": {
            "experiment": {"type": "object", "additionalProperties": False, "properties": fixed()},
            "space": {
                "type": "object",
                "additionalProperties": False,
                "minProperties": 1,
                "properties": searched(),
            },
            "search": {"$ref": "#/$defs/search"},
        },
        "$defs": definitions,
    }


def settings() -> dict[str, str]:
    """Name -> type of every setting that some model or data set has, but those that the search
    decides.
    """
    known = {
        name: kind
        for model in MODELS
        for data in DATASETS
        for name, kind in known_settings(model, data).items()
    }
    return {name: kind for name, kind in sorted(known.items()) if name not in OWNED_BY_SEARCH}


def fixed() -> dict[str, Any]:
    """What may stand under `experiment`, with its type where that is a plain one."""
    choices = {"model_class": sorted(MODELS), "data_class": sorted(DATASETS)}
    found: dict[str, Any] = {}
    for name, kind in settings().items():
        types = [SINGLE[part] for part in kind.split(" | ") if part in SINGLE]
        plain = len(types) == len(kind.split(" | "))
        found[name] = (
            {"enum": choices[name]} if name in choices else {"type": types} if plain else {}
        )
        found[name]["description"] = kind
    return found


def searched() -> dict[str, Any]:
    """What may stand under `space`."""
    return {name: {"$ref": "#/$defs/parameter"} for name in settings() if name not in NOT_SEARCHED}


def main() -> None:
    """Write the schema."""
    write_text(TARGET, json.dumps(json_schema(), indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
