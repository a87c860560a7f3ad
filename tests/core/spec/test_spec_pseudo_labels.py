"""The section on pseudo-labels: what it takes, and how its scores must stand to each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from retort.errors import FieldProblem, SpecError
from retort.spec import JobSpec, parse_spec

Document = Callable[..., dict[str, Any]]


def test_a_folder_is_enough(document: Document):
    section = parse_spec(document(pseudo_labels={"path": "more"})).pseudo_labels
    assert section is not None
    assert section.model_dump() == {
        "path": "more", "confidence": 0.8, "per_class": {}, "ignore_from": 0.3, "review": "none", "sample": 50,
        "check_labels": False, "copies": "copies", "recipe": "plain", "thresholds": "fixed", "labelled_share": 0.0,
        "burn_in": 0.0, "ramp": 0.0,
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


RECIPE = {"path": "/data/more", "recipe": "few_labels"}


def test_the_recipe_for_few_labels_is_one_field_and_is_stored_written_out(document: Callable[..., dict[str, Any]]):
    found = parse_spec(document(pseudo_labels=RECIPE))
    assert isinstance(found, JobSpec)
    assert found.pseudo_labels is not None
    assert (found.pseudo_labels.confidence, found.pseudo_labels.ignore_from) == (0.6, 0.1)
    assert (found.pseudo_labels.labelled_share, found.pseudo_labels.burn_in, found.pseudo_labels.ramp) == (
        0.5,
        0.1,
        0.2,
    )
    assert found.pseudo_labels.thresholds == "class_share"
    assert parse_spec(found.model_dump(mode="json")) == found
    own = parse_spec(document(pseudo_labels={**RECIPE, "confidence": 0.5, "burn_in": 0}))
    assert isinstance(own, JobSpec)
    assert own.pseudo_labels is not None
    assert (own.pseudo_labels.confidence, own.pseudo_labels.burn_in, own.pseudo_labels.ramp) == (0.5, 0.0, 0.2)


def test_labels_from_before_there_were_recipes_mean_what_they_meant(document: Callable[..., dict[str, Any]]):
    found = parse_spec(document(pseudo_labels={"path": "/data/more", "confidence": 0.8, "ignore_from": 0.3}))
    assert isinstance(found, JobSpec)
    assert found.pseudo_labels is not None
    assert not found.pseudo_labels.mixes
    assert found.pseudo_labels.thresholds == "fixed"


@pytest.mark.parametrize(
    ("changes", "path", "said"),
    [
        ({"burn_in": 0.8, "ramp": 0.2}, "pseudo_labels.burn_in", "no epoch"),
        ({"burn_in": 1}, "pseudo_labels.burn_in", "less than 1"),
        ({"ignore_from": 0.3}, "pseudo_labels.ignore_from", "below"),
        ({"thresholds": "fixed", "ignore_from": 0.6}, "pseudo_labels.ignore_from", "below"),
        ({"labelled_share": 1.5}, "pseudo_labels.labelled_share", "1"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused_with_its_place(
    changes: dict[str, Any], path: str, said: str, document: Callable[..., dict[str, Any]],
    problems: Callable[[Any], list[FieldProblem]],
):  # fmt: skip
    (problem,) = problems(document(pseudo_labels={**RECIPE, **changes}))
    assert problem.path == path
    assert said in problem.message


def test_a_part_of_the_images_does_not_go_with_a_floor_of_labelled_ones(
    document: Callable[..., dict[str, Any]], problems: Callable[[Any], list[FieldProblem]]
):
    (problem,) = problems(document(pseudo_labels=RECIPE, training={"fraction": 0.5}))
    assert problem.path == "training.fraction"
