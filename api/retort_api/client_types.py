"""Write the types of the client's answers from the OpenAPI document."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_HEAD = '''"""{what}; made by ``python -m retort_api client-types``.

They are plain dictionaries: what a newer service adds stays in them. Times are ISO 8601 in UTC.
"""

from __future__ import annotations

from typing import {typing}
{imports}'''
_PLAIN = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}
_PAGE = {"data", "next_cursor", "has_more", "next_after", "next_before"}
"""Fields of pages, which the client takes apart."""
_DOCUMENTS = ("Spec", "Result")
"""Ends of the names of documents that have models of their own in ``retort.spec``."""
_FEWEST_SHARED = 4
_WIDTH = 116
_LINKS = "Links"
"""End of the names of objects that hold addresses alone."""

Schemas = dict[str, dict[str, Any]]


def write(document: dict[str, Any], folder: Path) -> None:
    """Write the modules for the answers in *document* into *folder*."""
    for name, text in modules(document).items():
        (folder / name).write_text(text, encoding="utf-8")


def modules(document: dict[str, Any]) -> dict[str, str]:
    """Return the modules for the answers in *document* by file name."""
    schemas: Schemas = document["components"]["schemas"]
    names = sorted(_reached(document["paths"], schemas))
    parents = {name: _parent(name, names, schemas) for name in names}
    parts = _parts(names, parents, document["paths"], schemas)
    choices = sorted(name for name in _named(document["paths"], schemas) if "enum" in schemas[name])
    aliases = "\n".join(_choice(name, schemas[name]["enum"]) for name in choices)
    inside = _types(parts, parents, schemas)
    told = _types([name for name in names if name not in parts], parents, schemas)
    used = [name for name in sorted([*choices, *parts], key=str.casefold) if re.search(rf"\b{name}\b", told)]
    imports = "".join(f"    {name},\n" for name in used)
    imports = f"\nfrom retort.client.answer_parts import (\n{imports})\n"
    return {
        "answer_parts.py": _module("Describe what is inside of answers", f"\n{aliases}\n", inside),
        "answers.py": _module("Describe the answers of the service", imports, told),
    }


def _module(what: str, imports: str, types: str) -> str:
    names = ("Any", "Literal", "NotRequired", "TypedDict")
    typing = ", ".join(name for name in names if re.search(rf"\b{name}\b", imports + types))
    return _HEAD.format(what=what, typing=typing, imports=imports) + types


def _types(names: list[str], parents: dict[str, str | None], schemas: Schemas) -> str:
    ordered = sorted(names, key=lambda name: (_depth(name, parents), name))
    return "".join(f"\n\n{_type(name, parents[name], schemas)}\n" for name in ordered)


def _parts(names: list[str], parents: dict[str, str | None], paths: dict[str, Any], schemas: Schemas) -> list[str]:
    """Return which of *names* stand inside of answers alone."""
    answers = {
        name
        for operations in paths.values() for operation in operations.values()
        for answer in operation["responses"].values() for name in _references(answer.get("content", {}))
    }  # fmt: skip
    answers |= {name for page in answers - set(names) for name in _references(schemas[page])}
    left = [name for name in names if name not in answers]
    while True:
        needed = {name: {*_references(schemas[name]), parents[name]} & set(names) for name in left}
        kept = [name for name in left if needed[name] <= set(left)]
        if kept == left:
            return left
        left = kept


def _reached(paths: dict[str, Any], schemas: Schemas) -> set[str]:
    """Return the names of the objects in the answers of success, but of pages and links."""
    found = _named(paths, schemas)
    objects = (name for name in found if not name.endswith(_LINKS) and "properties" in schemas[name])
    return {name for name in objects if not set(_fields(schemas, name)) <= _PAGE}


def _named(paths: dict[str, Any], schemas: Schemas) -> set[str]:
    """Return all names in the answers of success, but of documents and what they consist of."""
    waiting = [
        name
        for operations in paths.values() for operation in operations.values()
        for status, answer in operation["responses"].items() if status.startswith("2")
        for name in _references(answer.get("content", {}))
    ]  # fmt: skip
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in found or name.endswith(_DOCUMENTS):
            continue
        found.add(name)
        waiting += _references(schemas[name])
    return found


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"].rpartition("/")[2]
        for below in node.values():
            yield from _references(below)
    elif isinstance(node, list):
        for below in node:
            yield from _references(below)


def _fields(schemas: Schemas, name: str) -> dict[str, str]:
    """Return the fields of an object with their types."""
    schema = schemas[name]
    required = schema.get("required", ())
    types = {field: _annotation(below, schemas) for field, below in schema.get("properties", {}).items()}
    return {field: kind if field in required else f"NotRequired[{kind}]" for field, kind in types.items()}


def _parent(name: str, names: list[str], schemas: Schemas) -> str | None:
    """Return the largest other object all of whose fields this one has."""
    own = _fields(schemas, name).items()
    fitting = [
        other for other in names
        if _FEWEST_SHARED <= len(_fields(schemas, other)) < len(own) and _fields(schemas, other).items() <= own
    ]  # fmt: skip
    return max(fitting, key=lambda other: (len(_fields(schemas, other)), other), default=None)


def _depth(name: str, parents: dict[str, str | None]) -> int:
    parent = parents[name]
    return 0 if parent is None else 1 + _depth(parent, parents)


def _annotation(schema: dict[str, Any], schemas: Schemas) -> str:
    """Return the type of a value as Python writes it."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name.endswith((*_DOCUMENTS, _LINKS)):
            return "dict[str, Any]"
        return name if {"properties", "enum"} & schemas[name].keys() else _annotation(schemas[name], schemas)
    if either := schema.get("anyOf") or schema.get("oneOf"):
        return " | ".join(dict.fromkeys(_annotation(one, schemas) for one in either))
    if "enum" in schema or "const" in schema:
        return f"Literal[{', '.join(map(_quoted, schema.get('enum') or [schema['const']]))}]"
    if schema.get("type") in {"array", "object"}:
        return _collection(schema, schemas)
    return _PLAIN.get(schema.get("type", ""), "Any")


def _collection(schema: dict[str, Any], schemas: Schemas) -> str:
    if schema["type"] == "array":
        return f"list[{_annotation(schema.get('items', {}), schemas)}]"
    further = schema.get("additionalProperties")
    return f"dict[str, {_annotation(further, schemas) if isinstance(further, dict) else 'Any'}]"


def _quoted(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _type(name: str, parent: str | None, schemas: Schemas) -> str:
    fields = _fields(schemas, name)
    told = schemas[name].get("description", name).splitlines()[0]
    if not all(field.isidentifier() for field in fields):
        pairs = "\n".join(f'    "{field}": {kind},' for field, kind in fields.items())
        return f'{name} = TypedDict(\n    "{name}",\n    {{\n{pairs}\n    }},\n)  # fmt: skip\n"""{told}"""'
    inherited = {} if parent is None else _fields(schemas, parent)
    lines = [f"    {field}: {kind}" for field, kind in fields.items() if field not in inherited]
    return "\n".join([f"class {name}({parent or 'TypedDict'}):", f'    """{told}"""', "", *lines])


def _choice(name: str, values: list[str]) -> str:
    """Return the alias for some strings, folded where it is long."""
    quoted = ", ".join(_quoted(value) for value in values)
    if len(name) + len(quoted) <= _WIDTH - len(" = Literal[]"):
        return f"{name} = Literal[{quoted}]"
    folded = textwrap.fill(quoted, _WIDTH, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)
    return f"{name} = Literal[\n{folded}\n]  # fmt: skip"
