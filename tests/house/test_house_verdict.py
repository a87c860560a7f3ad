"""What a distillation was worth is judged in one place; all others show that verdict."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from house.source import ROOT, modules, name, tree

JUDGE = {"core/retort/report/verdict.py", "core/retort/report/result.py"}
"""The verdict, and the figures that it is made from."""
FIGURES = re.compile(r"""\.(gain|gap_closed)\b|\[["'](gain|gap_closed)["']\]""")
"""How code or a template takes the difference or its share out of a result."""
WORDS = re.compile(
    r"bought|of the gap|distillation (gained|helped|did|made|closed|lost)|(gain|points) over (the|its) .*control"
)
"""How a sentence with figures in it would judge."""


def texts() -> list[Path]:
    """Everything beside modules that shows a result: templates, scripts, pages and examples."""
    folders = ("core/retort", "api/retort_api", "examples")
    kinds = {".html", ".js", ".sh", ".yaml"}
    found = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in kinds]
    assert len(found) > 5
    return [path for path in found if path.is_file()]


def sources() -> list[Path]:
    """All modules that could show a result, but for those that judge."""
    return [path for path in (*modules(), *(ROOT / "examples").glob("*.py")) if name(path) not in JUDGE]


def figures_of(module: Path) -> Iterator[int]:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Attribute) and node.attr in {"gain", "gap_closed"}:
            yield node.lineno
        named = node.slice if isinstance(node, ast.Subscript) else None
        if isinstance(named, ast.Constant) and named.value in {"gain", "gap_closed"}:
            yield node.lineno


def sentences_of(module: Path) -> Iterator[int]:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.JoinedStr):
            told = "".join(part.value for part in node.values if isinstance(part, ast.Constant))
            if WORDS.search(told):
                yield node.lineno


@pytest.mark.parametrize("find", [figures_of, sentences_of])
def test_only_the_judge_reads_the_difference_or_puts_it_into_words(find: object):
    assert callable(find)
    assert [f"{name(path)}:{line}" for path in sources() for line in find(path)] == []
    judging = [line for path in JUDGE for line in find(ROOT / path)]
    assert judging or find is figures_of


def test_no_template_or_example_works_out_a_difference_or_a_share_of_its_own():
    found = []
    for path in texts():
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            told = line.replace("verdict.gap_closed", "").replace("verdict.difference", "")
            if FIGURES.search(told) or WORDS.search(told):
                found.append(f"{name(path)}:{number}")
    assert found == []
