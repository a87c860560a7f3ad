"""Validate a spec against this service: data and models must exist."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from retort import model_ref
from retort.data import catalog, teacher_names
from retort.errors import DataError, FieldProblem, SpecError
from retort.model_ref import Known, ModelRef
from retort.spec import AnySpec, JobSpec, parse_spec, weight_names
from retort.spec.references import complete


def read(document: Any, known: Known) -> AnySpec:
    """Parse a spec; write short digests out, suggest missing ones.

    Raises:
        SpecError: the document is wrong.

    """
    try:
        return parse_spec(complete(document, known))
    except SpecError as error:
        raise SpecError([_with_newest(problem, document, known) for problem in error.problems]) from error


@dataclass(frozen=True, slots=True)
class Registry:
    """Registered models, as far as specs are checked against them."""

    digests: Known
    classes: Callable[[ModelRef], Sequence[str] | None]
    """Class names of a registered model; None where they are not known."""


def admit(spec: AnySpec, data_dirs: Sequence[Path], registry: Registry) -> tuple[str, ...]:
    """Check that data and models are known; return what to warn of.

    The data must lie in a folder that the operator allows, or be known. Whether the data is there, only the worker can
    see for sure; where it can be seen from here, registered teachers have to know its classes.

    Raises:
        SpecError: something is not so.

    """
    problems = [problem for place, path in _folders(spec) if (problem := _misplaced(place, path, data_dirs))]
    if spec.data.dataset is not None and (problem := _unknown(spec.data.dataset)):
        problems.append(problem)
    problems += _unregistered(spec, registry.digests)
    if problems:
        raise SpecError(problems)
    return _classes_unknown(spec, data_dirs, registry)


def _classes_unknown(spec: AnySpec, data_dirs: Sequence[Path], registry: Registry) -> tuple[str, ...]:
    """Return which classes teachers do not know; refuse one that must and knows none."""

    @cache
    def names_of(weights: str) -> Sequence[str] | None:
        reference = model_ref.parse(weights)
        return None if reference is None else registry.classes(reference)

    if not any(names_of(weights) for weights in weight_names(spec).values()):
        return ()  # the common case costs no look at the data
    names = teacher_names.names_of_data(spec, data_dirs)
    if names is None:
        return ()
    if problems := teacher_names.mismatches(spec, names, names_of):
        raise SpecError(problems)
    return tuple(teacher_names.warnings(spec, names, names_of))


def _unregistered(spec: AnySpec, known: Known) -> Iterator[FieldProblem]:
    for path, name in weight_names(spec).items():
        reference = model_ref.parse(name) if name.startswith(model_ref.PREFIX) else None
        if reference is None:
            continue
        digests = known(reference.name)
        if reference.sha256 not in digests:
            yield FieldProblem(path, *model_ref.unknown(reference, digests))


def _with_newest(problem: FieldProblem, document: Any, known: Known) -> FieldProblem:
    name = re.fullmatch(rf"{model_ref.PREFIX}({model_ref.NAME})", str(_at(document, problem.path)))
    digests = known(name[1]) if name is not None else ()
    if name is None or not digests:
        return problem
    return FieldProblem(problem.path, problem.message, f"the newest is {model_ref.ModelRef(name[1], digests[0])}")


def _at(document: Any, path: str) -> Any:
    """Return what stands in *document* at a dotted path; None where there is nothing."""
    here = document
    for part in path.split("."):
        if isinstance(here, list) and part.isdecimal() and int(part) < len(here):
            here = here[int(part)]
        else:
            here = here.get(part) if isinstance(here, dict) else None
    return here


def _unknown(name: str) -> FieldProblem | None:
    try:
        catalog.find(name)
    except DataError as error:
        return FieldProblem("data.dataset", error.message, error.hint)
    return None


def _folders(spec: AnySpec) -> Iterator[tuple[str, str]]:
    """Yield what the spec calls folders of images, with where it does."""
    if spec.data.path is not None:
        yield "data.path", spec.data.path
    if not isinstance(spec, JobSpec):
        return
    if spec.data.unlabelled is not None:
        yield "data.unlabelled.path", spec.data.unlabelled.path
    if spec.pseudo_labels is not None:
        yield "pseudo_labels.path", spec.pseudo_labels.path


def _misplaced(place: str, path: str, data_dirs: Sequence[Path]) -> FieldProblem | None:
    if not path.isprintable():
        return FieldProblem(place, "holds characters that no path should", "use printable characters")
    given, allowed = Path(path), [folder.expanduser() for folder in data_dirs]
    # A worker looks for a relative path in each of the folders.
    candidates = [given] if given.is_absolute() else [folder / given for folder in allowed]
    try:
        places = [candidate.resolve() for candidate in candidates]
    except (OSError, RuntimeError) as error:  # a loop of links; too long a name
        return FieldProblem(place, f"cannot be followed: {error}")
    if any(found.is_relative_to(folder.resolve()) for found in places for folder in allowed):
        return None
    folders = ", ".join(str(folder) for folder in data_dirs) or "none"
    return FieldProblem(place, f"{path!r} lies outside the folders that the operator allows", f"allowed: {folders}")
