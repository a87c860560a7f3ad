"""Further arms in a spec: what they need, and what would show nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from retort.errors import FieldProblem
from retort.spec import JobSpec, digest, parse_spec

Document = Callable[..., dict[str, Any]]
Problems = Callable[[Any], list[FieldProblem]]
ALL = ["class_weights", "assignment", "placebo", "self", "equal_time"]
LABELS = {"path": "/data/more"}
UNLABELLED = {"path": "/data/digits", "unlabelled": {"path": "/data/more"}}


def test_all_arms_may_stand_beside_the_control_and_none_is_the_default(document: Document):
    plain, all_of_them = parse_spec(document()), parse_spec(document(arms=ALL))
    assert isinstance(plain, JobSpec)
    assert isinstance(all_of_them, JobSpec)
    assert (plain.arms, all_of_them.arms) == ((), tuple(ALL))
    assert parse_spec(all_of_them.model_dump(mode="json")) == all_of_them
    assert digest(plain) != digest(all_of_them)


UNBALANCED = {"losses": [{"kind": "class_logits"}]}


@pytest.mark.parametrize(
    ("changes", "path", "said"),
    [
        ({"arms": ["placebo"], "control": False}, "arms", "need the control"),
        ({"arms": ["placebo", "placebo"]}, "arms.1", "listed twice"),
        ({"arms": ["nothing"]}, "arms.0", "nothing"),
        ({"arms": ["placebo", "class_weights"], "distillation": UNBALANCED}, "arms.1", "no loss has a class_balance"),
        ({"arms": ["class_weights"], "training": {"single_cls": True}}, "arms.0", "there is one class"),
        ({"arms": ["assignment"], "distillation": {"recipe": "article"}}, "arms.0", "would be the control again"),
        ({"arms": ["equal_time"], "training": {"time": 2.0}}, "arms.0", "equal time already"),
        ({"arms": ["labelled_only"]}, "arms.0", "there are no pseudo_labels"),
        (
            {"arms": ["labelled_only"], "pseudo_labels": LABELS, "training": {"fraction": 0.5}},
            "arms.0",
            "steps are not equal",
        ),
        ({"arms": ["without_unlabelled"]}, "arms.0", "no data.unlabelled"),
    ],
)
def test_an_arm_that_would_show_nothing_is_refused_with_its_place(
    changes: dict[str, Any], path: str, said: str, document: Document, problems: Problems
):
    (problem,) = problems(document(**changes))
    assert problem.path == path
    assert said in problem.message


@pytest.mark.parametrize(
    ("changes", "arms"),
    [
        ({"pseudo_labels": LABELS}, ("labelled_only",)),
        ({"data": UNLABELLED}, ("without_unlabelled",)),
        ({"data": UNLABELLED, "pseudo_labels": LABELS}, ("labelled_only", "without_unlabelled")),
        ({"pseudo_labels": LABELS, "arms": []}, ()),
        ({"pseudo_labels": LABELS, "arms": ["placebo"]}, ("placebo",)),
        ({"pseudo_labels": LABELS, "control": False}, ()),
        ({"pseudo_labels": LABELS, "training": {"fraction": 0.5}}, ()),
    ],
)
def test_a_spec_that_leaves_arms_out_has_those_that_tell_what_further_images_brought(
    changes: dict[str, Any], arms: tuple[str, ...], document: Document
):
    found = parse_spec(document(**changes))
    assert isinstance(found, JobSpec)
    assert found.arms == arms
    assert parse_spec(found.model_dump(mode="json")) == found


def test_a_spec_that_was_stored_before_there_were_arms_means_what_it_meant(document: Document):
    found = parse_spec(document(pseudo_labels=LABELS, arms=[]))
    stored = found.model_dump(mode="json")
    del stored["arms"]
    assert parse_spec(stored) == found
