"""A class name means one class, and first docstring lines use the words of the field."""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from house.source import ROOT, modules, name, tree

OURS = re.compile(
    r"\b(bell|rings?|pulse|wish(es|ed)?|tells?|told|settles?d?|workshop|desk|album|forms?|ruling|lessons?|tutors?|taught|"
    r"spared?|portraits?|vitals|symptoms|stillness|facade|bench|room|feeds?|together|anew|gets? on|go(es)? on|whom|"
    r"so many)\b|\b(its|their|his|our) own\b|^What\b|^(Return )?[Tt]he same\b"
)
"""Words of this house for which the field has its own."""
LONGEST_TITLE = 14
"""Words in the first line of a docstring."""
PUBLISHED = (
    "core/retort/cli/", "core/retort/spec/", "core/retort/exports/", "core/retort/losses/",
    "core/retort/review/figures.py", "api/retort_api/routes/", "api/retort_api/schemas/",
)  # fmt: skip
"""Docstrings of classes and functions there are texts of the command line, the schemas and the OpenAPI document."""
WITH_WEB_FORMS = ("api/retort_api/pages/", "api/retort_api/origin.py")
"""Where a form is an element of a page."""
WRITTEN_FROM_THE_CONTRACT = ("core/retort/client/answers.py", "core/retort/client/answer_parts.py")
"""The classes there are those of the OpenAPI document, by its names and with its words, which a test compares."""


def _first_lines(module: Path) -> Iterator[tuple[str, str]]:
    """Yield where each public docstring stands, and its first line."""
    published = name(module).startswith((*PUBLISHED, *WRITTEN_FROM_THE_CONTRACT))
    nodes = iter([tree(module)]) if published else ast.walk(tree(module))
    for node in nodes:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            called = getattr(node, "name", "module")
            text = ast.get_docstring(node)
            if text and not called.startswith("_"):
                yield f"{name(module)} {called}", text.splitlines()[0]


def test_a_class_name_is_defined_once():
    found = defaultdict(list)
    for module in modules():
        for node in tree(module).body:
            if isinstance(node, ast.ClassDef) and name(module) not in WRITTEN_FROM_THE_CONTRACT:
                found[node.name].append(name(module))

    assert {called: where for called, where in found.items() if len(where) > 1} == {}


def test_first_docstring_lines_use_the_words_of_the_field():
    lines = [(where, line, OURS.search(line)) for module in modules() for where, line in _first_lines(module)]

    assert [
        f"{where}: {found[0]!r} in {line}"
        for where, line, found in lines
        if found and not (found[0] in {"form", "forms"} and where.startswith(WITH_WEB_FORMS))
    ] == []


def test_the_first_line_of_a_module_is_short():
    titles = {name(module): (ast.get_docstring(tree(module)) or "").partition("\n")[0] for module in modules()}

    assert {module: title for module, title in titles.items() if len(title.split()) > LONGEST_TITLE} == {}


def test_the_first_line_of_a_class_or_function_is_short():
    document = (ROOT / "docs" / "openapi.json").read_text()
    lines = [(where, line) for module in modules() for where, line in _first_lines(module)]
    long = [(where, line) for where, line in lines if len(line.split()) > LONGEST_TITLE]

    # A class that stands in the OpenAPI document is described there by its docstring.
    assert [f"{where}: {line}" for where, line in long if json.dumps(line)[1:-1] not in document] == []
