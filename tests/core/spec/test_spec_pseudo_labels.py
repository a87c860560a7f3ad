"""The section on pseudo-labels: what it takes, and how its scores must stand to each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from retort.errors import SpecError
from retort.spec import parse_spec

Document = Callable[..., dict[str, Any]]


def test_a_folder_is_enough(document: Document):
    section = parse_spec(document(pseudo_labels={"path": "more"})).pseudo_labels
    assert section is not None
    assert section.model_dump() == {
        "path": "more", "confidence": 0.8, "per_class": {}, "ignore_from": 0.3, "review": "none", "sample": 50,
        "check_labels": False, "copies": "copies",
    }  # fmt: skip
    assert parse_spec(document()).pseudo_labels is None


def test_each_class_has_its_threshold_and_the_lowest_score_is_known(document: Document):
    section = parse_spec(document(pseudo_labels={"path": "more", "per_class": {"RBC": 0.6}})).pseudo_labels
    assert section is not None
    assert (section.threshold("RBC"), section.threshold("WBC"), section.lowest) == (0.6, 0.8, 0.3)
    bare = section.model_copy(update={"ignore_from": None})
    assert bare.lowest == 0.6


@pytest.mark.parametrize(
    ("section", "path"),
    [
        ({}, "pseudo_labels.path"),
        ({"path": "a", "confidence": 1.0}, "pseudo_labels.confidence"),
        ({"path": "a", "confidence": "0.8"}, "pseudo_labels.confidence"),
        ({"path": "a", "confidence": 0.3}, "pseudo_labels.ignore_from"),
        ({"path": "a", "per_class": {"RBC": 0.2}}, "pseudo_labels.ignore_from"),
        ({"path": "a", "per_class": {"RBC": 0}}, "pseudo_labels.per_class.RBC"),
        ({"path": "a", "review": "some"}, "pseudo_labels.review"),
        ({"path": "a", "sample": 0}, "pseudo_labels.sample"),
        ({"path": "a", "confidnce": 0.5}, "pseudo_labels.confidnce"),
    ],
)
def test_a_mistake_is_told_where_it_is(document: Document, section: dict[str, Any], path: str):
    with pytest.raises(SpecError) as caught:
        parse_spec(document(pseudo_labels=section))
    assert [problem.path for problem in caught.value.problems] == [path]
