"""Pydantic models of a search space file: its parameters and the settings of the search."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from text_recognizer.metrics import Metric, Mode, Objective, mode_of
from text_recognizer.text import shown
from tuning.space.durations import seconds_of
from tuning.space.strict_yaml import MAX_INT

# Far more than any search needs. They bound the time of all checks, which compare each with each.
MAX_PARAMETERS = 200
MAX_CHOICES = 200
MAX_CORNERS = 400  # ends and choices of all parameters: building 400 corners takes 2 s
MAX_POINTS = 1000  # of start_with

FIRST = 20  # the first rung is after this part of a training
LONG = 15  # epochs of a training for each epoch before its first rung


def require(holds: bool, rule: str, got: str, hint: str = "") -> None:
    """Raise an error of pydantic's unless `rule` holds."""
    # Pydantic would take a plain ValueError, too, but without the parts of a `Problem`.
    if not holds:
        raise PydanticCustomError("rule", "{rule}", {"rule": rule, "got": got, "hint": hint})


def single_value(value: Any) -> Any:
    """Accept everything but lists and mappings."""
    require(not isinstance(value, list | dict), "a single value", shown(value))
    return value


def as_list(value: Any) -> Any:
    """The values of a condition, which names one or a list of them."""
    return value if isinstance(value, list) else [value]


def duration(value: Any) -> Any:
    """Accept a text such as `30m`."""
    # `str`, because YAML reads a 30 without a unit as a number: it gets the rule for durations.
    seconds_of(str(value))
    return value


Whole = Annotated[int, Field(ge=-MAX_INT, le=MAX_INT)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Real = FiniteFloat
Scalar = Annotated[Any, AfterValidator(single_value)]
# Editors are told that a condition may be a single value: `json_schema_input_type`.
Values = Annotated[
    list[Scalar],
    BeforeValidator(as_list, json_schema_input_type=Any),
    Field(min_length=1, max_length=MAX_CHOICES),
]


class FrozenModel(BaseModel):
    """A model that converts nothing, knows all its keys and does not change."""

    # Without `strict` pydantic reads "3", 3.0 and True as whole numbers.
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Conditional(FrozenModel):
    """A parameter that may depend on others.

    Args:
        when: name of another parameter -> its values under which this one exists.
    """

    when: Annotated[dict[str, Values], Field(min_length=1, max_length=MAX_PARAMETERS)] = {}

    def applies(self, params: Mapping[str, Any]) -> bool:
        """Whether the parameter exists beside the values chosen so far."""
        # A parameter that does not exist itself meets no condition.
        return all(
            name in params and same_in(params[name], values) for name, values in self.when.items()
        )


class Interval(Conditional):
    """An int or float parameter from `low` to `high`, both included.

    Args:
        log: sample orders of magnitude evenly; needs low > 0 and no step.
        step: sample only low, low + step, … high.
    """

    low: Real
    high: Real
    log: bool = False
    step: Real | None = None

    @model_validator(mode="after")
    def _rules(self) -> Interval:
        ends = f"(low={self.low}, high={self.high})"
        hint = "A value that does not change belongs under experiment."
        require(self.low < self.high, "low < high", ends, hint)
        span = self.high - self.low  # infinite from -1e308 to 1e308
        require(math.isfinite(span), "high - low is a finite number", ends)
        if self.log:
            require(self.low > 0, "low > 0 if log is on", f"low={self.low}")
            require(self.step is None, "either log or step", f"(log=true, step={self.step})")
        elif self.step is not None:
            got, steps = f"step={self.step}", span / self.step if self.step > 0 else 0.0
            # With a tolerance: 0.3 - 0.1 is a little less than 0.2.
            require(steps > 1 - 1e-8, "0 < step <= high - low", got)
            require(steps <= MAX_INT, f"at most {MAX_INT} steps from low to high", got)
            # Optuna would lower `high` to the last step, with no more than a warning.
            require(is_whole(steps), "high is reached by whole steps from low", f"{ends}, {got}")
        return self

    def corner_values(self) -> list[Any]:
        """Both ends of the range."""
        return [self.low, self.high]

    def problem(self, value: Any) -> str | None:
        """The rule that `value` breaks, or None."""
        if type(value) not in (int, float):  # `isinstance` takes True for a number
            return "a number"
        if not self.low <= value <= self.high:
            return f"{self.low} <= value <= {self.high}"
        if self.step is not None and not is_whole((value - self.low) / self.step):
            return f"low plus whole steps of {self.step}"
        return None


class IntParameter(Interval):
    """A whole number."""

    type: Literal["int"]
    low: Whole
    high: Whole
    step: Whole | None = None

    def problem(self, value: Any) -> str | None:
        """The rule that `value` breaks, or None."""
        return super().problem(value) if isinstance(value, int) else "a whole number"


class FloatParameter(Interval):
    """A real number."""

    type: Literal["float"]


class CategoricalParameter(Conditional):
    """One of 2 to 200 `choices`."""

    type: Literal["categorical"]
    choices: Annotated[list[Scalar], Field(min_length=2, max_length=MAX_CHOICES)]

    @model_validator(mode="after")
    def _rules(self) -> CategoricalParameter:
        # Optuna finds a choice by ==, so the study would record all equal ones as the first.
        for index, choice in enumerate(self.choices):
            got = f"{shown(choice)} again"
            hint = "Optuna takes 1, 1.0 and true for the same choice."
            require(choice not in self.choices[:index], "each choice is listed once", got, hint)
        return self

    def corner_values(self) -> list[Any]:
        """All choices."""
        return self.choices

    def problem(self, value: Any) -> str | None:
        """The rule that `value` breaks, or None."""
        return None if same_in(value, self.choices) else f"one of {shown(self.choices)}"


Parameter = IntParameter | FloatParameter | CategoricalParameter
PARAMETER: TypeAdapter[Parameter] = TypeAdapter(Annotated[Parameter, Field(discriminator="type")])


class Asha(FrozenModel):
    """Asynchronous successive halving (Li et al., 2020). What is left out is derived.

    Args:
        type: `promotion` lets trials wait at a rung, `stopping` ends them there.
        grace_epochs: epochs of each trial before the first rung.
        reduction_factor: each rung is so many times as far as the one before it. When stopping, the
            best 1/reduction_factor of the trials go on.
        quota: of promotion: of the trials that come to a rung, quota/reduction_factor go on.
    """

    model_config = ConfigDict(json_schema_extra=lambda schema: schema.pop("required", None))

    type: Literal["promotion", "stopping"]
    grace_epochs: Count
    reduction_factor: Annotated[int, Field(ge=2, le=100)]
    quota: Annotated[int, Field(ge=1, le=99)] | None = None

    @model_validator(mode="after")
    def _rules(self) -> Asha:
        got = f"(quota={self.quota}, reduction_factor={self.reduction_factor})"
        below = self.quota is None or self.quota < self.reduction_factor
        require(below, "quota < reduction_factor", got, "Else every trial goes on.")
        only = self.quota is None or self.type == "promotion"
        require(only, "a quota for type: promotion only", f"quota={self.quota}", "Leave it out.")
        return self


def derived_asha(given: Mapping[str, Any], max_epochs: int) -> dict[str, Any]:
    """The values of `Asha` with those that were left out.

    The first rung is after a twentieth of a training's epochs; a third of the trials that come to a
    rung goes on to three times its epochs, or half of them to four times, where a training has
    fewer than `LONG` times the epochs of its first rung.
    """
    found = {"type": "promotion", **given}
    promoted = found["type"] == "promotion"
    found.setdefault("grace_epochs", max(1, round(max_epochs / FIRST)) if promoted else 1)
    grace = found["grace_epochs"]
    is_long = isinstance(grace, int) and max_epochs >= LONG * grace
    factor = found.setdefault("reduction_factor", 4 if promoted and not is_long else 3)
    if promoted and isinstance(factor, int):
        found.setdefault("quota", 1 if is_long else max(1, factor // 2))
    return found


class Stop(FrozenModel):
    """Limits that end a search before its last trial; the first one reached counts.

    Args:
        epochs: of all trials together.
        time: on the wall clock, over all resumes; a duration such as `30m`.
        gpu_hours: half a GPU for an hour is 0.5.
        target: value of the metric.
        plateau: trials in a row without a new best.
    """

    epochs: Annotated[int, Field(ge=1)] | None = None
    time: Annotated[str | None, BeforeValidator(duration)] = None
    gpu_hours: Annotated[Real, Field(gt=0)] | None = None
    target: Real | None = None
    plateau: Count | None = None


class SearchSettings(FrozenModel):
    """The section `search`: how the search goes."""

    metric: Metric = "val_acc"
    mode: Mode | None = None
    trials: Count = 30
    max_epochs: Count = 12
    sampler: Literal["gp", "tpe", "random"] = "gp"
    scheduler: Literal["asha", "none"] = "asha"
    asha: Asha = Field(default={}, validate_default=True)
    stop: Stop = Stop()
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    start_with: Annotated[
        list[Annotated[dict[str, Scalar], Field(max_length=MAX_PARAMETERS)]],
        Field(max_length=MAX_POINTS),
    ] = []

    @field_validator("asha", mode="before")
    @classmethod
    def _derive(cls, given: Any, info: ValidationInfo) -> Any:
        return derived_asha(given, info.data.get("max_epochs", 1)) if type(given) is dict else given

    @model_validator(mode="after")
    def _rules(self) -> SearchSettings:
        mode, grace, target = self.objective.mode, self.asha.grace_epochs, self.stop.target
        # Files of older versions name the mode.
        rule = f"mode is {mode} for {self.metric}"
        require(self.mode in (None, mode), rule, f"mode={self.mode}", "Leave mode out.")
        got = f"(grace_epochs={grace}, max_epochs={self.max_epochs})"
        require(grace <= self.max_epochs, "asha.grace_epochs <= max_epochs", got)
        # 98.5 for an accuracy of 98.5 % would never be reached.
        possible = target is None or (target > 0 and (target <= 1 or mode == "min"))
        require(possible, f"stop.target is a {self.metric} that can be reached", f"target={target}")
        return self

    @property
    def objective(self) -> Objective:
        return Objective(self.metric, mode_of(self.metric))

    def rungs(self) -> list[int]:
        """The epochs after which ASHA compares trials; none without ASHA."""
        epoch, found = self.asha.grace_epochs, []
        while self.scheduler == "asha" and epoch < self.max_epochs:
            found.append(epoch)
            epoch *= self.asha.reduction_factor
        return found

    @property
    def promotes(self) -> bool:
        """Whether trials wait at rungs."""
        return self.asha.type == "promotion" and bool(self.rungs())

    @property
    def policy(self) -> str:
        """Sampler and scheduler as the user sees them, such as `gp + promotion`."""
        return f"{self.sampler} + {self.asha.type if self.promotes else self.scheduler}"


# type of a parameter, or key of the section search -> its model
MODEL_OF: dict[str, type[BaseModel]] = {
    "int": IntParameter,
    "float": FloatParameter,
    "categorical": CategoricalParameter,
    "asha": Asha,
    "stop": Stop,
}


def same_in(value: Any, values: list[Any]) -> bool:
    """Whether `value` is one of `values`, where 1, 1.0 and True differ."""
    return any(value == other and type(value) is type(other) for other in values)


def is_whole(steps: float) -> bool:
    """Whether it is a whole number of steps, up to rounding."""
    return abs(steps - round(steps)) < 1e-8
