"""A search space file as validated, frozen values: what is fixed, what may change, how the search goes.

Form and values are checked here, in milliseconds and without torch; whether the names exist and the values can be built
is the preflight's business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from text_recognizer.errors import InputError, Problem, closest, did_you_mean, shown
from tuning.schema import PARAMETER, CategoricalParameter, Parameter, SearchSettings, known_keys
from tuning.yaml_file import Path_, YamlFile

Params = dict[str, Any]
SECTIONS = ("experiment", "space", "search")
NAME_RULE = "a name of letters, digits and _, a to z alone and no digit first"
MAPPING = "a mapping of names to values"
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
        ordered: dict[str, Parameter] = {}
        while len(ordered) < len(self.parameters):
            ordered |= {name: p for name, p in self.parameters.items() if name not in ordered and set(p.when) <= set(ordered)}
        return ordered

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
            wanted = self._conditions(name)
            for value in parameter.choices if isinstance(parameter, CategoricalParameter) else parameter.ends():
                fixed = wanted | {name: value}
                yield self.choose(lambda other, p, fixed=fixed: fixed[other] if other in fixed else p.ends()[0])  # type: ignore[misc]

    def _conditions(self, name: str) -> Params:
        """Values of other parameters under which `name` exists."""
        found: Params = {}
        for other, values in self.parameters[name].when.items():
            found |= {other: values[0]} | self._conditions(other)
        return found

    def as_plain(self) -> dict[str, Any]:
        """The file's content with every default filled in; reading it back gives the same space."""
        parameters = {name: {"type": p.type} | p.model_dump(exclude_defaults=True) for name, p in self.parameters.items()}
        limits = self.search.stop.model_dump(exclude_none=True)
        search = self.search.model_dump() | {"mode": self.search.direction, "stop": limits}
        return {"experiment": dict(self.experiment), "space": parameters, "search": search}

    def as_yaml(self) -> str:
        """`as_plain` as the text of a file."""
        return yaml.safe_dump(self.as_plain(), sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)


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
    for name, parameter in parameters.items():
        problems += condition_problems(name, parameter, parameters, sections, where)
    if problems or search is None:
        raise InputError(*problems)
    space = SearchSpace(experiment, parameters, search, where)
    problems += [
        problem
        for i, point in enumerate(search.start_with)
        for problem in point_problems(space, point, ("search", "start_with", i))
    ]
    problems += [
        Problem(where("search", "start_with", i), "each point stands once", f"{shown(point)} again", "Remove one.")
        for i, point in enumerate(search.start_with)
        if point in search.start_with[:i]
    ]
    if problems:
        raise InputError(*problems)
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
            problems.append(Problem(where("experiment", name), NAME_RULE, ascii(name)))
        elif isinstance(value, float) and not math.isfinite(value):
            problems.append(Problem(where("experiment", name), "a finite number", shown(value)))
    return raw


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
            problems.append(Problem(where(*keys), NAME_RULE, ascii(name)))
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
    where: Callable[..., str],
) -> list[Problem]:
    """What is wrong with a parameter's `when`, apart from what is wrong with the parameters that it names."""
    problems = []
    for other, values in parameter.when.items():
        place = where("space", name, "when", other)
        if other not in parameters and other in sections["space"]:
            continue  # it is refused itself
        if other not in parameters:
            fixed = "It is fixed under experiment." if other in sections["experiment"] else ""
            hint = fixed or did_you_mean(other, parameters.keys() - {name})
            problems.append(Problem(place, "a searched parameter", shown(other), hint))
        elif name in reaches(other, parameters):
            problems.append(Problem(place, "conditions form no circle", f"{name} depends on itself"))
        else:
            broken = [(value, rule) for value in values if (rule := parameters[other].problem(value))]
            problems += [Problem(place, f"{other} can be {rule}", shown(value)) for value, rule in broken]
    return problems


def reaches(name: str, parameters: dict[str, Parameter]) -> set[str]:
    """`name` and every parameter that its condition leads to."""
    found: set[str] = set()
    to_do = [name]
    while to_do:
        other = to_do.pop()
        if other in parameters and other not in found:
            found.add(other)
            to_do += parameters[other].when
    return found


def point_problems(space: SearchSpace, point: Params, keys: Path_) -> list[Problem]:
    """What keeps `point` from being one of the space's."""
    expected = space.choose(lambda name, parameter: point.get(name))
    problems = []
    for name in (name for name in expected if name not in point):
        problems.append(
            Problem(space.where(*keys), "a value for every parameter that applies", f"none for {name}", f"Add {name}.")
        )
    for name, value in point.items():
        if name not in space.parameters:
            hint = did_you_mean(name, space.parameters)
            problems.append(Problem(space.where(*keys, name), "a searched parameter", shown(name), hint))
        elif name not in expected:
            problems.append(
                Problem(
                    space.where(*keys, name),
                    f"{name} applies only when {space.parameters[name].when}",
                    shown(value),
                    "Leave it out.",
                )
            )
        elif rule := space.parameters[name].problem(value):
            problems.append(Problem(space.where(*keys, name), rule, shown(value)))
    return problems


T = TypeVar("T")
# pydantic's kinds of errors as rules of a file
RULES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
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
