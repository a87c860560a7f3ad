"""Print the spec reference from the JSON Schema: ``python -m retort.spec > docs/spec.md``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from retort.spec import TASKS, schema, sweep_schema
from retort.spec.notes import NOTES, Note

HEAD = """# The spec, field by field

Made from the JSON Schema by `python -m retort.spec > docs/spec.md`; a test holds the two equal. What is
marked *required* must be written; all else has the default that is shown. A service serves the schemas
themselves under `/v1/schema`, and `retort validate SPEC` prints a spec with every default written out.
"""
TITLES = {
    "distill": "A job: `task: distill`",
    "advise": "A request for advice: `task: advise`",
    "evaluate": "An evaluation: `task: evaluate`",
    "sweep": "A sweep",
}
VARIANTS = {"losses": "loss", "exports": "export"}
FROM_RECIPE = {
    "training.head_lr_multiplier",
    *(f"distillation.{field}" for field in ("losses", "balance", "assignment", "schedule")),
}
_TAGS = ("kind", "format")
_BOUNDS = {
    "minimum": "≥",
    "exclusiveMinimum": ">",
    "maximum": "≤",
    "exclusiveMaximum": "<",
    "multipleOf": "multiple of",
}
_NAMES = {"integer": "whole number", "string": "text", "boolean": "true or false", "array": "list", "object": "mapping"}


def reference() -> str:
    """Return the page."""
    documents = {**{task: schema(task) for task in TASKS}, "sweep": sweep_schema()}
    described: set[str] = set()
    lines = [line for task, whole in documents.items() for line in _document(task, whole, described)]
    return "\n".join([HEAD, *lines]).rstrip("\n") + "\n"


def _document(task: str, whole: dict[str, Any], described: set[str]) -> Iterator[str]:
    yield f"## {TITLES[task]}\n"
    yield from _section(whole, "", NOTES[task], whole.get("$defs", {}), described)


def _section(
    owner: dict[str, Any], path: str, notes: dict[str, Note], definitions: dict[str, Any], described: set[str]
) -> Iterator[str]:
    """Yield the table of *owner*'s fields, then the sections below it.

    Variants that an earlier document has *described* are not told again.
    """
    fields = {name: field for name, field in owner["properties"].items() if name not in _TAGS}
    yield f"{_prose(owner['description'])}\n"
    if fields:
        yield "| field | type | default | meaning | unit | when to change it |\n|---|---|---|---|---|---|"
        required = owner.get("required", [])
        for name, field in fields.items():
            note = notes[f"{path}{name}"]
            yield _row(f"{path}{name}", field, note, definitions, required=name in required)
        yield ""
    for name, field in fields.items():
        for below in _below(field, definitions):
            if below["title"] == "JobSpec":  # a sweep's base, which has its own part of the page
                continue
            tag = next((tag for tag in _TAGS if tag in below["properties"]), None)
            if tag and below["title"] in described:
                continue
            described.add(below["title"])
            kind = f", `{tag}: {below['properties'][tag]['const']}`" if tag else ""
            yield f"### `{path}{name}`{kind}\n"
            inner = VARIANTS.get(name, f"{path}{name}")
            yield from _section(below, f"{inner}.", notes, definitions, described)


def _row(path: str, field: dict[str, Any], note: Note, definitions: dict[str, Any], *, required: bool) -> str:
    name = path.rpartition(".")[2]
    default = "*required*" if required else _default(field, path, definitions)
    meaning = _prose(field["description"])
    return f"| `{name}` | {_type(field, definitions)} | {default} | {meaning} | {note.unit} | {note.when} |"


def _default(field: dict[str, Any], path: str, definitions: dict[str, Any]) -> str:
    if path in FROM_RECIPE or path.startswith("distillation.schedule."):
        return "the recipe's"
    if "default" in field:
        return f"`{json.dumps(field['default'])}`"
    return "see below" if list(_below(field, definitions)) else "empty"


def _below(field: dict[str, Any], definitions: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the models that a field may hold, in lists and mappings too."""
    if "$ref" in field:
        found = definitions[field["$ref"].rpartition("/")[2]]
        if "properties" in found:
            yield found
    for key in ("anyOf", "oneOf"):
        for part in field.get(key, []):
            yield from _below(part, definitions)
    inner = [field.get("items"), field.get("additionalProperties"), *field.get("patternProperties", {}).values()]
    for part in inner:
        if isinstance(part, dict):
            yield from _below(part, definitions)


def _type(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    if "$ref" in field:
        found = definitions[field["$ref"].rpartition("/")[2]]
        return "mapping" if "properties" in found else _type(found, definitions)
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_type(part, definitions) for part in field["anyOf"]))
    if "oneOf" in field:
        return "mapping"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    kind = field.get("type", "any value")
    inner = f" of {_type(field['items'], definitions)}" if field.get("items") else ""
    bounds = [f"{words} {field[key]:,}" for key, words in _BOUNDS.items() if key in field]
    return ", ".join([_NAMES.get(kind, kind) + inner, *bounds])


def _prose(text: str) -> str:
    """Return a docstring as Markdown in one line."""
    return " ".join(text.replace("``", "`").replace("|", "\\|").split())


if __name__ == "__main__":
    sys.stdout.write(reference())
