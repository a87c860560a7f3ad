"""The search space of a sweep: its points, and the job specs they make."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from retort.errors import FieldProblem, SpecError
from retort.spec import JobSpec, SweepSpec, parse_spec
from retort.states import JobState, TrialState

Point = Mapping[str, Any]
"""A value for each parameter, by its path."""

_MOST_CHECKED = 1024
"""Combinations of extreme values that are tried where there is no end of points."""


def child(sweep: SweepSpec, number: int, point: Point) -> JobSpec:
    """Return the spec of trial *number* at *point*.

    Raises:
        SpecError: there is no such field, or the combination is no valid spec.

    """
    spec = parse_spec(_written(sweep, point, name=f"{sweep.name}-{number:04d}"))
    if not isinstance(spec, JobSpec):
        raise SpecError([FieldProblem("task", "only distillation can be searched", "leave task out")])
    return spec


def grid(sweep: SweepSpec) -> Iterator[Point]:
    """Yield every combination of the grid, the last parameter varying fastest."""
    values = [domain.every() or () for domain in sweep.parameters.values()]
    for combination in itertools.product(*values):
        yield dict(zip(sweep.parameters, combination, strict=True))


def check(sweep: SweepSpec) -> list[JobSpec]:
    """Return the specs of all grid points, or of the ranges' extremes.

    Raises:
        SpecError: the base or a combination is no valid spec; each problem names the parameter it comes from.

    """
    try:
        parse_spec(sweep.base)
    except SpecError as error:
        raise SpecError([FieldProblem(f"base.{one.path}", one.message, one.hint) for one in error.problems]) from error
    specs = []
    for point in grid(sweep) if sweep.search.strategy == "grid" else _extremes(sweep):
        try:
            specs.append(child(sweep, 1, point))
        except SpecError as error:
            raise SpecError([_placed(sweep, point, one) for one in error.problems]) from error
    return specs


def _extremes(sweep: SweepSpec) -> Iterator[Point]:
    """Yield each parameter's values or ends with the others at their first, then the corners of the space."""
    ends = {path: domain.ends() for path, domain in sweep.parameters.items()}
    first = {path: values[0] for path, values in ends.items()}
    for path, values in ends.items():
        for value in values:
            yield {**first, path: value}
    for corner in itertools.islice(itertools.product(*ends.values()), _MOST_CHECKED):
        yield dict(zip(ends, corner, strict=True))


def _placed(sweep: SweepSpec, point: Point, problem: FieldProblem) -> FieldProblem:
    """Say of which parameter a problem of a child speaks."""
    given = ", ".join(f"{path} = {json.dumps(value)}" for path, value in point.items())
    named = [path for path in _assignments(sweep, point) if _within(problem.path, path) or _within(path, problem.path)]
    if named:
        leader = next((path for path, domain in sweep.parameters.items() if named[0] in domain.also), None)
        place = named[0] if leader is None else f"{leader}.also.{named[0]}"
        return FieldProblem(f"parameters.{place}", f"{problem.message} (with {given})", problem.hint)
    return FieldProblem("parameters", f"with {given}, {problem.path}: {problem.message}", problem.hint)


def _within(path: str, outer: str) -> bool:
    return path == outer or path.startswith(f"{outer}.")


def _assignments(sweep: SweepSpec, point: Point) -> dict[str, Any]:
    """Return what is set where, the outer places first, so that an inner one changes what an outer one has set."""
    found = dict(point)
    for path, value in point.items():
        domain = sweep.parameters[path]
        for other, others in domain.also.items():
            found[other] = others[domain.values.index(value)]
    return dict(sorted(found.items(), key=lambda item: item[0].count(".")))


def _written(sweep: SweepSpec, point: Point, *, name: str) -> dict[str, Any]:
    """Return the document of a trial.

    A value goes into the base as it is written, so that what follows from it (a recipe's losses, a model's published
    weights) follows from the new value. Where the base leaves the place out because a preset fills it in, as with
    ``distillation.losses.0``, it goes into the base with its presets written out.
    """
    document: dict[str, Any] = {**json.loads(json.dumps(sweep.base)), "name": name}
    late = _assign_all(document, _assignments(sweep, point))
    if not late:
        return document
    document = parse_spec(document).model_dump(mode="json")
    if missing := _assign_all(document, late):
        raise SpecError([_nowhere(document, path) for path in missing])
    return document


def _assign_all(document: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Set all values in order; return those whose places are not there."""
    return {path: value for path, value in values.items() if not _assign(document, path.split("."), value)}


def _assign(document: dict[str, Any], keys: list[str], value: Any) -> bool:
    """Set the value where *keys* lead; False when they lead into a list that is not there, or is shorter."""
    here: Any = document
    for key, following in itertools.zip_longest(keys, keys[1:]):
        place: Any = key
        if isinstance(here, list):
            if not key.isdecimal() or int(key) >= len(here):
                return False
            place = int(key)
        elif not isinstance(here, dict):
            return False
        if following is None:
            here[place] = value
        elif isinstance(here, dict) and not isinstance(here.get(place), dict | list):
            if following.isdecimal():
                return False
            here[place] = {}
        here = here[place]
    return True


def _nowhere(document: dict[str, Any], path: str) -> FieldProblem:
    """Say how far *path* leads."""
    here: Any = document
    reached: list[str] = []
    for key in path.split("."):
        found = here.get(key) if isinstance(here, dict) else None
        if isinstance(here, list) and key.isdecimal() and int(key) < len(here):
            found = here[int(key)]
        if not isinstance(found, dict | list):
            break
        here = found
        reached.append(key)
    place = ".".join(reached) or "the spec"
    told = f"{place} has {len(here)} items, counted from 0" if isinstance(here, list) else f"{place} has no such place"
    return FieldProblem(path, f"leads nowhere: {told}", "a dotted path into the spec, such as training.lr")


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One point of the search space, with the outcome of its trial."""

    number: int
    """Counted from 1."""
    parameters: Mapping[str, Any]
    outcome: TrialState | None
    """None while it is under way."""
    value: float | None = None
    """The best that its objective has reached."""
    job_id: str | None = None
    """None where the combination was no valid spec."""
    job_state: JobState | None = None
    pruned: bool = False
    """It has been told to stop because others are better."""
    reason: str | None = None
    ended_at: float | None = None
    curve: Mapping[int, float] = field(default_factory=dict)
    """The objective by epoch."""
    num_epochs: int = 0
    """How many epochs its spec asks for."""
