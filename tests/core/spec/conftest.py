"""The smallest spec that is complete, for the spec's tests to change."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from retort.errors import FieldProblem, SpecError
from retort.spec import parse_spec

SMALLEST: dict[str, Any] = {
    "name": "digits-v8n",
    "data": {"path": "/data/digits"},
    "teacher": {"weights": "yolo11s.pt"},
}

Document = Callable[..., dict[str, Any]]


@pytest.fixture
def document() -> Document:
    """Return the smallest document with sections put in or replaced."""
    return lambda **sections: {**copy.deepcopy(SMALLEST), **sections}


@pytest.fixture
def problems() -> Callable[[Any], list[FieldProblem]]:
    """Return what is wrong with a document."""

    def find(document: Any) -> list[FieldProblem]:
        with pytest.raises(SpecError) as caught:
            parse_spec(document)
        return list(caught.value.problems)

    return find
