"""The JSON Schema describes the document as people write it, and parsing and dumping agree."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from retort.constants import PUBLISHED_WEIGHTS, Level
from retort.errors import SpecError
from retort.losses import LOSS_KINDS
from retort.spec import RECIPES, digest, parse_spec, schema

Document = Callable[..., dict[str, Any]]


VALIDATOR = jsonschema_rs.Draft202012Validator(schema())


def test_the_schema_is_a_valid_schema_of_its_draft():
    jsonschema_rs.meta.validate(schema())
    assert schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(schema())) == schema()


def test_only_what_people_must_write_is_required():
    definitions = schema()["$defs"]

    assert schema()["required"] == ["name", "data", "teacher"]
    assert [
        definitions[name].get("required", [])
        for name in ("DistillationSpec", "Schedule", "TrainingSpec", "StudentSpec")
    ] == [[]] * 4
    assert definitions["Pearson"]["required"] == ["kind"]
    assert definitions["Onnx"]["required"] == ["format"]


def test_every_field_is_described_or_obvious():
    bare = [
        f"{name}.{field}"
        for name, definition in schema()["$defs"].items()
        for field, item in definition.get("properties", {}).items()
        if "description" not in item and "$ref" not in item and field not in {"kind", "format"}
    ]

    obvious = {"model", "epochs", "batch", "seed", "recipe", "weights", "train"}
    assert {name.rpartition(".")[2] for name in bare} <= obvious


numbers = st.floats(0.001, 1, allow_nan=False)
weights = st.none() | st.sampled_from(["yolo11l.pt", "my teacher-v2.pt"])
losses = st.sampled_from(sorted(LOSS_KINDS)).flatmap(
    lambda kind: st.fixed_dictionaries(
        {"kind": st.just(kind), "weight": numbers},
        optional={"levels": st.lists(st.sampled_from([level.value for level in Level]), min_size=1, unique=True)}
        if "levels" in LOSS_KINDS[kind].model_fields
        else {},
    )
)
models = st.sampled_from(sorted(PUBLISHED_WEIGHTS))
further = st.fixed_dictionaries(
    {"weights": st.sampled_from(["yolo11l.pt", "b.pt"])}, optional={"weight": numbers, "imgsz": st.none()}
)
documents = st.fixed_dictionaries(
    {
        "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True),
        "data": st.fixed_dictionaries(
            {"path": st.text("abc/. é", min_size=1)},
            optional={
                "unlabelled": st.none()
                | st.fixed_dictionaries({"path": st.text("abc/.", min_size=1)}, optional={"ratio": numbers})
            },
        ),
        "teacher": st.one_of(
            st.fixed_dictionaries(
                {"weights": st.just("yolo11l.pt")}, optional={"ensemble": st.lists(further, max_size=8)}
            ),
            st.fixed_dictionaries({"train": st.fixed_dictionaries({"model": models}, optional={"weights": weights})}),
        ),
    },
    optional={
        "student": st.fixed_dictionaries({}, optional={"model": models, "weights": weights}),
        "distillation": st.fixed_dictionaries(
            {},
            optional={
                "recipe": st.sampled_from(sorted(RECIPES)),
                "losses": st.lists(losses, min_size=1, max_size=4),
                "balance": st.sampled_from(["none", "task_loss", "gradient"]),
                "schedule": st.fixed_dictionaries({}, optional={"floor": numbers, "stop_with_mosaic": st.booleans()}),
            },
        ),
        "training": st.fixed_dictionaries(
            {},
            optional={
                "epochs": st.integers(11, 300),
                "imgsz": st.integers(2, 64).map(lambda count: 32 * count),
                "batch": st.integers(2, 64),
                "head_lr_multiplier": st.none() | numbers,
                "amp": st.booleans(),
                "close_mosaic": st.integers(0, 10),
            },
        ),
        "control": st.booleans(),
        "exports": st.lists(st.just({"format": "onnx"}), max_size=2),
    },
)


@given(documents)
def test_parsing_the_dump_of_a_spec_gives_an_equal_spec(document: dict[str, Any]):
    spec = parse_spec(document)
    dumped = json.loads(json.dumps(spec.model_dump(mode="json")))

    assert parse_spec(dumped) == spec
    assert digest(parse_spec(dumped)) == digest(spec)
    VALIDATOR.validate(document)
    VALIDATOR.validate(dumped)


WRONG: list[dict[str, Any]] = [
    {"nmae": "x"},
    {"name": "a b"},
    {"name": 5},
    {"data": {"path": ""}},
    {"data": {}},
    {"teacher": {}},
    {"teacher": {"weights": "a.pt", "train": {"model": "yolo11s"}}},
    {"teacher": {"weights": "../a.pt"}},
    {"teacher": {"weights": "a.pt", "imgsz": 100}},
    {"teacher": {"weights": "a.pt", "weight": 0}},
    {"teacher": {"weights": "a.pt", "ensemble": [{}]}},
    {"teacher": {"weights": "a.pt", "ensemble": [{"weights": "b.pt", "imgsz": 32}]}},
    {"teacher": {"weights": "a.pt", "ensemble": [{"weights": "b.pt"}] * 9}},
    {"data": {"path": "x", "unlabelled": {}}},
    {"data": {"path": "x", "unlabelled": {"path": "y", "ratio": 0}}},
    {"teacher": {"train": {}}},
    {"student": None},
    {"student": {"model": "yolov5q"}},
    {"distillation": {"losses": []}},
    {"distillation": {"losses": [{"weight": 1}]}},
    {"distillation": {"losses": [{"kind": "pearsn"}]}},
    {"distillation": {"losses": [{"kind": "pearson", "tau": 1}]}},
    {"distillation": {"losses": [{"kind": "pearson", "levels": ["P3", "P3"]}]}},
    {"distillation": {"losses": [{"kind": "class_logits", "temperature": 3}]}},
    {"distillation": {"recipe": None}},
    {"training": {"epochs": "3"}},
    {"training": {"epochs": True}},
    {"training": {"imgsz": 100}},
    {"training": {"amp": "yes"}},
    {"exports": [{}]},
    {"exports": [{"format": "onx"}]},
    {"control": 1},
]


@pytest.mark.parametrize("change", WRONG, ids=str)
def test_what_parsing_refuses_the_schema_refuses(change: dict[str, Any], document: Document):
    whole = {**document(), **change}

    with pytest.raises(SpecError):
        parse_spec(whole)
    assert not VALIDATOR.is_valid(whole)


def test_reading_a_spec_does_not_import_torch():
    code = (
        "import sys; from retort.spec import parse_spec, schema; schema();"
        "parse_spec({'name': 'a', 'data': {'path': '/d'}, 'teacher': {'weights': 'a.pt'}});"
        "print([m for m in ('torch', 'ultralytics', 'numpy', 'sqlalchemy') if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
