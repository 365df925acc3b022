"""A validated search space: the fixed settings, the parameters and the settings of the search.

`tuning/space/reader.py` reads it. `tuning/verification/preflight.py` checks that its names exist
and that its values can be built.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from text_recognizer.errors import Problem, ensure
from text_recognizer.text import did_you_mean, shown
from tuning.space.schema import Parameter, SearchSettings
from tuning.space.strict_yaml import MAX_SPACE_BYTES, to_yaml

Params = dict[str, Any]


@dataclass(frozen=True)
class SearchSpace:
    """A search space file: what is fixed, what is searched, and how.

    Args:
        experiment: settings that all trials share.
        where: keys of the file -> "file:line key", for messages.
    """

    experiment: dict[str, Any]
    parameters: dict[str, Parameter]
    search: SearchSettings
    where: Callable[..., str]

    @cached_property
    def in_order(self) -> dict[str, Parameter]:
        """The parameters, each after those that its condition names."""
        # Level by level, each in the file's order. Random numbers are drawn in this order, so it
        # decides the points of a seed. The reader has refused circles, which would never end here.
        found: dict[str, Parameter] = {}
        while len(found) < len(self.parameters):
            found |= {
                name: parameter
                for name, parameter in self.parameters.items()
                if parameter.when.keys() <= found.keys()
            }
        return found

    def choose(self, pick: Callable[[str, Parameter], Any]) -> Params:
        """One point of the space.

        Args:
            pick: returns the value of a parameter; called only for those whose condition is met.
        """
        params: Params = {}
        for name, parameter in self.in_order.items():
            if parameter.applies(params):
                params[name] = pick(name, parameter)
        # Tables and messages show the parameters in the file's order.
        return {name: params[name] for name in self.parameters if name in params}

    def corners(self) -> Iterator[Params]:
        """All parameters at their low, all at their high, and a point for each end and each choice.

        The point of a parameter with a condition meets the condition.
        """
        # Not each combination: 10 parameters with 2 ends have 1,024 of them, and 22 such points.
        yield self._corner({}, 0)
        yield self._corner({}, -1)
        for name, parameter in self.parameters.items():
            needed = {other: values[0] for other, values in self.needs(name).items()}
            for value in parameter.corner_values():
                yield self._corner(needed | {name: value}, 0)

    def _corner(self, fixed: Params, end: int) -> Params:
        """The point with these fixed values and all others at their low (0) or high (-1)."""
        return self.choose(lambda name, parameter: fixed.get(name, parameter.corner_values()[end]))

    def needs(self, name: str) -> dict[str, list[Any]]:
        """The values of other parameters under which `name` exists, directly or through others.

        An empty list means that it never exists.
        """
        found: dict[str, list[Any]] = {}
        # Backwards: when a parameter's turn comes, all that depend on it have been looked at.
        for one in reversed(self.in_order):
            if one == name or one in found:
                for other, values in self.parameters[one].when.items():
                    # a set, and not `same_in`: a long chain of long lists took 4 s
                    allowed = {(type(value), value) for value in values}
                    before = found.get(other, values)
                    found[other] = [value for value in before if (type(value), value) in allowed]
        return found

    def point_problems(self, point: Params, *keys: str | int) -> list[Problem]:
        """All reasons why `point` is not in the space.

        Args:
            keys: the place of the point in the file.
        """
        problems: list[Problem] = []
        # A missing value is None here, and so meets no condition of others.
        expected = self.choose(lambda name, parameter: point.get(name))
        for name in expected | point:
            parameter, value = self.parameters.get(name), point.get(name)
            if parameter is None:
                rule, hint = "a searched parameter", did_you_mean(name, self.parameters)
            elif name not in point:
                rule, hint = "a value for every parameter that applies", "Add one."
            elif name not in expected:
                rule, hint = f"{name} applies only when {shown(parameter.when)}", "Leave it out."
            else:
                rule, hint = parameter.problem(value) or "", ""
            if rule:
                got = shown(value if parameter else name)
                problems.append(Problem(self.where(*keys, name), rule, got, hint))
        return problems

    def as_plain(self) -> dict[str, Any]:
        """The file's content with all defaults filled in; read again it gives the same space."""
        parameters = {
            name: {"type": parameter.type} | parameter.model_dump(exclude_defaults=True)
            for name, parameter in self.parameters.items()
        }
        # The mode follows from the metric, but older versions recorded it: a resume compares.
        search = asdict(self.search.objective) | self.search.model_dump(exclude_none=True)
        return {"experiment": self.experiment, "space": parameters, "search": search}

    def as_yaml(self) -> str:
        """`as_plain` as the text of a file.

        Raises:
            InputError: the text is too long to be read again; defaults and indentation add to it.
        """
        text = to_yaml(self.as_plain())
        size = len(text.encode())
        rule = f"at most {MAX_SPACE_BYTES} bytes with all defaults written out"
        ensure(self.where(), rule, size, size <= MAX_SPACE_BYTES)
        return text
