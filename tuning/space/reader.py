"""Reads a search space file and reports all its problems at once. Imports no torch."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from text_recognizer.errors import InputError, Problem
from text_recognizer.text import clipped, did_you_mean, shown
from tuning.space.owned_settings import OWNED_BY_SEARCH, SAME_FOR_ALL_TRIALS
from tuning.space.schema import (
    MAX_CORNERS,
    MAX_PARAMETERS,
    PARAMETER,
    CategoricalParameter,
    FloatParameter,
    Parameter,
    SearchSettings,
)
from tuning.space.schema_errors import MAPPING, validated
from tuning.space.search_space import SearchSpace
from tuning.space.strict_yaml import YamlFile

SECTIONS = ("experiment", "space", "search")
Section = dict[str, Any]
Overrides = Mapping[tuple[str, ...], tuple[str, Any]]  # keys -> (flag, value)
# ASCII only: some letters of other alphabets look like a to z.
SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,79}")
SETTING_RULE = "a name of letters (a to z), digits and _, not a digit first, at most 80 long"
# Stands for a parameter whose values cannot be read.
UNREAD = CategoricalParameter.model_construct(type="categorical", choices=[])


def read_space(path: Path, overrides: Overrides | None = None) -> SearchSpace:
    """Read a search space; the arguments are those of `parse_space`.

    Raises:
        InputError: all problems of form, values and conditions, each with its line or flag.
    """
    space, problems = parse_space(path, overrides)
    if problems:
        raise InputError(*problems)
    return space


def read_recorded_space(path: Path) -> SearchSpace:
    """Read a run's `search.yaml`. Raises `InputError`."""
    search = YamlFile(path).content.get("search")
    asha = search.get("asha") if isinstance(search, dict) else None
    # Older versions had no type: Ray's ASHA stopped their trials.
    is_older = isinstance(asha, dict) and "type" not in asha
    older: Overrides = {("search", "asha", "type"): (f"{path.name} asha.type", "stopping")}
    return read_space(path, older if is_older else None)


def parse_space(
    path: Path, overrides: Overrides | None = None
) -> tuple[SearchSpace, list[Problem]]:
    """Read a search space as far as possible.

    Args:
        path: a file of at most 100 kB.
        overrides: keys of the file -> the flag and the value that replace the file's value.

    Returns:
        The space, and all problems of form, values and conditions. If there are any, the space
        serves only to check the names and types of its settings.

    Raises:
        InputError: the file cannot be read, or its YAML cannot be parsed.
    """
    file = YamlFile(path)
    # Before the models, so that they check a flag like the value that it replaces.
    for keys, (flag, value) in (overrides or {}).items():
        file.replace(keys, flag, value)
    experiment, raw_parameters, raw_search = read_sections(file)
    for name in experiment:
        is_free(("experiment", name), OWNED_BY_SEARCH, file)
    parameters = read_parameters(raw_parameters, experiment, file)
    read = {name: parameter for name, parameter in parameters.items() if parameter is not UNREAD}
    search = validated(SearchSettings.model_validate, raw_search, ("search",), file)
    sound = True
    for problem in condition_problems(read, raw_parameters, file.where):
        file.note(problem)
        sound = False
    space = SearchSpace(experiment, read, search or points_only(raw_search), file.where)
    # This needs valid parameters, and conditions that can be ordered.
    if sound and read and len(read) == len(raw_parameters):
        check_possible(space, file)
        check_start_points(space, file)
    if file.problems:
        fixed = {
            name: value
            for name, value in experiment.items()
            if file.where("experiment", name) not in file.problems
        }
        space = replace(space, experiment=fixed, parameters=parameters)
    return space, list(file.problems.values())


def points_only(raw: Section) -> SearchSettings:
    """The settings of a section that was refused: its points to try first, if these are valid."""
    try:
        return SearchSettings.model_validate({"start_with": raw.get("start_with", [])})
    except ValidationError:
        return SearchSettings()


def read_sections(file: YamlFile) -> list[Section]:
    """The sections experiment, space and search, empty if the file does not have them."""
    sections: dict[str, Section] = {name: {} for name in SECTIONS}
    for name, section in file.content.items():
        if name not in SECTIONS:
            inner = [f"search.{key}" for key in SearchSettings.model_fields]
            hint = did_you_mean(name, SECTIONS, inner)
            file.refuse((name,), "a known section", shown(name), hint)
        elif isinstance(section, dict):
            sections[name] = section
        elif section is not None:  # a section whose lines are all comments is None
            file.refuse((name,), MAPPING, shown(section))
    # A misspelt `space:` has been refused already.
    if not file.problems and not sections["space"]:
        file.refuse(("space",), "one parameter or more to search", "none")
    return list(sections.values())


def is_free(keys: tuple[str, str], owned: Mapping[str, str], file: YamlFile) -> bool:
    """Whether a setting is allowed here. If not, note the problem.

    Args:
        owned: names that are not allowed, each with a hint.
    """
    name = keys[-1]
    if name in owned:
        file.refuse(keys, "a setting that is allowed here", shown(name), owned[name])
    elif not SETTING.fullmatch(name):
        file.refuse(keys, SETTING_RULE, clipped(ascii(name)))
    else:
        return True
    return False


def read_parameters(raw: Section, experiment: Section, file: YamlFile) -> dict[str, Parameter]:
    """The parameters whose names are allowed here. Note the problems of the others.

    `UNREAD` stands for one that was refused for its form.
    """
    found: dict[str, Parameter] = {}
    if len(raw) > MAX_PARAMETERS:
        file.refuse(("space",), f"at most {MAX_PARAMETERS} parameters", str(len(raw)))
        return found
    for name, value in raw.items():
        keys = ("space", name)
        if not is_free(keys, OWNED_BY_SEARCH | SAME_FOR_ALL_TRIALS, file):
            continue
        if name in experiment:
            rule = "a parameter is either fixed or searched"
            file.refuse(keys, rule, f"{name} under experiment too", "Remove one.")
        else:
            found[name] = validated(PARAMETER.validate_python, value, keys, file) or UNREAD
    corners = sum(len(parameter.corner_values()) for parameter in found.values())
    if corners > MAX_CORNERS:
        rule = f"at most {MAX_CORNERS} ends and choices in all"
        file.refuse(("space",), rule, str(corners), "Use int or float for ranges.")
    return found


def condition_problems(
    parameters: dict[str, Parameter], raw: Section, where: Callable[..., str]
) -> Iterator[Problem]:
    """The problems of each `when`."""
    for name, parameter in parameters.items():
        for other, values in parameter.when.items():
            keys = ("space", name, "when", other)
            if isinstance(parameters.get(other), FloatParameter):
                hint = "A float is hardly ever exactly some value."
                rule = "a parameter of whole numbers or choices"
                yield Problem(where(*keys), rule, "a float", hint)
            elif other in parameters:
                for i, value in enumerate(values):
                    if rule := parameters[other].problem(value) or "":
                        yield Problem(where(*keys, i), f"{other} can be {rule}", shown(value))
            elif other not in raw:  # otherwise the other parameter is invalid and was refused
                hint = did_you_mean(other, parameters.keys() - {name})
                yield Problem(where(*keys), "a searched parameter", shown(other), hint)
    # `SearchSpace.in_order` would never end at a circle.
    try:
        TopologicalSorter({name: one.when for name, one in parameters.items()}).prepare()
    except CycleError as error:
        _, circle = error.args  # a list that begins and ends with the same name
        got = clipped(" depends on ".join(reversed(circle)), 200)
        yield Problem(where("space", circle[0], "when"), "conditions form no circle", got)


def check_possible(space: SearchSpace, file: YamlFile) -> None:
    """Note the parameters that no point of the space has."""
    for name, parameter in space.parameters.items():
        for other, values in space.needs(name).items():
            if not values:
                rule, keys = "a condition that can be met", ("space", name, "when")
                hint = f"No value of {other} meets it and the conditions that lead to it."
                file.refuse(keys, rule, shown(parameter.when), hint)


def check_start_points(space: SearchSpace, file: YamlFile) -> None:
    """Note the problems of the points to try first."""
    points = space.search.start_with
    for i, point in enumerate(points):
        keys = ("search", "start_with", i)
        for problem in space.point_problems(point, *keys):
            file.note(problem)
        if point in points[:i]:  # Optuna would run it twice
            file.refuse(keys, "each point is listed once", f"{shown(point)} again", "Remove one.")
