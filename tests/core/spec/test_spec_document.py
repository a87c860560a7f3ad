"""A document is read as YAML or JSON, and what is ambiguous in it is refused."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from retort.errors import SpecError
from retort.spec import parse_document, parse_spec

Document = Callable[..., dict[str, Any]]


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
