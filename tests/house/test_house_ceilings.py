"""Each number of a spec has a ceiling, or a reason; each path is held to the operator's folders."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from house.source import ROOT
from retort.data.ceilings import CEILINGS, FREE, WITHOUT
from retort.settings import Settings
from retort.spec import SweepSpec
from retort.spec.advise import AdviceSpec
from retort.spec.evaluate import EvaluateSpec
from retort.spec.job import JobSpec

SPECS = (JobSpec, EvaluateSpec, AdviceSpec, SweepSpec)
ELSEWHERE = "parameters{}."
"""Values that become fields of a trial's spec, which is held to the ceilings itself."""


def leaves(schema: Any, definitions: Any, path: str = "", seen: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Yield the places of a schema's values with their types, and as ``#`` those of how many there may be."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name not in seen:
            yield from leaves(definitions[name], definitions, path, (*seen, name))
        return
    for choice in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from leaves(choice, definitions, path, seen)
    if isinstance(schema.get("type"), str):
        yield path, schema["type"]
    for name, field in schema.get("properties", {}).items():
        yield from leaves(field, definitions, f"{path}.{name}".lstrip("."), seen)
    for entry in (
        *([schema["items"]] if isinstance(schema.get("items"), dict) else ()),
        *schema.get("prefixItems", ()),
    ):
        yield f"{path}[]#", "number"
        yield from leaves(entry, definitions, f"{path}[]", seen)
    if isinstance(schema.get("additionalProperties"), dict):
        yield f"{path}{{}}#", "number"
        yield from leaves(schema["additionalProperties"], definitions, f"{path}{{}}", seen)


def all_leaves() -> set[tuple[str, str]]:
    schemas = [model.model_json_schema() for model in SPECS]
    return {leaf for schema in schemas for leaf in leaves(schema, schema.get("$defs", {}))}


def test_each_number_of_a_spec_has_a_ceiling_of_the_operators_or_a_reason_for_none():
    numbers = {path for path, kind in all_leaves() if kind in {"integer", "number"} and not path.startswith(ELSEWHERE)}
    assert numbers - CEILINGS.keys() - FREE.keys() == set(), "say what it costs, in retort.data.ceilings"
    assert (CEILINGS.keys() | FREE.keys()) - numbers == set(), "no spec has them any more"
    assert not CEILINGS.keys() & FREE.keys()


def test_a_field_with_a_ceiling_that_may_be_left_out_says_what_holds_then():
    """``max_queue_s: null`` waited for ever, and ``batch: auto`` found any number: neither is above a ceiling."""
    open_ones = {path for path, kind in all_leaves() if path in CEILINGS and kind in {"null", "string"}}
    assert open_ones == WITHOUT.keys()


@pytest.mark.parametrize("setting", sorted(set(CEILINGS.values())))
def test_a_ceiling_is_a_setting_that_lets_every_valid_spec_through_unless_it_is_lowered(setting: str):
    assert setting in Settings.model_fields


def test_each_path_of_a_spec_is_held_to_the_folders_that_the_operator_allows():
    """The folder of calibration images was looked up by the worker alone, in all of its machine."""
    paths = {path for path, kind in all_leaves() if kind == "string" and re.search(r"(^|[._])path$", path)}
    held = {"data.path", "data.unlabelled.path", "pseudo_labels.path", "exports[].calibration_path"}
    assert paths == held, "add it to spec_validation._folders"
    source = (ROOT / "api" / "retort_api" / "spec_validation.py").read_text()
    assert all(path.replace("[]", ".{number}") in source for path in paths)
