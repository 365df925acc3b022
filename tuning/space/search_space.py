"""A search space as validated, frozen values: what is fixed, what may change and when, how the
search goes.

tuning/space/reader.py reads one; whether the names exist and the values can be built is the
preflight's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from text_recognizer.errors import InputError, Problem
from text_recognizer.text import clipped, did_you_mean, shown
from tuning.space.schema import CategoricalParameter, Parameter, SearchSettings, same_in
from tuning.space.strict_yaml import MAX_BYTES, Path_, as_text

Params = dict[str, Any]
# problems of one file that get a hint: to look for the names that are meant takes long where there
# are thousands
HINTED = 50


@dataclass(frozen=True)
class SearchSpace:
    """One whole search."""

    experiment: dict[str, Any]
    parameters: dict[str, Parameter]
    search: SearchSettings
    # keys of the file -> "file:line key", for messages
    where: Callable[..., str] = field(repr=False, compare=False)

    @cached_property
    def in_order(self) -> dict[str, Parameter]:
        """The parameters, each behind those that its condition names."""
        # 0 without a condition, else 1 more than the highest that it names
        levels: dict[str, int] = {}
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
        """Every parameter at its low, every one at its high, and each choice once with its
        conditions met.
        """
        for end in (0, -1):
            yield self.choose(lambda _, parameter, end=end: parameter.ends()[end])  # type: ignore[misc]
        for name, parameter in self.parameters.items():
            wanted = {other: values[0] for other, values in self.needs(name).items()}
            for value in (
                parameter.choices
                if isinstance(parameter, CategoricalParameter)
                else parameter.ends()
            ):
                fixed = wanted | {name: value}
                yield self.choose(partial(low_unless_fixed, fixed))

    def needs(self, name: str) -> dict[str, list[Any]]:
        """The values of other parameters under which `name` exists; no values where it never
        does.
        """
        found: dict[str, list[Any]] = {}
        for above in reaches(name, self.parameters):
            for other, values in self.parameters[above].when.items():
                found[other] = (
                    [value for value in found[other] if same_in(value, values)]
                    if other in found
                    else values
                )
        return found

    def as_plain(self) -> dict[str, Any]:
        """The file's content with every default filled in; reading it back gives the same space."""
        parameters = {
            name: {"type": p.type} | p.model_dump(exclude_defaults=True)
            for name, p in self.parameters.items()
        }
        limits = self.search.stop.model_dump(exclude_none=True)
        search = self.search.model_dump() | {"mode": self.search.objective.mode, "stop": limits}
        return {"experiment": dict(self.experiment), "space": parameters, "search": search}

    def as_yaml(self) -> str:
        """`as_plain` as the text of a file. Raises `InputError` where it is longer than one that
        is read may be.
        """
        text = as_text(self.as_plain())
        size = len(text.encode())
        if size > MAX_BYTES:
            rule = f"at most {MAX_BYTES:,} bytes with all defaults written out"
            raise InputError(Problem(self.where(), rule, f"{size:,} bytes"))
        return text


def low_unless_fixed(fixed: Params, name: str, parameter: Parameter) -> Any:
    """The value that is fixed for a parameter, else its low end."""
    return fixed[name] if name in fixed else parameter.ends()[0]


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


def point_problems(
    space: SearchSpace, point: Params, keys: Path_, *, hints: bool = False
) -> list[Problem]:
    """What keeps `point` from being one of the space's; with `hints` also the names that may be
    meant.
    """
    expected = space.choose(lambda name, parameter: point.get(name))
    problems: list[Problem] = []
    for name in (name for name in expected if name not in point):
        missing = clipped(name)
        rule = "a value for every parameter that applies"
        problems.append(Problem(space.where(*keys), rule, f"none for {missing}", f"Add {missing}."))
    for name, value in point.items():
        if name not in space.parameters:
            hint = did_you_mean(name, space.parameters) if hints and len(problems) < HINTED else ""
            problems.append(
                Problem(space.where(*keys, name), "a searched parameter", shown(name), hint)
            )
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
