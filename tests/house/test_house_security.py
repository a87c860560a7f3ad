"""Hold each control of the security pages to a test that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from house.source import ROOT

PAGES = sorted((ROOT / "docs").glob("security-*.md"))
_NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def _rows(page: Path) -> list[str]:
    rows = re.findall(r"^\| (.+) \|$", page.read_text(), re.MULTILINE)
    return [row for row in rows if row != "threat | control | test"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_control_names_tests_that_exist(page: Path):
    for row in _rows(page):
        threat, control, tests = row.split(" | ")
        named = _NAMED.findall(tests)

        assert threat
        assert control
        assert named, f"no test holds this: {row}"
        for file, test in named:
            functions = {one.name for one in ast.walk(ast.parse((ROOT / file).read_text())) if _is_function(one)}
            assert test in functions, f"{file} has no {test}"


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
