"""Write out the registered models and datasets that a document names short."""

from __future__ import annotations

from typing import Any

from retort import dataset_ref, model_ref
from retort.errors import FieldProblem, SpecError, UserError
from retort.model_ref import Known

_HOLDERS = frozenset({"weights", "candidates", "networks"})
"""Fields under which weights are named, in a spec and at the end of a sweep's dotted paths."""
_KEYED = "adapters"
"""The field whose keys name weights."""
_DATASET = "dataset"
"""The field under which a dataset is named."""


def complete(document: Any, known: Known, datasets: Known | None = None) -> Any:
    """Return *document* with every reference to a registered model or dataset written out whole.

    Whether a whole one is registered is not asked here. A stored spec thereby holds the whole digest, whatever is
    registered later.

    Raises:
        SpecError: a reference means no model, or several; each problem lists those that there are.

    """
    problems: list[FieldProblem] = []
    completed = _completed(document, known, (), problems, inside=False)
    if datasets is not None:
        completed = _with_datasets(completed, datasets, (), problems, inside=False)
    if problems:
        raise SpecError(problems)
    return completed


def _completed(value: Any, known: Known, path: tuple[str, ...], problems: list[FieldProblem], *, inside: bool) -> Any:
    if isinstance(value, dict):
        keyed = path[-1:] == (_KEYED,)
        return {
            _completed(key, known, (*path, str(key)), problems, inside=keyed): _completed(
                one, known, (*path, str(key)), problems, inside=inside or _holds(key)
            )
            for key, one in value.items()
        }
    if isinstance(value, list):
        return [_completed(one, known, (*path, str(n)), problems, inside=inside) for n, one in enumerate(value)]
    if not inside or not isinstance(value, str) or model_ref.parse(value) is not None:
        return value
    try:
        return str(model_ref.complete(value, known) or value)
    except UserError as error:
        problems.append(FieldProblem(".".join(path), error.message, error.hint))
        return value


def _with_datasets(
    value: Any, known: Known, path: tuple[str, ...], problems: list[FieldProblem], *, inside: bool
) -> Any:
    """Write out the datasets; the newest of a name is so fixed for good."""
    if isinstance(value, dict):
        return {
            key: _with_datasets(one, known, (*path, str(key)), problems, inside=inside or _names_dataset(key))
            for key, one in value.items()
        }
    if isinstance(value, list):
        return [_with_datasets(one, known, (*path, str(n)), problems, inside=inside) for n, one in enumerate(value)]
    if not inside or not isinstance(value, str):
        return value
    try:
        return str(dataset_ref.complete(value, known) or value)
    except UserError as error:
        problems.append(FieldProblem(".".join(path), error.message, error.hint))
        return value


def _names_dataset(key: object) -> bool:
    return isinstance(key, str) and key.rpartition(".")[2] == _DATASET


def _holds(key: object) -> bool:
    return isinstance(key, str) and key.rpartition(".")[2] in _HOLDERS
