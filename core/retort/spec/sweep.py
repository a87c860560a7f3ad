"""Define the sweep spec: a job spec, varied fields, search."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from retort.constants import MAP, Role
from retort.schema import InputModel, distinct, field_error
from retort.spec.job import JobSpec
from retort.spec.validation_errors import shown

MOST_TRIALS = 1000
"""Trials that one sweep may have."""
_PATH = r"^[A-Za-z_][A-Za-z0-9_]*(\.([A-Za-z_][A-Za-z0-9_]*|0|[1-9][0-9]{0,3})){0,15}$"

FieldPath = Annotated[str, Field(pattern=_PATH, max_length=200)]
"""Dotted path into a job spec, with places in lists as numbers, such as ``distillation.losses.0.temperature``."""


def _number(value: object, read: ValidatorFunctionWrapHandler) -> Any:
    """Say once what a union would say for each of its members."""
    try:
        return read(value)
    except ValidationError:
        raise field_error(f"must be a number, not {shown(value)}", hint="such as 0.01, at most 1e12") from None


Number = Annotated[int | float, Field(ge=-1e12, le=1e12), WrapValidator(_number)]


class Domain(InputModel):
    """What one field may be: one of some values, or a number between two."""

    values: Annotated[tuple[Any, ...], Field(strict=False, max_length=64), AfterValidator(distinct)] = ()
    """Any values that the field takes, whole lists and mappings too."""
    also: dict[FieldPath, Annotated[tuple[Any, ...], Field(strict=False)]] = Field(default_factory=dict, max_length=8)
    """Other fields that move along with this one: for each a list as long as ``values``."""
    min: Number | None = None
    """The smallest number."""
    max: Number | None = None
    """The largest number; two whole numbers mean whole numbers between them."""
    type: Literal["int", "float"] | None = None
    """Which numbers are meant; left out, by how ``min``, ``max`` and ``step`` are written."""
    log: bool = False
    """Look at orders of magnitude, not at distances."""
    step: Number | None = Field(default=None, gt=0)
    """Distance of neighbouring numbers, from ``min`` on."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.values:
            self._only_values()
        elif self.min is None or self.max is None:
            raise field_error("gives no values", hint="values: [2.0, 4.0, 7.0], or min and max")
        else:
            self._only_range(self.min, self.max)
        return self

    def _only_values(self) -> None:
        given = [name for name in ("min", "max", "type", "step") if getattr(self, name) is not None]
        if given or self.log:
            raise field_error(f"has both values and {(given or ['log'])[0]}", hint="give values, or min and max")
        for path, others in self.also.items():
            if len(others) != len(self.values):
                message = f"has {len(others)} values where {len(self.values)} are wanted"
                raise field_error(message, at=f"also.{path}", hint="one for each of values")

    def _only_range(self, low: float, high: float) -> None:
        if self.also:
            raise field_error("moves along with no values", at="also", hint="give values, not min and max")
        if low >= high:
            raise field_error(f"must be below max, which is {high:g}", at="min", hint="swap them, or give values")
        if self.log and low <= 0:
            raise field_error("must be above 0 where log is true", at="min", hint="a small number, such as 0.0001")
        if self.log and self.step is not None:
            raise field_error("cannot be given with log", at="step", hint="leave one of them out")
        if self.type == "int" and any(value is not None and value != int(value) for value in (low, high, self.step)):
            raise field_error("is int, but min, max or step is no whole number", at="type", hint="float")

    @property
    def whole(self) -> bool:
        """Whether a number between two is a whole one."""
        if self.type is not None:
            return self.type == "int"
        return not any(isinstance(value, float) for value in (self.min, self.max, self.step))

    def ends(self) -> tuple[Any, ...]:
        """Return all values, or the two ends of the range."""
        if self.values:
            return self.values
        assert self.min is not None
        return (self._number(self.min), self._number(self.last))

    def every(self) -> tuple[Any, ...] | None:
        """Return all that a grid visits; None where there is no end of it."""
        if self.values or self.num_values is None:
            return self.values or None
        first, step = Decimal(str(self.min)), self._step()
        return tuple(self._number(float(first + number * step)) for number in range(self.num_values))

    @property
    def num_values(self) -> int | None:
        """How many there are; None where there is no end of them."""
        if self.values:
            return len(self.values)
        return None if self.log or (self.step is None and not self.whole) else self._num_steps() + 1

    @property
    def last(self) -> float:
        """The largest number that steps lead to."""
        assert self.min is not None
        assert self.max is not None
        if self.step is None:
            return self.max
        return float(Decimal(str(self.min)) + self._num_steps() * self._step())

    def _num_steps(self) -> int:
        return int((Decimal(str(self.max)) - Decimal(str(self.min))) / self._step())

    def _step(self) -> Decimal:
        return Decimal(str(1 if self.step is None else self.step))

    def _number(self, value: float) -> int | float:
        return int(value) if self.whole else float(value)


class Search(InputModel):
    """How the values are chosen."""

    strategy: Literal["grid", "random", "tpe"] = "tpe"
    """Every combination; at random; or by what earlier trials have shown (tree-structured Parzen estimator)."""
    trials: int | None = Field(default=None, ge=1, le=MOST_TRIALS)
    """How many; a grid has as many as there are combinations."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    """Seed of what the search draws."""
    startup: int = Field(default=10, ge=1, le=MOST_TRIALS)
    """Trials that ``tpe`` chooses at random before it learns from them."""
    pruning: bool = False
    """Cancel trials whose objective is worse, at the same epoch, than the median of those that have ended."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.strategy == "grid":
            if self.trials is not None:
                raise field_error("is not for a grid, which has every combination", at="trials", hint="leave it out")
            if self.pruning:
                raise field_error("is not for a grid, which wants every figure", at="pruning", hint="strategy: random")
        elif self.trials is None:
            raise field_error("is required", at="trials", hint=f"how many, up to {MOST_TRIALS}")
        return self


class Objective(InputModel):
    """What makes a trial good: the best value of one metric over its epochs."""

    metric: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(/[A-Za-z0-9_.-]+){1,3}$", max_length=100)] = MAP
    """Name of the metric, as the job reports it each epoch."""
    role: Annotated[Role, Field(strict=False)] = Role.STUDENT
    """Whose metric it is."""
    goal: Literal["maximize", "minimize"] = "maximize"
    """Whether large or small values are good."""

    def better(self, value: float, than: float | None) -> bool:
        """Return True if *value* is nearer to the goal."""
        if than is None:
            return True
        return value > than if self.goal == "maximize" else value < than

    def best(self, curve: Mapping[int, float]) -> float | None:
        """Return the best value of a curve; None where it has none."""
        choose = max if self.goal == "maximize" else min
        return choose(curve.values(), default=None)


class SweepSpec(InputModel):
    """A sweep: many jobs that differ in some fields, and the search for the best of them."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,55}$")]
    """Up to 56 letters, digits, dots, underscores and hyphens; its jobs are named after it."""
    base: dict[str, Any]
    """A whole job spec, from which every trial starts."""
    parameters: dict[FieldPath, Domain] = Field(min_length=1, max_length=16)
    """Fields of the spec, and what each may be."""
    search: Search
    """How the values are chosen, and how many times."""
    objective: Objective = Field(default_factory=Objective)
    """What makes one trial better than another."""
    concurrency: int = Field(default=1, ge=1, le=64)
    """Trials that are queued or run at a time."""
    failures: int = Field(default=5, ge=1, le=MOST_TRIALS)
    """Trials that may fail one after the other before the sweep gives up."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        moved = [other for domain in self.parameters.values() for other in domain.also]
        for number, path in enumerate(moved):
            if path in self.parameters or path in moved[:number]:
                raise field_error(f"{path!r} is given twice", at="parameters", hint="one parameter for each field")
        if self.search.strategy == "grid":
            self._countable()
        return self

    def _countable(self) -> None:
        for path, domain in self.parameters.items():
            if domain.num_values is None:
                raise field_error(
                    "has no end of values, which a grid must visit all", at=f"parameters.{path}",
                    hint="give values or a step, or another strategy",
                )  # fmt: skip
        if self.num_trials > MOST_TRIALS:
            raise field_error(
                f"make {self.num_trials:,} combinations", at="parameters",
                hint=f"a sweep has at most {MOST_TRIALS} trials: fewer values, or strategy: tpe",
            )  # fmt: skip

    @property
    def num_trials(self) -> int:
        """How many trials the sweep has when it is complete."""
        if self.search.trials is not None:
            return self.search.trials
        return math.prod(domain.num_values or 0 for domain in self.parameters.values())


def sweep_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the document as people write it."""
    base, sweep = JobSpec.model_json_schema(mode="validation"), SweepSpec.model_json_schema(mode="validation")
    described: Mapping[str, Any] = sweep["properties"]["base"]
    definitions = {**base.pop("$defs"), **sweep.pop("$defs"), "JobSpec": base}
    sweep["properties"]["base"] = {"$ref": "#/$defs/JobSpec", "description": described["description"]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **sweep, "$defs": definitions}
