"""The values that a search space file may have, as pydantic models: parameters, and how the
search goes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    model_validator,
)
from pydantic_core import PydanticCustomError

from text_recognizer.metrics import Metric, Mode, Objective, mode_of
from text_recognizer.text import TEXT_RULE, is_text, shown
from tuning.space.durations import RULE, seconds_of

MAX_INT = 2**53  # the study keeps numbers as doubles
EXACT_RULE = f"a whole number from {-MAX_INT} to {MAX_INT}"
Whole = Annotated[int, Field(ge=-MAX_INT, le=MAX_INT)]
Real = Annotated[float, Field(allow_inf_nan=False)]


def as_list(value: Any) -> Any:
    """A condition may name one value or several."""
    return value if isinstance(value, list) else [value]


def plain(value: Any) -> Any:
    """A single value as a setting can have it: null, true or false, a finite number, text."""
    single = value is None or isinstance(value, bool | int | float | str)
    require(
        single and not (isinstance(value, float) and not math.isfinite(value)),
        "a single, finite value",
        shown(value),
    )
    require(is_text(value), TEXT_RULE, shown(value))
    require(is_exact(value), EXACT_RULE, shown(value))
    return value


def is_exact(value: Any) -> bool:
    """False for a whole number that is not the same as a double; one of 320 digits is not even
    near to one.
    """
    return not isinstance(value, int) or abs(value) <= MAX_INT


def require(holds: bool, rule: str, got: str, hint: str = "") -> None:
    """A rule inside a pydantic model."""
    if not holds:
        raise PydanticCustomError("rule", "{rule}", {"rule": rule, "got": got, "hint": hint})


Scalar = Annotated[Any, AfterValidator(plain)]


class Strict(BaseModel):
    """No conversions, no unknown keys, no changes afterwards."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Conditional(Strict):
    """A parameter that exists only when others have one of the given values."""

    when: Annotated[
        dict[
            str,
            Annotated[
                list[Scalar],
                BeforeValidator(as_list, json_schema_input_type=Any),
                Field(min_length=1),
            ],
        ],
        Field(min_length=1),
    ] = {}

    def applies(self, params: Mapping[str, Any]) -> bool:
        """Whether the parameter exists beside the values chosen so far."""
        return all(
            name in params and same_in(params[name], values) for name, values in self.when.items()
        )


class Interval(Conditional):
    """What int and float parameters have in common; both ends are included."""

    low: Real
    high: Real
    log: bool = False
    step: Real | None = None

    @model_validator(mode="after")
    def _rules(self) -> Interval:
        require(
            self.low < self.high,
            "low < high",
            f"(low={self.low}, high={self.high})",
            "A value that does not change belongs under experiment.",
        )
        require(not self.log or self.low > 0, "low > 0 where log is on", f"low={self.low}")
        require(
            not (self.log and self.step is not None),
            "either log or step",
            f"(log=true, step={self.step})",
        )
        span = self.high - self.low
        require(
            math.isfinite(span),
            "high - low is a finite number",
            f"(low={self.low}, high={self.high})",
        )
        if self.step is not None:
            steps = span / self.step if self.step > 0 else 0.0
            # 0.3 - 0.1 is a little less than 0.2
            require(steps > 1 - 1e-8, "0 < step <= high - low", f"step={self.step}")
            require(
                steps <= MAX_INT, f"at most {MAX_INT} steps from low to high", f"step={self.step}"
            )
            require(
                abs(steps - round(steps)) < 1e-8,
                "high is reached by whole steps from low",
                f"(low={self.low}, high={self.high}, step={self.step})",
            )
        return self

    def ends(self) -> list[Any]:
        return [self.low, self.high]

    def problem(self, value: Any) -> str | None:
        """The rule that `value` breaks, or None."""
        # NaN; math's needs a float for it
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            return "a number"
        if not self.low <= value <= self.high:
            return f"{self.low} <= value <= {self.high}"
        if (
            self.step is not None
            and abs((steps := (value - self.low) / self.step) - round(steps)) > 1e-8
        ):
            return f"low plus whole steps of {self.step}"
        return None


class IntParameter(Interval):
    type: Literal["int"]
    low: Whole
    high: Whole
    step: Whole | None = None

    def problem(self, value: Any) -> str | None:
        return super().problem(value) if isinstance(value, int) else "a whole number"


class FloatParameter(Interval):
    type: Literal["float"]


class CategoricalParameter(Conditional):
    type: Literal["categorical"]
    choices: list[Scalar]

    @model_validator(mode="after")
    def _rules(self) -> CategoricalParameter:
        require(
            len(self.choices) > 1,
            "two choices or more",
            shown(self.choices),
            "A value that does not change belongs under experiment.",
        )
        twice = repeated(self.choices)
        require(
            not twice,
            "each choice stands once",
            f"{shown(twice[0]) if twice else ''} again",
            "To the study 1, 1.0 and true are one.",
        )
        return self

    def ends(self) -> list[Any]:
        return [self.choices[0], self.choices[-1]]

    def problem(self, value: Any) -> str | None:
        return None if kind_and(value) in self._known else self._rule

    @cached_property
    def _known(self) -> frozenset[Any]:
        # there may be thousands, and as many conditions on them
        return frozenset(map(kind_and, self.choices))

    @cached_property
    def _rule(self) -> str:
        return f"one of {shown(self.choices)}"


Parameter = IntParameter | FloatParameter | CategoricalParameter
PARAMETER: TypeAdapter[Parameter] = TypeAdapter(Annotated[Parameter, Field(discriminator="type")])


class Asha(Strict):
    """Asynchronous successive halving (Li et al., 2020): at each rung the best
    1/reduction_factor go on.
    """

    grace_epochs: Annotated[int, Field(ge=1)] = 1
    reduction_factor: Annotated[int, Field(ge=2, le=100)] = 3


def duration(value: Any) -> Any:
    """A text that is a duration."""
    require(isinstance(value, str), RULE, shown(value))
    try:
        seconds_of(value)
    except ValueError as error:
        require(False, str(error), shown(value))
    return value


class Stop(Strict):
    """What ends a search before its last trial; whichever comes first.

    `epochs` in all, `time` on the wall clock, `gpu_hours`, a `target` of the metric, `plateau`
    trials without a better one.
    """

    epochs: Annotated[int, Field(ge=1)] | None = None
    time: Annotated[str | None, BeforeValidator(duration)] = None
    gpu_hours: Annotated[Real, Field(gt=0)] | None = None
    target: Real | None = None
    plateau: Annotated[int, Field(ge=1)] | None = None


class SearchSettings(Strict):
    """How the search goes."""

    metric: Metric = "val_acc"
    mode: Mode | None = None
    trials: Annotated[int, Field(ge=1, le=1_000_000)] = 30
    max_epochs: Annotated[int, Field(ge=1, le=1_000_000)] = 12
    sampler: Literal["tpe", "random", "gp"] = "tpe"
    scheduler: Literal["asha", "none"] = "asha"
    asha: Asha = Asha()
    stop: Stop = Stop()
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    start_with: list[dict[str, Scalar]] = []

    @model_validator(mode="after")
    def _rules(self) -> SearchSettings:
        expected = mode_of(self.metric)
        require(
            self.mode in (None, expected),
            f"mode is {expected} for {self.metric}",
            f"mode={self.mode}",
            "Leave mode out.",
        )
        grace = self.asha.grace_epochs
        require(
            grace <= self.max_epochs,
            "asha.grace_epochs <= max_epochs",
            f"(grace_epochs={grace}, max_epochs={self.max_epochs})",
        )
        target = self.stop.target
        possible = target is None or (target > 0 and (target <= 1 or expected == "min"))
        require(possible, f"stop.target is a {self.metric} that can be reached", f"target={target}")
        return self

    @property
    def objective(self) -> Objective:
        return Objective(self.metric, mode_of(self.metric))

    def rungs(self) -> list[int]:
        """The epochs after which ASHA may stop a trial; empty where halving cannot work."""
        if self.scheduler == "none":
            return []
        epochs = (self.asha.grace_epochs * self.asha.reduction_factor**k for k in itertools.count())
        return list(itertools.takewhile(lambda epoch: epoch < self.max_epochs, epochs))


def same_in(value: Any, values: list[Any]) -> bool:
    """Membership that tells True from 1 and 1 from 1.0."""
    return any(value == other and type(value) is type(other) for other in values)


def kind_and(value: Any) -> tuple[Any, Any]:
    """What a set must hold to do the same: to a set True, 1 and 1.0 are one."""
    return type(value), value


def repeated(values: list[Any]) -> list[Any]:
    """The values that equal an earlier one, as Python and so Optuna see it: 1, 1.0 and True are
    equal.
    """
    seen: set[Any] = set()
    return [value for value in values if value in seen or seen.add(value)]  # type: ignore[func-returns-value]


def known_keys(keys: tuple[str | int, ...], kind: str) -> list[str]:
    """The keys that could stand where an unknown one was found; `kind` is the type of a
    parameter.
    """
    if keys[0] == "space":
        model: type[BaseModel] = CategoricalParameter if kind == "categorical" else IntParameter
    else:
        nested: dict[str, type[BaseModel]] = {"asha": Asha, "stop": Stop}
        model = nested.get(str(keys[1]), SearchSettings) if len(keys) > 2 else SearchSettings
    return sorted(model.model_fields)
