"""Print the reference of results, made from their models: ``python -m retort.spec.result_page > docs/result.md``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from retort.spec.advised import AdviceResult
from retort.spec.curves import Curves
from retort.spec.evaluated import EvaluationResult
from retort.spec.mistakes import Mistakes
from retort.spec.report import Manifest, Report
from retort.spec.result import JobResult
from retort.spec.samples import EpochSamples

HEAD = """# What a job finds out, field by field

Made from the models in `retort.spec` by `python -m retort.spec.result_page > docs/result.md`; a test holds
the two equal. It is the `result` of a job that has succeeded, in the [REST API](api.md) and in the last line of
a run's journal; in Python, `Client.result(job_id)` gives the models themselves. Shares and mAP are from 0 to 1.
Pass over fields that you do not know: there may be more in a later version.
"""
TOPS: dict[type[BaseModel], tuple[str, str]] = {
    JobResult: ("The result of a distillation", "It alone has no `task`."),
    AdviceResult: ("The result of a request for advice", "It is also published as `advice.json`."),
    EvaluationResult: ("The result of an evaluation", "It is also published as `evaluation.json`."),
    Report: ("The report for machines", "`report.json` holds the result with what was told beside it."),
    Manifest: ("The manifest", "`manifest.json` goes with a student: where it comes from, byte by byte."),
    Mistakes: ("The mistakes", "`mistakes.json` tells what networks find wrongly or miss on the validation images."),
    Curves: ("The curves", "`curves.json` has the precision-recall curves and the confusion matrix of each network."),
    EpochSamples: ("The samples", "`samples.json` has what the student saw on sample images after some epochs."),
}
_NAMES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}


def page() -> str:
    """Return the page."""
    _, made = models_json_schema([(model, "serialization") for model in TOPS], ref_template="{model}")
    models: dict[str, dict[str, Any]] = made["$defs"]
    tops = {model.__name__: told for model, told in TOPS.items()}
    parts = [HEAD]
    for name, (title, told) in tops.items():
        parts.append(f"## {title}\n\n{told}\n\n{_table(models[name])}")
    parts.append("## Parts\n")
    for name in sorted(name for name in models.keys() - tops.keys() if "properties" in models[name]):
        told = " ".join(models[name]["description"].split()).replace("``", "`")
        parts.append(f"### {_heading(name)}\n\n{told}\n\n{_table(models[name])}")
    return "\n".join(parts).rstrip("\n") + "\n"


def _table(model: dict[str, Any]) -> str:
    lines = ["| field | type | meaning |", "|---|---|---|"]
    for name, field in model["properties"].items():
        meaning = " ".join(field.get("description", "").split()).replace("``", "`")
        lines.append(f"| `{name}` | {_type(field)} | {meaning} |")
    return "\n".join(lines) + "\n"


def _type(field: dict[str, Any]) -> str:
    return " or ".join(dict.fromkeys(_types(field)))


def _types(field: dict[str, Any]) -> Iterator[str]:
    if field.get("$ref") == "JsonValue":
        yield "any JSON"
    elif "$ref" in field:
        title = _heading(field["$ref"])
        yield f"[{title}](#{title.replace(' ', '-')})" if field["$ref"] not in _tops() else title
    elif choices := field.get("enum", [field["const"]] if "const" in field else []):
        yield from (f"`{choice}`" for choice in choices)
    elif options := field.get("anyOf", field.get("oneOf", [])):
        for option in options:
            yield from _types(option)
    elif field.get("type") == "array":
        yield f"list of {_type(field['items'])}"
    elif field.get("type") == "object":
        yield f"{_type(field['additionalProperties'])} by name"
    else:
        yield "null" if field["type"] == "null" else _NAMES[field["type"]]


def _tops() -> frozenset[str]:
    return frozenset(model.__name__ for model in TOPS)


def _heading(name: str) -> str:
    """Return a model's name in words: ``MeasuredExport`` is "measured export"."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", name).lower()


if __name__ == "__main__":
    sys.stdout.write(page())
