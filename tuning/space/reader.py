"""Reads a search space file. Form, values and conditions are judged here, in milliseconds and
without torch, and all at once.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from text_recognizer.errors import InputError, Problem
from text_recognizer.text import TEXT_RULE, clipped, did_you_mean, is_text, shown
from tuning.space.schema import (
    EXACT_RULE,
    PARAMETER,
    FloatParameter,
    Parameter,
    SearchSettings,
    is_exact,
)
from tuning.space.schema_errors import MAPPING, validated
from tuning.space.search_space import HINTED, SearchSpace, point_problems, reaches
from tuning.space.strict_yaml import MAX_BYTES, Path_, YamlFile

SECTIONS = ("experiment", "space", "search")
NAME_RULE = "a name of letters, digits and _, a to z alone and no digit first"
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


def read_space(
    path: Path, overrides: Mapping[tuple[str, ...], tuple[str, Any]] | None = None
) -> SearchSpace:
    """The search space in a file.

    Args:
        overrides: (section, key, …) -> (flag, value): what the command line puts in place of the
            file's values.

    Raises:
        InputError: with every problem of the file's form, values and conditions, each with its line
            or flag.
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
    search = validated(
        SearchSettings.model_validate, sections["search"], ("search",), where, problems
    )
    circles = edges_of_circles(parameters)
    for name, parameter in parameters.items():
        hints = len(problems) < HINTED
        problems += condition_problems(
            name, parameter, parameters, sections, circles, where, hints=hints
        )
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
    """Set a value deep inside; where something else than a mapping is in the way, that is left
    to be refused.
    """
    *above, key = place
    for name in above:
        inner = content.get(name)
        if not isinstance(inner, dict | NoneType):
            return
        content[name] = dict(inner or {})
        content = content[name]
    content[key] = value


def read_sections(
    content: Any, where: Callable[..., str], problems: list[Problem]
) -> dict[str, dict[str, Any]]:
    """The three sections of a file, empty where one is missing or none."""
    if not isinstance(content, dict):
        problems.append(Problem(where(), f"the sections {', '.join(SECTIONS)}", shown(content)))
        content = {}
    for name in (name for name in content if name not in SECTIONS):
        problems.append(
            Problem(where(name), "a known section", shown(name), did_you_mean(name, SECTIONS))
        )
    sections = {name: {} if content.get(name) is None else content[name] for name in SECTIONS}
    for name, section in sections.items():
        if not isinstance(section, dict):
            problems.append(Problem(where(name), MAPPING, shown(section)))
    if not problems and not sections["space"]:
        problems.append(Problem(where("space"), "one parameter or more to search", "none"))
    return {
        name: dict(section) if isinstance(section, dict) else {}
        for name, section in sections.items()
    }


def read_experiment(
    raw: dict[str, Any], where: Callable[..., str], problems: list[Problem]
) -> dict[str, Any]:
    """The fixed settings, as far as they are in order."""
    for name, value in raw.items():
        if name in OWNED_BY_SEARCH:
            problems.append(
                Problem(
                    where("experiment", name),
                    "a setting that the search leaves open",
                    shown(name),
                    OWNED_BY_SEARCH[name],
                )
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
    """Whether a constructor of ours could have an argument of this name; letters that only look
    like a to z are others.
    """
    return text.isascii() and text.isidentifier()


def read_parameters(
    raw: dict[str, Any],
    experiment: dict[str, Any],
    where: Callable[..., str],
    problems: list[Problem],
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
                Problem(
                    where(*keys),
                    "a parameter is either fixed or searched",
                    f"{name} under experiment too",
                    "Remove one.",
                )
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
    """What is wrong with a parameter's `when`, apart from what is wrong with the parameters that it
    names.

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
            problems.append(
                Problem(place, "conditions form no circle", f"{clipped(name)} depends on itself")
            )
        elif isinstance(parameters[other], FloatParameter):
            got, hint = f"{clipped(other)}, a float", "A float is hardly ever exactly some value."
            problems.append(Problem(place, "a parameter of whole numbers or choices", got, hint))
        else:
            broken = [
                (value, rule) for value in values if (rule := parameters[other].problem(value))
            ]
            problems += [
                Problem(place, f"{clipped(other)} can be {rule}", shown(value))
                for value, rule in broken
            ]
    return problems


def edges_of_circles(parameters: dict[str, Parameter]) -> set[tuple[str, str]]:
    """(name, other) of each condition of `name` on `other` that leads back to `name`."""
    return {
        (name, other)
        for other in parameters
        for name in reaches(other, parameters)
        if other in parameters[name].when
    }


def impossible(space: SearchSpace) -> Iterator[Problem]:
    """The parameters that no point of the space can have."""
    for name, parameter in space.parameters.items():
        for other in (other for other, values in space.needs(name).items() if not values):
            hint = (
                f"No value of {clipped(other)} fits it and the conditions of the parameters "
                "that it names."
            )
            yield Problem(
                space.where("space", name, "when"),
                "a condition that can be met",
                shown(parameter.when),
                hint,
            )


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
            problems.append(
                Problem(place, "each point stands once", f"{shown(point)} again", "Remove one.")
            )
        seen.add(items)
    return problems
