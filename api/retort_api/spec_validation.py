"""Validate a spec against this service: data and models must exist."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, Self

from retort import dataset_ref, model_ref
from retort.access import Principal, Scope
from retort.data import catalog, ceilings, teacher_names
from retort.dataset_ref import DatasetRef
from retort.errors import FieldProblem, SpecError, UserError
from retort.model_ref import Known, ModelRef
from retort.settings import Settings
from retort.spec import AnySpec, JobSpec, exports_of, parse_spec, weight_names
from retort.spec.assignment import value_at
from retort.spec.references import complete


def read(document: Any, known: Known, datasets: Known | None = None) -> AnySpec:
    """Parse a spec; write short digests out, suggest missing ones.

    Raises:
        SpecError: the document is wrong.

    """
    try:
        return parse_spec(complete(document, known, datasets))
    except SpecError as error:
        raise SpecError([_with_newest(problem, document, known) for problem in error.problems]) from error


@dataclass(frozen=True, slots=True)
class Registry:
    """Registered models, as far as specs are checked against them."""

    digests: Known
    classes: Callable[[ModelRef], Sequence[str] | None]
    """Class names of a registered model; None where they are not known."""
    datasets: Known
    """Digests of the datasets that are ready by a name, newest first."""
    classes_of_data: Callable[[DatasetRef], Sequence[str] | None]
    """Class names of a registered dataset; None where there is none."""


@dataclass(frozen=True, slots=True)
class Rights:
    """Rights of a caller to the machine's files and the trackers' accounts."""

    settings: Settings
    operator: bool
    """Whether they operate the service, so that both are theirs."""

    @classmethod
    def of(cls, caller: Principal, settings: Settings) -> Self:
        """Return the rights of *caller*."""
        return cls(settings, caller.is_operator and Scope.SERVICE_OPERATE in caller.scopes)

    @property
    def data_dirs(self) -> tuple[Path, ...]:
        """Folders of this machine that their data may lie in."""
        return self.settings.local_dirs if self.operator else self.settings.data_dirs


def admit(spec: AnySpec, rights: Rights, registry: Registry) -> tuple[str, ...]:
    """Check that data and models are known; return what to warn of.

    The spec must keep to the ceilings. The data must lie in a folder that the operator allows, or be known. Whether it
    is there, only the worker can see for sure; where it can be seen from here, registered teachers have to know its
    classes.

    Raises:
        SpecError: something is not so.

    """
    data_dirs = rights.data_dirs
    problems = ceilings.exceeded(spec.model_dump(mode="json"), rights.settings)
    problems += [problem for place, path in _folders(spec) if (problem := _misplaced(place, path, data_dirs))]
    problems += () if rights.operator else _trackers(spec, rights.settings)
    if spec.data.dataset is not None and (problem := _unknown(spec.data.dataset, registry)):
        problems.append(problem)
    problems += _unregistered(spec, registry.digests)
    if problems:
        raise SpecError(problems)
    return _classes_unknown(spec, data_dirs, registry)


def looked_at(spec: AnySpec, rights: Rights) -> Hashable:
    """Return everything of the spec that ``admit`` looks at."""
    exceeded = tuple(ceilings.exceeded(spec.model_dump(mode="json"), rights.settings))
    tracking = spec.tracking if isinstance(spec, JobSpec) else None
    return spec.data, tuple(weight_names(spec).items()), tuple(_folders(spec)), tracking, exceeded


def _classes_unknown(spec: AnySpec, data_dirs: Sequence[Path], registry: Registry) -> tuple[str, ...]:
    """Return which classes teachers do not know; refuse one that must and knows none."""

    @cache
    def names_of(weights: str) -> Sequence[str] | None:
        reference = model_ref.parse(weights)
        return None if reference is None else registry.classes(reference)

    if not any(names_of(weights) for weights in weight_names(spec).values()):
        return ()  # the common case costs no look at the data
    names = teacher_names.names_of_data(spec, data_dirs, registry.classes_of_data)
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
    name = re.fullmatch(rf"{model_ref.PREFIX}({model_ref.NAME})", str(value_at(document, problem.path)))
    digests = known(name[1]) if name is not None else ()
    if name is None or not digests:
        return problem
    return FieldProblem(problem.path, problem.message, f"the newest is {model_ref.ModelRef(name[1], digests[0])}")


def _unknown(name: str, registry: Registry) -> FieldProblem | None:
    try:
        if (reference := dataset_ref.parse(name)) is not None:
            dataset_ref.complete(name, registry.datasets)
        else:
            catalog.find(name)
    except UserError as error:
        brought = reference is None and registry.datasets(name)
        hint = f"one is registered by that name: dataset:{name}" if brought else error.hint
        return FieldProblem("data.dataset", error.message, hint)
    return None


def _folders(spec: AnySpec) -> Iterator[tuple[str, str]]:
    """Yield what the spec calls folders of images, with where it does."""
    if spec.data.path is not None:
        yield "data.path", spec.data.path
    for number, export in enumerate(exports_of(spec)):
        if (path := getattr(export, "calibration_path", None)) is not None:
            yield f"exports.{number}.calibration_path", path
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
    folders = ", ".join(str(folder) for folder in data_dirs)
    if not folders:
        hint = "name a registered data set, or let the operator set RETORT_DATA_DIRS"
        return FieldProblem(place, "names a folder of the service's machine, of which none is open to clients", hint)
    return FieldProblem(place, f"{path!r} lies outside the folders that the operator allows", f"allowed: {folders}")


def _trackers(spec: AnySpec, settings: Settings) -> Iterator[FieldProblem]:
    """Yield the places at trackers in which clients may not write.

    The trackers' keys are the operator's, and reach whatever the operator does.
    """
    if not isinstance(spec, JobSpec):
        return
    wandb, mlflow = spec.tracking.wandb, spec.tracking.mlflow
    if wandb is not None and wandb.mode == "online":
        place = f"{wandb.entity or ''}/{wandb.project}"
        if not _fits(place, settings.wandb_projects):
            yield _closed("tracking.wandb", f"the project {place!r}", "RETORT_WANDB_PROJECTS", settings.wandb_projects)
    if mlflow is not None and settings.mlflow_uri and not _fits(mlflow.experiment, settings.mlflow_experiments):
        what = f"the experiment {mlflow.experiment!r}"
        yield _closed("tracking.mlflow", what, "RETORT_MLFLOW_EXPERIMENTS", settings.mlflow_experiments)


def _fits(place: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(place, pattern) for pattern in patterns)


def _closed(path: str, what: str, setting: str, patterns: Sequence[str]) -> FieldProblem:
    hint = f"allowed: {', '.join(patterns)}" if patterns else f"leave it out, or let the operator set {setting}"
    return FieldProblem(path, f"{what} is not open to clients of this service", hint)
