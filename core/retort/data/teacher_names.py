"""Tell early whether teachers know the classes of the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from retort import class_names, dataset_ref
from retort.data import catalog, description
from retort.data.text_files import readable
from retort.dataset_ref import DatasetRef
from retort.errors import DataError, FieldProblem
from retort.spec import AnySpec, JobSpec

NamesOf = Callable[[str], Sequence[str] | None]
"""Class names of the network that a spec names; None where they are not known here."""


def names_of_data(
    spec: AnySpec, data_dirs: Sequence[Path], registered: Callable[[DatasetRef], Sequence[str] | None]
) -> Sequence[str] | None:
    """Return the class names of the data; None where they cannot be read here.

    What is wrong with the data is told elsewhere. *registered* knows the classes of registered datasets.
    """
    if (reference := dataset_ref.parse(spec.data.dataset or "")) is not None:
        return registered(reference)
    try:
        if spec.data.dataset is not None:
            return catalog.find(spec.data.dataset).names
        assert spec.data.path is not None
        with readable():
            return description.read_names(description.find(spec.data.path, data_dirs))
    except (DataError, OSError):
        return None


ONE_CLASS_HINT = (
    f"a teacher of one class named {class_names.ITEM}, such as a job with single_cls publishes; "
    "or teacher.train, which trains one on this data"
)


def not_one_class(known: Sequence[str]) -> str:
    """Return what is wrong with a teacher of the classes *known* for ``single_cls``."""
    return f"knows {class_names.listed(known)}, and training.single_cls trains one class, {class_names.ITEM}"


def mismatches(spec: AnySpec, names: Sequence[str], names_of: NamesOf) -> list[FieldProblem]:
    """Return the teachers of *spec* that know none of the classes *names*.

    There are none where no loss has to know one.
    """
    if isinstance(spec, JobSpec) and spec.training.single_cls:
        return [
            FieldProblem(path, not_one_class(known), ONE_CLASS_HINT)
            for path, known in _teachers(spec, names_of)
            if tuple(known) != (class_names.ITEM,)
        ]
    if not isinstance(spec, JobSpec) or not (needing := _needing(spec)):
        return []
    return [
        FieldProblem(
            path,
            f"knows none of the data's classes, and {needing} needs class names in common",
            class_names.warning(names, known, "it")
            or f"it knows {class_names.listed(known)}, the data has {class_names.listed(names)}",
        )
        for path, known in _teachers(spec, names_of)
        if not class_names.pairs(dict(enumerate(names)), dict(enumerate(known)))
    ]


def warnings(spec: AnySpec, names: Sequence[str], names_of: NamesOf) -> list[str]:
    """Return a sentence for each teacher that lacks classes of *names*."""
    if not isinstance(spec, JobSpec) or spec.training.single_cls:
        return []
    found = [class_names.missing(names, known, path) for path, known in _teachers(spec, names_of)]
    return [sentence for sentence in found if sentence is not None]


def _needing(spec: JobSpec) -> str | None:
    """Return what needs classes in common with the teachers."""
    if spec.pseudo_labels is not None:
        return "pseudo_labels"
    kinds = [loss.kind for loss in spec.distillation.losses if loss.needs_classes and loss.weight]
    return f"the loss {kinds[0]}" if kinds else None


def _teachers(spec: JobSpec, names_of: NamesOf) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the teachers whose class names are known, with their places in the spec."""
    given = {"teacher.weights": spec.teacher.weights}
    given |= {f"teacher.ensemble.{index}.weights": one.weights for index, one in enumerate(spec.teacher.ensemble)}
    for path, weights in given.items():
        names = None if weights is None else names_of(weights)
        if names is not None:
            yield path, names
