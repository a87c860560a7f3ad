"""Read a spec document, YAML or JSON, into plain values."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import yaml

from retort.errors import FieldProblem, SpecError


def parse_document(text: str | bytes) -> Any:
    """Read YAML or JSON text into plain values.

    Raises:
        SpecError: the text is neither, or says the same key twice.

    """
    try:
        text = text.decode() if isinstance(text, bytes) else text
        if text.lstrip().startswith("{"):
            return _json(text)
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader that knows fewer types
    except yaml.MarkedYAMLError as error:
        raise SpecError([_unreadable(error)]) from error
    except (yaml.YAMLError, ValueError, LookupError) as error:
        raise SpecError([FieldProblem("$", f"not readable as YAML or JSON: {error}")]) from error
    except RecursionError as error:
        raise SpecError([FieldProblem("$", "nested too deeply")]) from error


def merge(document: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return *document* changed by *patch* (JSON Merge Patch, RFC 7396): null removes a field, mappings are merged."""
    merged = {key: value for key, value in document.items() if patch.get(key, ...) is not None}
    for key, value in patch.items():
        if isinstance(value, dict):
            inner = document.get(key)
            merged[key] = merge(inner if isinstance(inner, dict) else {}, value)
        elif value is not None:
            merged[key] = value
    return merged


def _json(text: str) -> Any:
    """Read JSON; what begins like it but is not may still be YAML's flow style."""
    try:
        return json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader that knows fewer types


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a mapping; the usual readers let the last of two equal keys win without a word."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} appears twice in one mapping")
        found[key] = value
    return found


def _unreadable(error: yaml.MarkedYAMLError) -> FieldProblem:
    mark = error.problem_mark or error.context_mark
    place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return FieldProblem("$", f"not valid YAML or JSON{place}: {error.problem or error.context}")


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core types and nothing else: 1e-3 is a number, ``on`` and 2026-11-23 are texts, no aliases."""

    yaml_constructors: ClassVar[dict[str | None, Any]] = {
        **{
            f"tag:yaml.org,2002:{name}": yaml.SafeLoader.yaml_constructors[f"tag:yaml.org,2002:{name}"]
            for name in ("null", "bool", "float", "str", "seq", "map")
        },
        "tag:yaml.org,2002:int": lambda _, node: int(node.value),
        None: yaml.SafeLoader.construct_undefined,
    }

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(problem="aliases are not accepted; write it out", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name in seen:
                problem = f"the key {name!r} appears twice in one mapping"
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key.start_mark)
            seen |= {name} - {None}
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {}  # forget YAML 1.1's
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))
