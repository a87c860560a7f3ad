"""What a spec may ask of a teacher that is asked ahead of time."""

from __future__ import annotations

from typing import Any

import pytest
from retort.errors import SpecError
from retort.spec import JobSpec, parse_spec
from retort.spec.assignment import put


def document(**fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": "cached",
        "data": {"path": "/d"},
        "teacher": {"weights": "t.pt", "cache": True},
        "student": {"model": "yolov8n", "weights": None},
    }
    for path, value in fields.items():
        put(made, path.replace("__", "."), value)
    return made


def test_a_spec_that_says_nothing_has_a_teacher_that_rides_along():
    spec = parse_spec(document(teacher__cache=False))
    assert isinstance(spec, JobSpec)
    assert (spec.teacher.cache, spec.teacher.views) == (False, ())


@pytest.mark.parametrize("fields", [
    {}, {"teacher__views": ["flip", "tiles", "scales"]}, {"teacher__imgsz": 1280}, {"distillation__recipe": "balanced"},
    {"distillation__losses": [{"kind": "box_giou"}]}, {"training__multi_scale": 0.5, "teacher__imgsz": 1280},
])  # fmt: skip
def test_a_cached_teacher_may_have(fields: dict[str, Any]):
    spec = parse_spec(document(**fields))
    assert isinstance(spec, JobSpec)
    assert spec.teacher.cache
    assert parse_spec(spec.model_dump(mode="json")) == spec


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"teacher__cache": False, "teacher__views": ["flip"]}, "teacher.views", "cache: true"),
    ({"teacher__views": ["flip", "flip"]}, "teacher.views.1", ""),
    ({"teacher__ensemble": [{"weights": "b.pt"}]}, "teacher.ensemble", "leave it out"),
    ({"training__cutmix": 0.5}, "training.cutmix", "0, or leave"),
    ({"distillation__assignment": "teacher"}, "distillation.assignment", "auto"),
    ({"arms": ["placebo", "assignment"]}, "arms.1", "leave assignment out"),
    ({"distillation__losses": [{"kind": "class_logits"}, {"kind": "pearson"}]}, "distillation.losses.1", "box_giou"),
    ({"distillation__losses": [{"kind": "dfl"}]}, "distillation.losses.0", "otherwise: giou"),
    ({"distillation__recipe": "native"}, "distillation.recipe", "balanced"),
    ({"distillation__recipe": "article"}, "distillation.recipe", "balanced"),
]


@pytest.mark.parametrize(("fields", "path", "hint"), REFUSED)
def test_what_a_cached_teacher_cannot_do_is_refused_where_it_stands(fields: dict[str, Any], path: str, hint: str):
    with pytest.raises(SpecError) as refused:
        parse_spec(document(**fields))
    (problem,) = refused.value.problems
    assert problem.path == path
    assert hint in (problem.hint or "")
