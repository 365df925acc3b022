"""Turns pydantic's errors into problems of a search space file."""

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import ValidationError

from text_recognizer.text import TEXT_RULE, did_you_mean, shown
from tuning.space.schema import MODEL_OF, SearchSettings
from tuning.space.strict_yaml import Keys, YamlFile

MAPPING = "a mapping of names to values"
Validated = TypeVar("Validated")
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
                model = MODEL_OF[str(location[0])] if len(location) > 1 else SearchSettings
                hint = did_you_mean(str(place[-1]), model.model_fields)
                file.refuse(place, "a known key", shown(place[-1]), hint)
            case kind:
                # for a wrong word pydantic lists the right ones: "Input should be 'asha' or 'none'"
                rule = RULES.get(kind, detail["msg"].removeprefix("Input should be "))
                file.refuse(place, rule.format(name=place[-1], **context), shown(got))
    return None
