"""Further arms in a spec: what they need, and what would show nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from retort.errors import FieldProblem
from retort.spec import JobSpec, digest, parse_spec

Document = Callable[..., dict[str, Any]]
Problems = Callable[[Any], list[FieldProblem]]
ALL = ["class_weights", "assignment", "placebo", "equal_time"]


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
    ],
)
def test_an_arm_that_would_show_nothing_is_refused_with_its_place(
    changes: dict[str, Any], path: str, said: str, document: Document, problems: Problems
):
    (problem,) = problems(document(**changes))
    assert problem.path == path
    assert said in problem.message
