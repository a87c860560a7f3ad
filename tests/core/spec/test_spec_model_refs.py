"""Registered models are named by digest wherever a weights file may stand; requests for advice are documents too."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import pytest
from retort.errors import SpecError
from retort.model_ref import ModelRef, parse, title
from retort.spec import AdviceSpec, JobSpec, digest, parse_spec, schema, weight_names
from retort.spec.references import complete

Document = Callable[..., dict[str, Any]]

NAMED = "model:street-teacher@sha256:" + "0f" * 32
JOBS = jsonschema_rs.Draft202012Validator(schema())
ADVICE = jsonschema_rs.Draft202012Validator(schema("advise"))
REQUEST: dict[str, Any] = {"task": "advise", "data": {"path": "/d"}, "candidates": ["yolo11s.pt", NAMED]}


def test_a_reference_is_read_and_written_alike():
    reference = parse(NAMED)
    assert reference == ModelRef("street-teacher", "0f" * 32)
    assert str(reference) == NAMED
    assert (title(NAMED), title("yolo11s.pt")) == ("street-teacher@0f0f0f0f0f0f", "yolo11s")


@pytest.mark.parametrize(
    ("place", "change"),
    [
        ("teacher.weights", {"teacher": {"weights": NAMED}}),
        ("teacher.ensemble.0.weights", {"teacher": {"weights": "a.pt", "ensemble": [{"weights": NAMED}]}}),
        ("teacher.train.weights", {"teacher": {"train": {"model": "yolo11s", "weights": NAMED}}}),
        ("student.weights", {"student": {"model": "yolov8n", "weights": NAMED}}),
    ],
)
def test_a_model_may_stand_wherever_a_weights_file_may(place: str, change: dict[str, Any], document: Document):
    given = document(**change)
    assert weight_names(parse_spec(given))[place] == NAMED
    JOBS.validate(given)


@pytest.mark.parametrize(
    ("weights", "said", "hint"),
    [
        (
            "model:street-teacher",
            "names the model 'street-teacher' without a digest",
            "model:street-teacher@sha256:DIGEST",
        ),
        ("model:street-teacher@sha256:0f0f", "is not a reference", "all 64"),
        ("street-teacher@0f0f0f0f0f0f", "is not written out", "all 64"),
        (NAMED.upper().replace("MODEL", "model"), "is not a reference", "lower case"),
        (NAMED.replace("street", "../street"), "is not a reference", "model:NAME@sha256"),
        (f"{NAMED}.pt", "is not a reference", "model:NAME@sha256"),
        ("model:", "names the model '' without a digest", "DIGEST"),
    ],
)
def test_what_is_no_whole_reference_is_refused_with_its_form(weights: str, said: str, hint: str, document: Document):
    with pytest.raises(SpecError) as caught:
        parse_spec(document(teacher={"weights": weights}))
    (problem,) = caught.value.problems
    assert problem.path == "teacher.weights"
    assert said in problem.message
    assert hint in (problem.hint or "")


def test_the_task_says_which_document_it_is(document: Document):
    assert isinstance(parse_spec(document()), JobSpec)
    assert isinstance(parse_spec(document(task="distill")), JobSpec)
    advice = parse_spec(REQUEST)
    assert isinstance(advice, AdviceSpec)
    assert (advice.student.model, advice.student.weights, advice.imgsz) == ("yolov8n", "yolov8n.pt", 640)


def test_parsing_the_dump_of_a_request_gives_an_equal_one():
    spec = parse_spec(REQUEST)
    dumped = json.loads(json.dumps(spec.model_dump(mode="json")))
    assert parse_spec(dumped) == spec
    assert digest(parse_spec(dumped)) == digest(spec)
    ADVICE.validate(REQUEST)
    ADVICE.validate(dumped)
    assert not JOBS.is_valid(REQUEST)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"task": "advice"}, "task"),
        ({"task": 1}, "task"),
        ({"task": "distill"}, "name"),
        ({"candidates": []}, "candidates"),
        ({"candidates": ["a.pt", "a.pt"]}, "candidates.1"),
        ({"candidates": [f"{number}.pt" for number in range(17)]}, "candidates"),
        ({"candidates": ["model:street-teacher"]}, "candidates.0"),
        ({"candidate": ["a.pt"]}, "candidate"),
        ({"data": {"path": "/d", "unlabelled": {"path": "/e"}}}, "data.unlabelled"),
        ({"resources": {"gpus": 2}}, "resources.gpus"),
        ({"imgsz": 100}, "imgsz"),
    ],
)
def test_a_wrong_request_is_told_with_its_place(change: dict[str, Any], place: str):
    with pytest.raises(SpecError) as caught:
        parse_spec({**REQUEST, **change})
    assert place in {problem.path for problem in caught.value.problems}


TWINS = ["0f0f0f0f0f" + "a" * 54, "0f0f0f0f0f" + "b" * 54]
REGISTRY = {"street-teacher": ["0f" * 32], "twins": TWINS}


def known(name: str) -> list[str]:
    return REGISTRY.get(name, [])


@pytest.mark.parametrize(
    "written",
    [title(NAMED), "street-teacher@0f0f0f0f", "model:street-teacher@0f0f0f0f", "model:street-teacher@sha256:0f0f0f0f",
     "street-teacher@sha256:" + "0f" * 32, NAMED],
)  # fmt: skip
def test_a_model_named_as_tables_print_it_is_written_out_wherever_it_stands(written: str, document: Document):
    """The short digests that advice prints were accepted nowhere."""
    job = document(
        student={"weights": written},
        teacher={"train": {"weights": written}, "weights": written, "ensemble": [{"weights": written}]},
    )
    sweep = {
        "base": job,
        "parameters": {"student.weights": {"values": [written], "also": {"teacher.weights": [written]}}},
    }
    ask = {**REQUEST, "candidates": ["yolo11s.pt", written]}

    for given in (job, sweep, ask, {"networks": [written]}):
        told = json.dumps(complete(given, known))
        assert told.count(NAMED) == json.dumps(given).count(f'"{written}"')
    ADVICE.validate(ask)


def test_what_only_looks_like_a_model_is_left_alone(document: Document):
    given = document(data={"path": "street-teacher@0f0f0f0f"}, name="x", student={"weights": "0f0f0f0f.pt"})
    assert complete(given, known) == given


@pytest.mark.parametrize(
    ("written", "said", "hints"),
    [
        ("twins@0f0f0f0f0f", "2 models 'twins' have digests that begin with 0f0f0f0f0f", TWINS),
        ("twins@abcdef012345", "no model 'twins' with the digest sha256:abcdef012345", TWINS),
        ("nobody@abcdef012345", "no model 'nobody' with the digest sha256:abcdef012345", ["retort models lists"]),
    ],
)
def test_a_short_digest_that_means_several_models_or_none_is_refused_with_those_there_are(
    written: str, said: str, hints: list[str], document: Document
):
    with pytest.raises(SpecError) as caught:
        complete(document(teacher={"weights": written, "ensemble": [{"weights": written}]}), known)
    assert [one.path for one in caught.value.problems] == ["teacher.weights", "teacher.ensemble.0.weights"]
    for problem in caught.value.problems:
        assert said in problem.message
        assert all(hint in (problem.hint or "") for hint in hints)
