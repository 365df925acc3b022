"""A search space file as validated, frozen values: what is fixed, what may change, how the search goes.

Form and values are checked here, in milliseconds and without torch; whether the names exist and the values can be built
is the preflight's business.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar

from pydantic import ValidationError

from text_recognizer.errors import TEXT_RULE, InputError, Problem, clipped, closest, did_you_mean, is_text, shown
from tuning.schema import (
    EXACT_RULE,
    PARAMETER,
    CategoricalParameter,
    FloatParameter,
    Parameter,
    SearchSettings,
    is_exact,
    known_keys,
    same_in,
)
from tuning.yaml_file import MAX_BYTES, Path_, YamlFile, as_text

Params = dict[str, Any]
SECTIONS = ("experiment", "space", "search")
NAME_RULE = "a name of letters, digits and _, a to z alone and no digit first"
MAPPING = "a mapping of names to values"
HINTED = 50  # problems of one file that get a hint: to look for the names that are meant takes long where there are thousands
MOST_GROWTH = 20  # `[{},{}]` twenty levels deep is 13 times as long in our own hand
ENOUGH = 1000  # problems, after which the points of `start_with` are not looked at any more
# What the search decides for every trial, and where it is said.
OWNED_BY_SEARCH = {
    "max_epochs": "Set it under search.",
    "monitor": "Set search.metric.",
    "patience": "The scheduler stops trials; leave it out.",
    "gpus": "Use --gpus-per-trial.",
    "threads": "Use --cpus-per-trial.",
    "accelerator": "Use --gpus-per-trial.",
    "devices": "One trial uses one device; use --gpus-per-trial.",
    "num_nodes": "One trial uses one device; the search spreads trials.",
    "enable_checkpointing": "The search keeps checkpoints itself.",
    "check_val_every_n_epoch": "A trial is judged after every epoch.",
    "fast_dev_run": "It trains one batch and is no trial; use training/run_experiment.py.",
    "limit_val_batches": "Every trial sits the same exam.",
    "overfit_batches": "It is for tests of a model, not for a search.",
    "barebones": "It turns off the metrics that a search is about.",
    "max_steps": "A trial is measured in epochs; set search.max_epochs.",
    "max_time": "A trial is measured in epochs; set search.max_epochs.",
}

NOT_SEARCHED = ("model_class", "data_class", "seed")  # one for the whole search


@dataclass(frozen=True)
class SearchSpace:
    """One whole search. `order` of the parameters puts each behind those its condition names."""

    experiment: dict[str, Any]
    parameters: dict[str, Parameter]
    search: SearchSettings
    where: Callable[..., str] = field(repr=False, compare=False)  # keys of the file -> "file:line key", for messages

    @cached_property
    def in_order(self) -> dict[str, Parameter]:
        """The parameters, each behind those that its condition names."""
        levels: dict[str, int] = {}  # 0 without a condition, else 1 more than the highest that it names
        to_do = list(self.parameters)
        while to_do:
            above = self.parameters[to_do[-1]].when
            if missing := [other for other in above if other not in levels]:
                to_do += missing
            else:
                levels[to_do.pop()] = 1 + max((levels[other] for other in above), default=-1)
        return dict(sorted(self.parameters.items(), key=lambda item: levels[item[0]]))

    def choose(self, pick: Callable[[str, Parameter], Any]) -> Params:
        """One point of the space: `pick` gives each parameter that applies its value."""
        params: Params = {}
        for name, parameter in self.in_order.items():
            if parameter.applies(params):
                params[name] = pick(name, parameter)
        return {name: params[name] for name in self.parameters if name in params}

    def corners(self) -> Iterator[Params]:
        """Every parameter at its low, every one at its high, and each choice once with its conditions met."""
        for end in (0, -1):
            yield self.choose(lambda _, parameter, end=end: parameter.ends()[end])  # type: ignore[misc]
        for name, parameter in self.parameters.items():
            wanted = {other: values[0] for other, values in self.needs(name).items()}
            for value in parameter.choices if isinstance(parameter, CategoricalParameter) else parameter.ends():
                fixed = wanted | {name: value}
                yield self.choose(lambda other, p, fixed=fixed: fixed[other] if other in fixed else p.ends()[0])  # type: ignore[misc]

    def needs(self, name: str) -> dict[str, list[Any]]:
        """The values of other parameters under which `name` exists; no values where it never does."""
        found: dict[str, list[Any]] = {}
        for above in reaches(name, self.parameters):
            for other, values in self.parameters[above].when.items():
                found[other] = [value for value in found[other] if same_in(value, values)] if other in found else values
        return found

    def as_plain(self) -> dict[str, Any]:
        """The file's content with every default filled in; reading it back gives the same space."""
        parameters = {name: {"type": p.type} | p.model_dump(exclude_defaults=True) for name, p in self.parameters.items()}
        limits = self.search.stop.model_dump(exclude_none=True)
        search = self.search.model_dump() | {"mode": self.search.direction, "stop": limits}
        return {"experiment": dict(self.experiment), "space": parameters, "search": search}

    def as_yaml(self) -> str:
        """`as_plain` as the text of a file. Raises `InputError` where it is longer than one that is read may be."""
        text = as_text(self.as_plain())
        size = len(text.encode())
        if size > MAX_BYTES:
            rule = f"at most {MAX_BYTES:,} bytes with all defaults written out"
            raise InputError(Problem(self.where(), rule, f"{size:,} bytes"))
        return text


def read_space(path: Path, overrides: Mapping[tuple[str, ...], tuple[str, Any]] | None = None) -> SearchSpace:
    """The search space in a file.

    Args:
        overrides: (section, key, …) -> (flag, value): what the command line puts in place of the file's values.

    Raises:
        InputError: with every problem of the file's form, values and conditions, each with its line or flag.
    """
    file = YamlFile(path)
    overrides = overrides or {}
    flags: dict[Path_, str] = {place: flag for place, (flag, _) in overrides.items()}

    def where(*keys: str | int) -> str:
        flag = next((flag for place, flag in flags.items() if keys[: len(place)] == place), None)
        return flag or file.where(*keys)

    problems: list[Problem] = []
    sections = read_sections(file.content, where, problems)
    for place, (_, value) in overrides.items():
        put(sections, place, value)
    experiment = read_experiment(sections["experiment"], where, problems)
    parameters = read_parameters(sections["space"], experiment, where, problems)
    search = validated(SearchSettings.model_validate, sections["search"], ("search",), where, problems)
    circles = edges_of_circles(parameters)
    for name, parameter in parameters.items():
        hints = len(problems) < HINTED
        problems += condition_problems(name, parameter, parameters, sections, circles, where, hints=hints)
    if problems or search is None:
        raise InputError(*problems)
    space = SearchSpace(experiment, parameters, search, where)
    problems += [*impossible(space), *start_problems(space)]
    if problems:
        raise InputError(*problems)
    if file.size > MAX_BYTES // MOST_GROWTH:
        space.as_yaml()  # refuses what the run's own copy could not hold
    return space


def put(content: dict[str, Any], place: tuple[str, ...], value: Any) -> None:
    """Set a value deep inside; where something else than a mapping is in the way, that is left to be refused."""
    *above, key = place
    for name in above:
        inner = content.get(name)
        if not isinstance(inner, dict | NoneType):
            return
        content[name] = dict(inner or {})
        content = content[name]
    content[key] = value


def read_sections(content: Any, where: Callable[..., str], problems: list[Problem]) -> dict[str, dict[str, Any]]:
    """The three sections of a file, empty where one is missing or none."""
    if not isinstance(content, dict):
        problems.append(Problem(where(), f"the sections {', '.join(SECTIONS)}", shown(content)))
        content = {}
    for name in (name for name in content if name not in SECTIONS):
        problems.append(Problem(where(name), "a known section", shown(name), did_you_mean(name, SECTIONS)))
    sections = {name: {} if content.get(name) is None else content[name] for name in SECTIONS}
    for name, section in sections.items():
        if not isinstance(section, dict):
            problems.append(Problem(where(name), MAPPING, shown(section)))
    if not problems and not sections["space"]:
        problems.append(Problem(where("space"), "one parameter or more to search", "none"))
    return {name: dict(section) if isinstance(section, dict) else {} for name, section in sections.items()}


def read_experiment(raw: dict[str, Any], where: Callable[..., str], problems: list[Problem]) -> dict[str, Any]:
    """The fixed settings, as far as they are in order."""
    for name, value in raw.items():
        if name in OWNED_BY_SEARCH:
            problems.append(
                Problem(where("experiment", name), "a setting that the search leaves open", shown(name), OWNED_BY_SEARCH[name])
            )
        elif not is_name(name):
            problems.append(Problem(where("experiment", name), NAME_RULE, clipped(ascii(name))))
        for inner in leaves(value):
            if isinstance(inner, float) and not math.isfinite(inner):
                problems.append(Problem(where("experiment", name), "a finite number", shown(inner)))
            elif not is_exact(inner):
                problems.append(Problem(where("experiment", name), EXACT_RULE, shown(inner)))
            elif not is_text(inner) and not (name == "data_dir" and is_path(inner)):
                problems.append(Problem(where("experiment", name), TEXT_RULE, shown(inner)))
    return raw


def leaves(value: Any) -> Iterator[Any]:
    """The single values inside of a setting."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from leaves(inner)
    else:
        yield value


def is_path(text: str) -> bool:
    """Whether the file system could have it: a path may hold bytes that are no text."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def is_name(text: str) -> bool:
    """Whether a constructor of ours could have an argument of this name; letters that only look like a to z are others."""
    return text.isascii() and text.isidentifier()


def read_parameters(
    raw: dict[str, Any], experiment: dict[str, Any], where: Callable[..., str], problems: list[Problem]
) -> dict[str, Parameter]:
    """The parameters that are in order; what is wrong with the others is added to `problems`."""
    found = {}
    for name, value in raw.items():
        keys: Path_ = ("space", name)
        if not is_name(name):
            problems.append(Problem(where(*keys), NAME_RULE, clipped(ascii(name))))
        elif name in OWNED_BY_SEARCH or name in NOT_SEARCHED:
            problems.append(
                Problem(
                    where(*keys),
                    "a setting that can be searched",
                    shown(name),
                    OWNED_BY_SEARCH.get(name, "It is one for the whole search."),
                )
            )
        elif name in experiment:
            problems.append(
                Problem(where(*keys), "a parameter is either fixed or searched", f"{name} under experiment too", "Remove one.")
            )
        elif parameter := validated(PARAMETER.validate_python, value, keys, where, problems):
            found[name] = parameter
    return found


def condition_problems(
    name: str,
    parameter: Parameter,
    parameters: dict[str, Parameter],
    sections: dict[str, dict[str, Any]],
    circles: set[tuple[str, str]],
    where: Callable[..., str],
    *,
    hints: bool,
) -> list[Problem]:
    """What is wrong with a parameter's `when`, apart from what is wrong with the parameters that it names.

    Args:
        circles: name and other of each condition that is a part of a circle.
        hints: whether to look for the name that is meant in place of an unknown one.
    """
    problems: list[Problem] = []
    for other, values in parameter.when.items():
        place = where("space", name, "when", other)
        if other not in parameters and other in sections["space"]:
            continue  # it is refused itself
        if other not in parameters:
            fixed = "It is fixed under experiment." if other in sections["experiment"] else ""
            look = hints and len(problems) < HINTED
            hint = fixed or (did_you_mean(other, parameters.keys() - {name}) if look else "")
            problems.append(Problem(place, "a searched parameter", shown(other), hint))
        elif (name, other) in circles:
            problems.append(Problem(place, "conditions form no circle", f"{clipped(name)} depends on itself"))
        elif isinstance(parameters[other], FloatParameter):
            got, hint = f"{clipped(other)}, a float", "A float is hardly ever exactly some value."
            problems.append(Problem(place, "a parameter of whole numbers or choices", got, hint))
        else:
            broken = [(value, rule) for value in values if (rule := parameters[other].problem(value))]
            problems += [Problem(place, f"{clipped(other)} can be {rule}", shown(value)) for value, rule in broken]
    return problems


def reaches(name: str, parameters: dict[str, Parameter]) -> list[str]:
    """`name` and every parameter that its condition leads to, always in the same order."""
    found: dict[str, None] = {}
    to_do = [name]
    while to_do:
        other = to_do.pop()
        if other in parameters and other not in found:
            found[other] = None
            to_do += parameters[other].when
    return list(found)


def edges_of_circles(parameters: dict[str, Parameter]) -> set[tuple[str, str]]:
    """(name, other) of each condition of `name` on `other` that leads back to `name`."""
    return {(name, other) for other in parameters for name in reaches(other, parameters) if other in parameters[name].when}


def impossible(space: SearchSpace) -> Iterator[Problem]:
    """The parameters that no point of the space can have."""
    for name, parameter in space.parameters.items():
        for other in (other for other, values in space.needs(name).items() if not values):
            hint = f"No value of {clipped(other)} fits it and the conditions of the parameters that it names."
            yield Problem(space.where("space", name, "when"), "a condition that can be met", shown(parameter.when), hint)


def start_problems(space: SearchSpace) -> list[Problem]:
    """What is wrong with the points that are tried first."""
    problems: list[Problem] = []
    points = space.search.start_with
    for i, point in enumerate(points):
        keys: Path_ = ("search", "start_with", i)
        if len(problems) > ENOUGH:
            left = f"{len(points) - i} more, after all these problems"
            problems.append(Problem(space.where(*keys), "every point is looked at", left))
            break
        problems += point_problems(space, point, keys, hints=len(problems) < HINTED)
    seen: set[frozenset[tuple[str, Any]]] = set()
    for i, point in enumerate(points):
        if (items := frozenset(point.items())) in seen:
            place = space.where("search", "start_with", i)
            problems.append(Problem(place, "each point stands once", f"{shown(point)} again", "Remove one."))
        seen.add(items)
    return problems


def point_problems(space: SearchSpace, point: Params, keys: Path_, *, hints: bool = False) -> list[Problem]:
    """What keeps `point` from being one of the space's; with `hints` also the names that may be meant."""
    expected = space.choose(lambda name, parameter: point.get(name))
    problems: list[Problem] = []
    for name in (name for name in expected if name not in point):
        missing = clipped(name)
        rule = "a value for every parameter that applies"
        problems.append(Problem(space.where(*keys), rule, f"none for {missing}", f"Add {missing}."))
    for name, value in point.items():
        if name not in space.parameters:
            hint = did_you_mean(name, space.parameters) if hints and len(problems) < HINTED else ""
            problems.append(Problem(space.where(*keys, name), "a searched parameter", shown(name), hint))
        elif name not in expected:
            problems.append(
                Problem(
                    space.where(*keys, name),
                    f"{clipped(name)} applies only when {shown(space.parameters[name].when)}",
                    shown(value),
                    "Leave it out.",
                )
            )
        elif broken := space.parameters[name].problem(value):
            problems.append(Problem(space.where(*keys, name), broken, shown(value)))
    return problems


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
    validate: Callable[[Any], T], value: Any, keys: Path_, where: Callable[..., str], problems: list[Problem]
) -> T | None:
    """`validate(value)`; where that fails, None, and what is wrong is added to `problems`."""
    try:
        return validate(value)
    except ValidationError as error:
        problems += [as_problem(dict(detail), keys, where) for detail in error.errors(include_url=False)]
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
            return Problem(place, "a known key", shown(keys[-1]), did_you_mean(str(keys[-1]), known_keys(keys, kind)))
        case "union_tag_not_found":
            return Problem(place, "type is int, float or categorical", "none", "Add type.")
        case "union_tag_invalid":
            return one_of(where(*keys, "type"), str(context["expected_tags"]), detail["input"]["type"])
        case "literal_error":
            return one_of(place, str(context["expected"]), detail["input"])
        case kind_of_error:
            rule = RULES.get(kind_of_error, detail["msg"].removeprefix("Input should be "))
            return Problem(place, rule.format(name=keys[-1], **context), shown(detail["input"]))


def one_of(place: str, expected: str, got: Any) -> Problem:
    """A word that is none of the `expected` ones, which pydantic gives as a text."""
    names = expected.replace("'", "").replace(" or ", ", ").split(", ")
    close = closest(str(got), names)
    return Problem(place, f"one of {', '.join(names)}", shown(got), f"Did you mean {close[0]!r}?" if close else "")
