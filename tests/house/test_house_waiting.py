"""Tests in a browser wait for what a click changes: what is read at once is the page of before, on a busy machine."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from house.source import modules, tree

DOING = {"click", "dblclick", "press", "check", "uncheck", "select_option"}
READING = {
    "is_visible", "is_hidden", "is_checked", "is_enabled", "is_disabled", "count", "title", "content", "input_value",
    "inner_text", "text_content", "get_attribute",
}  # fmt: skip
"""Methods of a page or a locator that answer for the moment; ``expect`` asks again until the answer is right."""
WAITING = {"desk.press"}
"""Presses that end with the next page."""

FILE = """
def test_it(page, desk):
    page.click("text=Pause")
    assert page.locator(".badge").is_visible()
    with page.expect_navigation():
        page.click("text=Resume")
    assert page.locator(".badge").is_visible()
    page.get_by_role("button").click()
    job_id = page.url.rpartition("/")[2]
    page.click("text=Pause")
    expect(page.locator(".badge")).to_be_visible()
    desk.press("Save")
    assert desk.page.url
"""


def hasty(path: Path) -> Iterator[str]:
    """Yield each statement that reads a page right after the click before it."""
    for node in ast.walk(tree(path)):
        for field in ("body", "orelse", "finalbody"):
            statements = getattr(node, field, None)
            for before, after in pairwise(statements if isinstance(statements, list) else ()):
                if acts(before) and reads(after):
                    yield f"{path.name}:{after.lineno}"


def acts(statement: ast.stmt) -> bool:
    """Whether it is a click or a key, after which nothing has been waited for."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return False
    return call.func.attr in DOING and ast.unparse(call.func) not in WAITING


def reads(statement: ast.stmt) -> bool:
    """Whether it asserts what the page says at this moment, or takes its address."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Attribute) and node.attr == "url" and ast.unparse(node.value).endswith("page"):
            return isinstance(statement, ast.Assert | ast.Assign)
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Attribute) and called.attr in READING and isinstance(statement, ast.Assert):
            return True
    return False


def test_after_a_click_a_test_waits_for_what_it_changes():
    assert [found for path in modules("tests/browser") for found in hasty(path)] == []


def test_a_hasty_reading_is_found(tmp_path: Path):
    (path := tmp_path / "test_it.py").write_text(FILE)
    assert list(hasty(path)) == ["test_it.py:4", "test_it.py:9"]
