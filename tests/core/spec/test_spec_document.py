"""A document is read as YAML or JSON, and what is ambiguous in it is refused."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from retort.errors import SpecError
from retort.spec import parse_document, parse_spec
from retort.spec.shortening import shortened

Document = Callable[..., dict[str, Any]]


def test_a_shortened_spec_keeps_of_each_item_of_its_lists_what_differs_from_the_defaults():
    exports = [{"format": "onnx"}, {"format": "onnx", "precision": "int8", "calibration_images": 64}]
    losses = [{"kind": "class_logits", "weight": 3.0}]
    given = {
        "name": "a", "data": {"dataset": "coco128"}, "teacher": {"weights": "t.pt", "ensemble": [{"weights": "u.pt"}]},
        "student": {"model": "yolov8n"}, "exports": exports, "distillation": {"losses": losses},
    }  # fmt: skip
    whole = parse_spec(given).model_dump(mode="json")
    assert whole["exports"][0]["dynamic"] is False
    short = shortened(whole)
    assert (short["exports"], short["teacher"]["ensemble"]) == (exports, [{"weights": "u.pt"}])
    assert short["distillation"]["losses"] == losses
    assert parse_spec(short) == parse_spec(given)


def test_yaml_and_json_say_the_same(document: Document):
    whole = document(distillation={"recipe": "article"}, training={"lr": 0.01, "amp": False})

    assert parse_document(json.dumps(whole, indent="\t")) == parse_document(yaml.safe_dump(whole)) == whole
    assert parse_spec(parse_document(json.dumps(whole).encode())) == parse_spec(whole)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        (".5", 0.5),
        ("010", 10),
        ("-3", -3),
        ("on", "on"),
        ("no", "no"),
        ("2026-11-23", "2026-11-23"),
        ("12:30:00", "12:30:00"),
        ("0x10", "0x10"),
        ("~", None),
        ("", None),
        ("true", True),
        ("'1'", "1"),
        (".inf", math.inf),
    ],
)
def test_scalars_are_what_people_mean(text: str, value: Any):
    assert parse_document(f"field: {text}") == {"field": value}


@pytest.mark.parametrize("text", ["a: 1\na: 2", "{a: 1, a: 2}", '{"a": 1, "a": 2}', "a:\n  b: 1\n  'b': 2"], ids=repr)
def test_a_key_said_twice_is_refused(text: str):
    with pytest.raises(SpecError, match="appears twice"):
        parse_document(text)


@pytest.mark.parametrize(
    "text",
    [
        *("a: [", "a: 1\n---\nb: 2", "a: &x 1\nb: *x", "&x [*x]", "a: \0", b"\xff\xfe\xff", "? [a]\n: b"),
        *("a: !!python/object:os.system x", "a: !!set {b}", "a: !!int x", "a: !!bool x", "a: !!float x"),
        *("[" * 5000, '{"a":' * 100_000, '{"a": ' + "9" * 5000 + "}"),
    ],
    ids=lambda text: repr(text[:20]),
)
def test_what_cannot_be_read_is_the_documents_mistake(text: str):
    with pytest.raises(SpecError) as caught:
        parse_document(text)

    assert caught.value.problems[0].path == "$"


BOMBS = {
    "merges of merges": "".join(f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 10)}]}}\n" for n in range(1, 9)),
    "laughs": "a: &a [lol]\n"
    + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in itertools.pairwise("abcdefgh")),
    "many values": "names: [" + "a, " * 600_000 + "]",
    "many values of JSON": '{"a": [' + "{}," * 2_000_000 + "1]}",
    "deep lists": "[" * 5_000_000,
    "deep mappings": "".join(" " * depth + "a:\n" for depth in range(2000)),
    "deep JSON": '{"a":' * 900 + "1" + "}" * 900,
    "large": "a: " + "x" * (9 << 20),
    "keys of one hash": "{" + ", ".join(str(n * ((1 << 61) - 1)) for n in range(20_000)) + "}",
    "fractions of one hash": "{" + ", ".join(f"{n}.0e300" for n in range(20_000)) + "}",
    "a long number": "a: " + "9" * 5000,
}


@pytest.mark.parametrize("case", BOMBS)
def test_a_bomb_is_refused_before_it_has_values(case: str):
    began = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(SpecError) as caught:
            parse_document(BOMBS[case])
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 5
    assert len(caught.value.message) < 500


def test_a_mapping_of_ten_thousand_classes_is_read():
    names = {number: f"class {number}" for number in range(10_000)}
    assert parse_document(yaml.safe_dump({"names": names})) == {"names": names}


def test_the_place_of_a_syntax_error_is_told():
    with pytest.raises(SpecError, match="line 2, column 4"):
        parse_document("name: a\ndata: ]\n"[:8] + "a: ]\n")


@given(st.text(max_size=60) | st.binary(max_size=60))
def test_any_text_is_read_or_refused_and_never_breaks_the_reader(text: str | bytes):
    with contextlib.suppress(SpecError):
        parse_spec(parse_document(text))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_json_is_read_as_json_says(value: Any):
    text = json.dumps({"value": value})

    assert parse_document(text) == json.loads(text)
