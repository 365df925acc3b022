"""Writes `search_spaces/schema.json`, with which editors complete and check a search space file."""

import json
import sys
from itertools import product
from typing import Any

from text_recognizer.command import exit_code_of
from text_recognizer.registry import hyperparameters
from text_recognizer.tables import DATASETS, MODELS
from training.settings import RUN_DEFAULTS, known_settings
from tuning.space import (
    MAX_PARAMETERS,
    OWNED_BY_SEARCH,
    PARAMETER,
    SAME_FOR_ALL_TRIALS,
    SCHEMA_FILE,
    SearchSettings,
)

JSON_TYPES = {
    "int": "integer",
    "float": "number",
    "str": "string",
    "bool": "boolean",
    "None": "null",
}


def json_schema() -> dict[str, Any]:
    """The schema: ranges from the models that read a file, and names from the constructors."""
    # The models' own `$defs` would be looked up at the top of the file, so they move there.
    search = SearchSettings.model_json_schema()
    parameter = PARAMETER.json_schema()
    definitions = search.pop("$defs") | parameter.pop("$defs")
    fixed = fixed_settings()
    reference = {"$ref": "#/$defs/parameter"}
    searched = {name: reference for name in fixed if name not in SAME_FOR_ALL_TRIALS}
    section = {"type": "object", "additionalProperties": False}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Search space",
        **section,
        "required": ["space"],
        "properties": {
            "experiment": section | {"properties": fixed},
            "space": section
            | {"minProperties": 1, "maxProperties": MAX_PARAMETERS, "properties": searched},
            "search": {"$ref": "#/$defs/search"},
        },
        "$defs": definitions | {"parameter": parameter, "search": search},
    }


def fixed_settings() -> dict[str, Any]:
    """The settings that may stand under `experiment`, each with its type."""
    # All settings of any model and data set: a JSON schema cannot look them up by `model_class`.
    kinds: dict[str, str] = {}
    for model, data in product(MODELS, DATASETS):
        kinds |= known_settings(model, data)
    found: dict[str, Any] = {}
    for name in sorted(kinds.keys() - OWNED_BY_SEARCH.keys()):
        types = [JSON_TYPES.get(part) for part in kinds[name].split(" | ")]
        # Other types, such as a list, have no name in JSON: the reader alone checks these.
        found[name] = ({} if None in types else {"type": types}) | {"description": kinds[name]}
    for table in (MODELS, DATASETS):
        for owner, cls in sorted(table.items()):
            for name in hyperparameters(cls):
                found[name].setdefault("x-of", []).append(owner)
    # An editor can then complete the names.
    for name, table in (("model_class", MODELS), ("data_class", DATASETS)):
        found[name] = {"enum": sorted(table), "default": RUN_DEFAULTS[name]}
    return found


def main() -> None:
    """Write the schema."""
    SCHEMA_FILE.write_text(json.dumps(json_schema(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
