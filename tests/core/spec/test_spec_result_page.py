"""The page on results describes every field that there is."""

from __future__ import annotations

import json
import re

from house.source import ROOT
from pydantic.json_schema import models_json_schema
from retort.spec.result_page import TOPS, page


def test_the_committed_page_is_the_one_that_the_models_make():
    committed = (ROOT / "docs" / "result.md").read_text()

    assert committed == page(), "python -m retort.spec.result_page > docs/result.md"


def test_every_field_has_a_meaning():
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*) \|$", page(), re.MULTILINE)

    assert len(rows) > 200
    assert [row for row in rows if not row[2].strip()] == []


def test_nothing_in_a_result_may_be_just_anything():
    _, made = models_json_schema([(model, "serialization") for model in TOPS])

    assert len(made["$defs"]) > 40
    assert '"additionalProperties": true' not in json.dumps(made)
