"""Say what a field takes, in words, from its JSON Schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
    "multipleOf": "a multiple of",
}


def describe(owners: Sequence[type[BaseModel]], field: str) -> str:
    """Return what *field* takes where *owners* stand, such as "a whole number, at least 1; default 100"."""
    owner = next((cls for cls in owners if field in cls.model_fields), None)
    if owner is None:
        return "see the schema"
    whole = owner.model_json_schema()
    schema = whole["properties"][field]
    words = _words(schema, whole.get("$defs", {}))
    if schema.get("default") is not None and not isinstance(schema["default"], list | dict):
        words = f"{words}; default {shown(schema['default'])}"
    about = str(schema.get("description", "")).replace("\n", " ").replace("``", "")
    return f"{words}. {about}" if about else words


def _words(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        return " or ".join(_words(part, definitions) for part in schema["anyOf"])
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    kind = _TYPES.get(schema.get("type", ""), "a value")
    bounds = [f"{words} {schema[key]}" for key, words in _BOUNDS.items() if key in schema]
    if schema.get("minItems"):
        bounds.append(f"of {schema['minItems']} item{'s' if schema['minItems'] > 1 else ''} or more")
    return ", ".join([kind, *bounds])


def shown(value: object) -> str:
    """Return *value* as a document shows it, cut short; what is not a plain value is named by its type."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if not isinstance(value, str | int | float):
        return type(value).__name__
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def plain(listed: str) -> str:
    """Take the quotation marks out of pydantic's lists."""
    return listed.replace("'", "")
