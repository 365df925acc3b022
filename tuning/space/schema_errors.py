"""What pydantic finds wrong with a part of a search space file, as rules in the file's own
words.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import ValidationError

from text_recognizer.errors import Problem
from text_recognizer.text import TEXT_RULE, closest, did_you_mean, shown
from tuning.space.schema import known_keys
from tuning.space.strict_yaml import Path_

MAPPING = "a mapping of names to values"
T = TypeVar("T")
# pydantic's kinds of errors as rules of a file
RULES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_unicode": TEXT_RULE,
    "list_type": "a list",
    "dict_type": MAPPING,
    "model_type": MAPPING,
    "model_attributes_type": MAPPING,
    "too_short": "at least {min_length} of them",
    "greater_than": "{name} > {gt}",
    "greater_than_equal": "{name} >= {ge}",
    "less_than_equal": "{name} <= {le}",
    "less_than": "{name} < {lt}",
}


def validated(
    validate: Callable[[Any], T],
    value: Any,
    keys: Path_,
    where: Callable[..., str],
    problems: list[Problem],
) -> T | None:
    """`validate(value)`; where that fails, None, and what is wrong is added to `problems`."""
    try:
        return validate(value)
    except ValidationError as error:
        problems += [
            as_problem(dict(detail), keys, where) for detail in error.errors(include_url=False)
        ]
        return None


def as_problem(detail: dict[str, Any], keys: Path_, where: Callable[..., str]) -> Problem:
    """One of pydantic's findings in our words."""
    context = detail.get("ctx") or {}
    location, kind = detail["loc"], ""
    if keys[0] == "space" and location:  # a parameter's begins with its type
        kind, *location = location
    keys = (*keys, *location)
    place = where(*keys)
    match detail["type"]:
        case "rule":
            return Problem(place, context["rule"], context["got"], context["hint"])
        case "missing":
            return Problem(place, f"{keys[-1]} is given", "nothing", f"Add {keys[-1]}.")
        case "extra_forbidden":
            return Problem(
                place,
                "a known key",
                shown(keys[-1]),
                did_you_mean(str(keys[-1]), known_keys(keys, kind)),
            )
        case "union_tag_not_found":
            return Problem(place, "type is int, float or categorical", "none", "Add type.")
        case "union_tag_invalid":
            return one_of(
                where(*keys, "type"), str(context["expected_tags"]), detail["input"]["type"]
            )
        case "literal_error":
            return one_of(place, str(context["expected"]), detail["input"])
        case kind_of_error:
            rule = RULES.get(kind_of_error, detail["msg"].removeprefix("Input should be "))
            return Problem(place, rule.format(name=keys[-1], **context), shown(detail["input"]))


def one_of(place: str, expected: str, got: Any) -> Problem:
    """A word that is none of the `expected` ones, which pydantic gives as a text."""
    names = expected.replace("'", "").replace(" or ", ", ").split(", ")
    close = closest(str(got), names)
    return Problem(
        place,
        f"one of {', '.join(names)}",
        shown(got),
        f"Did you mean {close[0]!r}?" if close else "",
    )
