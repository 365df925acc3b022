"""Turns pydantic's errors into problems of a search space file."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import ValidationError

from text_recognizer.text import TEXT_RULE, did_you_mean, shown, suggested
from tuning.space.schema import MODEL_OF, SearchSettings
from tuning.space.strict_yaml import Keys, YamlFile, quotes_hint

MAPPING = "a mapping of names to values"
Validated = TypeVar("Validated")
PARAMETER_TYPES = ("int", "float", "categorical")
INNER_KEYS = [f"{key}.{name}" for key in ("asha", "stop") for name in MODEL_OF[key].model_fields]
# pydantic's type of error -> the rule that is broken
RULES = {
    "missing": "{name} is given",
    "union_tag_not_found": "type is int, float or categorical",
    "union_tag_invalid": "type is int, float or categorical",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_unicode": TEXT_RULE,
    "list_type": "a list",
    "dict_type": MAPPING,
    "model_type": MAPPING,
    "model_attributes_type": MAPPING,
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them, not {actual_length}",
    "greater_than": "{name} > {gt}",
    "greater_than_equal": "{name} >= {ge}",
    "less_than_equal": "{name} <= {le}",
    "less_than": "{name} < {lt}",
    "value_error": "{error}",
}


def validated(
    validate: Callable[[Any], Validated], value: Any, keys: Keys, file: YamlFile
) -> Validated | None:
    """`validate(value)`. If it fails, note all its errors in `file` and return None.

    Args:
        keys: the place of `value` in `file`.
    """
    try:
        return validate(value)
    except ValidationError as error:
        details = error.errors(include_url=False)
    for detail in details:
        location, got, context = detail["loc"], detail["input"], detail.get("ctx", {})
        # pydantic puts the type of a parameter in front of the keys
        place = (*keys, *(location[1:] if keys[0] == "space" else location))
        match detail["type"]:
            case "rule":
                file.refuse(place, context["rule"], context["got"], context["hint"])
            case "extra_forbidden":
                # the key of a parameter, of asha or of stop; else of the section search itself
                inner = len(location) > 1
                model = MODEL_OF[str(location[0])] if inner else SearchSettings
                others = () if inner else INNER_KEYS
                hint = did_you_mean(str(place[-1]), model.model_fields, others)
                file.refuse(place, "a known key", shown(place[-1]), hint)
            case kind:
                # for a wrong word pydantic lists the right ones: "Input should be 'asha' or 'none'"
                rule = RULES.get(kind, detail["msg"].removeprefix("Input should be "))
                rule = rule.format(name=place[-1], **context)
                file.refuse(place, rule, shown(got), value_hint(kind, rule, got))
    return None


def value_hint(kind: str, rule: str, got: Any) -> str:
    """What to do about a value that breaks a rule, if that can be guessed.

    Args:
        kind: pydantic's type of error.
    """
    found = ""
    if kind == "literal_error":
        found = suggested(str(got), re.findall(r"'(\w+)'", rule))
    elif kind == "union_tag_invalid":
        found = suggested(str(got["type"]), PARAMETER_TYPES)
    elif kind in ("int_type", "float_type", "bool_type"):
        return quotes_hint(got)
    # The rule lists the right words already.
    return f"Did you mean {shown(found)}?" if found else ""
