"""Writes `search_spaces/schema.json`, with which editors complete and check a search space file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from text_recognizer.command import exit_code_of
from text_recognizer.tables import DATASETS, MODELS
from training.settings import known_settings
from tuning.space.owned_settings import OWNED_BY_SEARCH, SAME_FOR_ALL_TRIALS
from tuning.space.schema import MAX_PARAMETERS, PARAMETER, SearchSettings

TARGET = Path(__file__).resolve().parents[2] / "search_spaces" / "schema.json"
JSON_TYPES = {
    "int": "integer",
    "float": "number",
    "str": "string",
    "bool": "boolean",
    "None": "null",
}


def json_schema() -> dict[str, Any]:
    """The schema: form and ranges from the models that read a file, names from the constructors."""
    search = SearchSettings.model_json_schema()
    parameter = PARAMETER.json_schema()
    definitions = search.pop("$defs") | parameter.pop("$defs")
    fixed, searched = named_settings()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Search space",
        "type": "object",
        "additionalProperties": False,
        "required": ["space"],
        "properties": {
            "experiment": {"type": "object", "additionalProperties": False, "properties": fixed},
            "space": {
                "type": "object",
                "additionalProperties": False,
                "minProperties": 1,
                "maxProperties": MAX_PARAMETERS,
                "properties": searched,
            },
            "search": {"$ref": "#/$defs/search"},
        },
        "$defs": definitions | {"parameter": parameter, "search": search},
    }


def named_settings() -> tuple[dict[str, Any], dict[str, Any]]:
    """What may stand under `experiment` and under `space`: all settings of any model or data set.

    A fixed setting has its type, if that is plain.
    """
    known = {
        name: kind
        for model in MODELS
        for data in DATASETS
        for name, kind in known_settings(model, data).items()
        if name not in OWNED_BY_SEARCH
    }
    fixed: dict[str, Any] = {}
    for name, kind in sorted(known.items()):
        types = [JSON_TYPES.get(part) for part in kind.split(" | ")]
        fixed[name] = ({} if None in types else {"type": types}) | {"description": kind}
    fixed["model_class"] = {"enum": sorted(MODELS)}
    fixed["data_class"] = {"enum": sorted(DATASETS)}
    parameter = {"$ref": "#/$defs/parameter"}
    return fixed, {name: parameter for name in fixed if name not in SAME_FOR_ALL_TRIALS}


def main() -> None:
    """Write the schema."""
    TARGET.write_text(json.dumps(json_schema(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
