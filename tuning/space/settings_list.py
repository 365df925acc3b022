"""Looks settings up in `search_spaces/schema.json`, which needs no torch."""

import json
from pathlib import Path
from typing import Any

from tuning.space.search_space import SearchSpace

SCHEMA_FILE = Path(__file__).resolve().parents[2] / "search_spaces" / "schema.json"
# type of a value -> its names in a JSON schema
JSON_NAMES: dict[type, set[str]] = {
    int: {"integer", "number"},
    float: {"number"},
    str: {"string"},
    bool: {"boolean"},
    type(None): {"null"},
}


def is_all_known(space: SearchSpace) -> bool:
    """Whether the list has all settings of a space, each with the type of its values.

    A "no" is no verdict: the list may be older than the classes, and does not know every type. The
    classes themselves decide then.
    """
    try:
        known = json.loads(SCHEMA_FILE.read_bytes())["properties"]["experiment"]["properties"]
        classes = {
            str(space.experiment.get(name, known[name]["default"]))
            for name in ("model_class", "data_class")
        }
    except (OSError, ValueError, KeyError, TypeError):
        return False
    values = {name: [value] for name, value in space.experiment.items()}
    values |= {name: parameter.corner_values() for name, parameter in space.parameters.items()}
    return all(
        name in known
        and not classes.isdisjoint(known[name].get("x-of", classes))
        and all(fits(value, known[name]) for value in values[name])
        for name in values
    )


def fits(value: Any, setting: dict[str, Any]) -> bool:
    """Whether a value has the type of a setting, or is one of its words."""
    names = JSON_NAMES.get(type(value), set())
    return value in setting.get("enum", ()) or not names.isdisjoint(setting.get("type", ()))
