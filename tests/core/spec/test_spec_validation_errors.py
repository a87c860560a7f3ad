"""Every mistake in a spec is told with its path, what is wrong and what would be right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from retort.errors import FieldProblem, SpecError
from retort.losses import LOSS_KINDS
from retort.spec import parse_spec

Document = Callable[..., dict[str, Any]]
Problems = Callable[[Any], list[FieldProblem]]


FULL: dict[str, Any] = {
    **parse_spec({"name": "a", "data": {"path": "/d"}, "teacher": {"train": {"model": "yolo11s"}}}).model_dump(
        mode="json"
    ),
}


def _fields(value: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the place of every field in a document, however deep."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [
        place
        for key, item in items
        for place in ([(*at, key)] if isinstance(key, str) else []) + _fields(item, (*at, key))
    ]


def _with(document: Any, place: tuple[str | int, ...], change: Any) -> Any:
    """Return *document* with the mapping or list that holds *place* changed by *change(holder, key)*."""
    if len(place) == 1:
        return change(document, place[0])
    copy = dict(document) if isinstance(document, dict) else list(document)
    copy[place[0]] = _with(document[place[0]], place[1:], change)
    return copy


def _rename(holder: dict[str, Any], key: str) -> dict[str, Any]:
    return {(f"{key}x" if name == key else name): item for name, item in holder.items()}


@pytest.mark.parametrize("place", _fields(FULL), ids=lambda place: ".".join(map(str, place)))
def test_a_misspelt_field_is_found_at_every_depth_and_the_right_one_is_named(
    place: tuple[str | int, ...], problems: Problems
):
    found = problems(_with(FULL, place, _rename))

    path = ".".join(map(str, place))
    tag = place[-1] in {"kind", "format"}
    expected = path if tag else f"{path}x"  # a misspelt tag is a missing tag: without it no field is known
    assert expected in [problem.path for problem in found]
    problem = next(problem for problem in found if problem.path == expected)
    assert tag or problem.message == f"unknown field '{place[-1]}x'"
    assert tag or problem.hint == f"did you mean {place[-1]!r}?"


@pytest.mark.parametrize("place", _fields(FULL), ids=lambda place: ".".join(map(str, place)))
def test_one_misspelt_field_is_one_problem(place: tuple[str | int, ...], problems: Problems):
    assert len(problems(_with(FULL, place, _rename))) == 1


@pytest.mark.parametrize("place", _fields(FULL), ids=lambda place: ".".join(map(str, place)))
@pytest.mark.parametrize("value", [[[]], "no such value/", {"un": "known"}, -7.5], ids=repr)
def test_a_wrong_value_is_told_at_its_place_with_what_would_be_right(
    place: tuple[str | int, ...], value: Any, problems: Problems
):
    if place[-1] in {"name", "path"} and isinstance(value, str):
        value = ""
    if place == ("teacher", "weights"):
        value = 5

    found = problems(_with(FULL, place, lambda holder, key: {**holder, key: value}))

    path = ".".join(map(str, place))
    assert all(problem.path.startswith(path) for problem in found)
    assert all(problem.message and problem.hint for problem in found)


@pytest.mark.parametrize("field", ["name", "data", "teacher"])
def test_a_missing_field_says_what_to_add(field: str, document: Document, problems: Problems):
    whole = document()
    del whole[field]

    [problem] = problems(whole)

    assert (problem.path, problem.message) == (field, "is required")
    assert problem.hint is not None
    assert problem.hint.startswith("add it: ")


def test_an_unknown_loss_kind_names_the_nearest_and_all(document: Document, problems: Problems):
    [problem] = problems(document(distillation={"losses": [{"kind": "pearsn", "tau": 2}]}))

    assert problem.path == "distillation.losses.0.kind"
    assert problem.message == "unknown kind 'pearsn'"
    assert problem.hint == f"did you mean 'pearson'? known: {', '.join(sorted(LOSS_KINDS))}"


def test_a_loss_without_its_kind_is_told_so(document: Document, problems: Problems):
    [problem] = problems(document(distillation={"losses": [{"weight": 1}]}))

    assert problem.path == "distillation.losses.0.kind"
    assert problem.hint == f"add it: one of {', '.join(sorted(LOSS_KINDS))}"


def test_the_path_does_not_hold_the_name_of_the_variant(document: Document, problems: Problems):
    [problem] = problems(document(distillation={"losses": [{"kind": "dfl"}, {"kind": "pearson", "tau": 3}]}))

    assert problem == FieldProblem(
        "distillation.losses.1.tau", "unknown field 'tau'", "known fields here: kind, levels, weight"
    )


def test_fields_of_another_loss_are_not_offered(document: Document, problems: Problems):
    [problem] = problems(document(distillation={"losses": [{"kind": "pearson", "temperatur": 3}]}))

    assert "temperature" not in str(problem.hint)


def test_a_bad_item_does_not_also_make_the_list_empty(document: Document, problems: Problems):
    found = problems(document(distillation={"losses": [{"kind": "pearson", "levels": ["P9"]}, 5]}))

    assert [problem.path for problem in found] == ["distillation.losses.0.levels.0", "distillation.losses.1"]


def test_an_empty_list_of_losses_is_a_mistake_of_its_own(document: Document, problems: Problems):
    [problem] = problems(document(distillation={"losses": []}))

    assert problem.path == "distillation.losses"
    assert problem.message == "should have at least 1 item, not 0"
    assert "left out, the recipe's" in str(problem.hint)


@pytest.mark.parametrize("recipe", ["articl", None, ["article"], {"article": 1}, 5], ids=repr)
def test_an_unknown_recipe_is_the_only_problem_told(recipe: Any, document: Document, problems: Problems):
    [problem] = problems(document(distillation={"recipe": recipe}))

    assert problem.path == "distillation.recipe"
    assert "known: balanced, article, native" in str(problem.hint)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"epochs": "100"}, "should be a valid integer, got '100'"),
        ({"epochs": True}, "should be a valid integer, got true"),
        ({"epochs": 1.5}, "should be a valid integer, got 1.5"),
        ({"epochs": 0}, "should be greater than or equal to 1, got 0"),
        ({"epochs": 10_001}, "should be less than or equal to 10000, got 10001"),
        ({"imgsz": 100}, "should be a multiple of 32, got 100"),
        ({"lr": 0}, "should be greater than 0, got 0"),
        ({"lr": float("nan")}, "should be a finite number, got nan"),
        ({"lr": "fast"}, "should be a valid number, got 'fast'"),
        ({"amp": "yes"}, "should be a valid boolean, got 'yes'"),
        ({"seed": 2**40}, "should be less than or equal to 2147483647, got 1099511627776"),
        ({"optimizer": "adamw"}, "'adamw' is not one of the known values"),
    ],
    ids=str,
)
def test_numbers_are_numbers_within_their_bounds(
    training: dict[str, Any],
    message: str,
    document: Document,
    problems: Problems,
):
    [problem] = problems(document(training=training))

    assert problem.path == f"training.{next(iter(training))}"
    assert problem.message == message
    assert problem.hint


def test_the_hint_gives_type_bounds_default_and_meaning(document: Document, problems: Problems):
    [problem] = problems(document(training={"imgsz": 100}))

    bounds = "a whole number, at least 64, at most 2048, a multiple of 32; default 640"
    assert problem.hint == f"{bounds}. Side of the square input in pixels."


def test_every_mistake_is_told_at_once(document: Document, problems: Problems):
    found = problems(
        document(
            name="a b", student={"model": "yolov5q"}, training={"imgsz": 1, "epocs": 3}, exports=[{"format": "onx"}]
        )
    )

    assert [problem.path for problem in found] == [
        "name", "student.model", "training.imgsz", "training.epocs", "exports.0.format",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "teacher", [{}, {"weights": "a.pt", "train": {"model": "yolo11s"}}, {"weights": None}], ids=str
)
def test_a_teacher_is_given_in_exactly_one_way(teacher: dict[str, Any], document: Document, problems: Problems):
    [problem] = problems(document(teacher=teacher))

    assert (problem.path, problem.message) == ("teacher", "give exactly one of weights and train")


@pytest.mark.parametrize(
    "name", ["../a.pt", "/etc/a.pt", "a\\b.pt", ".pt", ".hidden.pt", "a.pth", "a\n.pt", "a\0.pt"], ids=repr
)
def test_weights_are_a_bare_file_name(name: str, document: Document, problems: Problems):
    [problem] = problems(document(teacher={"weights": name}))

    assert problem.path == "teacher.weights"


def test_a_level_listed_twice_is_refused_at_its_place(document: Document, problems: Problems):
    [problem] = problems(document(distillation={"losses": [{"kind": "pearson", "levels": ["P3", "P4", "P3"]}]}))

    assert (problem.path, problem.message) == ("distillation.losses.0.levels.2", "'P3' is listed twice")


@pytest.mark.parametrize(
    ("sections", "path"),
    [
        ({"training": {"lr": 0.5}}, "training.lr"),
        (
            {"training": {"epochs": 2}, "distillation": {"schedule": {"warmup_epochs": 3}}},
            "distillation.schedule.warmup_epochs",
        ),
        ({"distillation": {"losses": [{"kind": "pearson", "weight": 0}]}}, "distillation.losses"),
    ],
    ids=str,
)
def test_what_would_be_accepted_and_ignored_is_refused(
    sections: dict[str, Any],
    path: str,
    document: Document,
    problems: Problems,
):
    [problem] = problems(document(**sections))

    assert problem.path == path
    assert problem.hint


@pytest.mark.parametrize("value", [None, [], "text", 5], ids=repr)
def test_a_document_is_a_mapping(value: Any, problems: Problems):
    [problem] = problems(value)

    assert problem.path == "$"
    assert problem.message.startswith("must be a mapping, not ")


@pytest.mark.parametrize("section", ["data", "teacher", "student", "distillation", "training"])
@pytest.mark.parametrize("value", [None, ["a"], 7], ids=repr)
def test_a_section_is_a_mapping_and_its_fields_are_named(
    section: str, value: Any, document: Document, problems: Problems
):
    [problem] = problems(document(**{section: value}))

    assert problem.path == section
    assert problem.message.startswith("must be a mapping, not ")
    assert str(problem.hint).startswith("known fields here: ")


def test_the_error_reads_as_one_sentence_and_counts_the_rest(document: Document):
    with pytest.raises(SpecError, match=r"^nmae: unknown field 'nmae' \(and 1 more\)$") as caught:
        parse_spec({"nmae": "x", **document(seeds=3)})

    assert caught.value.code == "bad_spec"
    assert not caught.value.retryable


def test_a_key_that_is_no_text_is_told(document: Document, problems: Problems):
    assert [problem.path for problem in problems({**document(), 5: "x"})] == ["5"]


TEACHERS: list[tuple[dict[str, Any], str]] = [
    ({"teacher": {"weights": "a.pt", "imgsz": 100}}, "teacher.imgsz"),
    (
        {"teacher": {"weights": "a.pt", "ensemble": [{"weights": "b.pt"}, {"wieghts": "c.pt"}]}},
        "teacher.ensemble.1.wieghts",
    ),
    ({"teacher": {"weights": "a.pt", "ensemble": [{"weights": "x/b.pt"}]}}, "teacher.ensemble.0.weights"),
    ({"teacher": {"weights": "a.pt", "ensemble": [{"weights": "b.pt", "weight": 0}]}}, "teacher.ensemble.0.weight"),
    ({"data": {"path": "x", "unlabelled": {"path": "y", "ratio": 17}}}, "data.unlabelled.ratio"),
    ({"data": {"path": "x", "unlabelled": {"path": "a\0b"}}}, "data.unlabelled.path"),
    ({"data": {"path": "x", "unlabelled": "y"}}, "data.unlabelled"),
]


@pytest.mark.parametrize(("sections", "path"), TEACHERS, ids=[path for _, path in TEACHERS])
def test_mistakes_about_teachers_and_unlabelled_images_are_told_at_their_place(
    sections: dict[str, Any], path: str, document: Document, problems: Problems
):
    [problem] = problems(document(**sections))

    assert problem.path == path
    assert problem.hint


@pytest.mark.parametrize(
    "teacher",
    [{"weights": "a.pt", "imgsz": 320}, {"weights": "a.pt", "ensemble": [{"weights": "b.pt", "imgsz": 1280}]}],
    ids=["first", "further"],
)
def test_distances_between_anchors_of_different_grids_are_refused(
    teacher: dict[str, Any], document: Document, problems: Problems
):
    losses = {"losses": [{"kind": "pearson"}, {"kind": "dfl"}]}
    [problem] = problems(document(teacher=teacher, distillation=losses))

    assert problem.path == "distillation.losses.1"
    assert "dfl" in problem.message
    assert "box_giou" in str(problem.hint)
    parse_spec(document(teacher={**teacher, "imgsz": 640, "ensemble": []}, distillation=losses))


@pytest.mark.parametrize(
    ("batch", "gpus", "hint"), [(16, 3, "a multiple of 3, such as 15 or 18"), (2, 4, "a multiple of 4, such as 4")]
)
def test_a_batch_that_cannot_be_shared_out_over_the_gpus_is_told_with_those_that_can(
    batch: int, gpus: int, hint: str, problems: Problems, document: Document
):
    (problem,) = problems(document(training={"batch": batch}, resources={"gpus": gpus}))
    assert (problem.path, problem.hint) == ("training.batch", hint)
    assert problem.message == f"does not divide by resources.gpus, which is {gpus}"


SHORT_FORMS = [
    ({"teacher": "yolo11s.pt"}, "write {weights: yolo11s.pt}"),
    ({"student": "yolov8n"}, "write {model: yolov8n}"),
    ({"student": "mine.pt"}, "write {weights: mine.pt}"),
    ({"data": "coco128"}, "write {path: coco128} or {dataset: coco128}"),
    ({"exports": ["onnx"]}, "write {format: onnx}"),
    ({"exports": "tensorrt"}, "write exports: [{format: engine}]"),
    ({"exports": {"format": "onnx", "precision": "int8"}}, "write exports: [{format: onnx, precision: int8}]"),
    ({"distillation": "balanced"}, "write {recipe: balanced}"),
    ({"distillation": {"losses": ["pearson"]}}, "write {kind: pearson}"),
    ({"pseudo_labels": "more"}, "write {path: more}"),
]


@pytest.mark.parametrize(("change", "hint"), SHORT_FORMS, ids=repr)
def test_a_short_form_is_answered_with_the_right_form(
    change: dict[str, Any], hint: str, document: Document, problems: Problems
):
    [problem] = problems(document(**change))

    assert problem.hint == hint


@pytest.mark.parametrize(
    ("change", "places"),
    [
        ({"epochs": 3}, "training.epochs"),
        ({"imgsz": 640}, "training.imgsz"),
        ({"recipe": "balanced"}, "distillation.recipe"),
        ({"temperature": 2}, "distillation.losses.0.temperature"),
        ({"gpus": 2}, "resources.gpus"),
        ({"batch_size": 8}, "training.batch"),
        ({"lr0": 0.1}, "training.lr"),
        ({"training": {"recipe": "native"}}, "distillation.recipe"),
        ({"teacher": {"weights": "a.pt", "epochs": 3}}, "teacher.train.epochs"),
    ],
    ids=repr,
)
def test_a_field_in_another_section_is_answered_with_its_place(
    change: dict[str, Any], places: str, document: Document, problems: Problems
):
    [problem] = problems(document(**change))

    assert problem.hint is not None
    assert problem.hint.startswith(f"did you mean {places}")


@pytest.mark.parametrize("value", ["tensorrt", "TRT", "Engine", "plan"])
def test_a_format_by_another_tools_word_is_known(value: str, document: Document, problems: Problems):
    [problem] = problems(document(exports=[{"format": value}]))

    assert problem.hint is not None
    assert problem.hint.startswith("did you mean 'engine'?")
