"""Modules are short, say in one sentence what they are for, and carry names that mean something."""

from __future__ import annotations

import re
import statistics
import tokenize
from pathlib import Path

import pytest
from house.source import functions, modules, name, tree

LONGEST_MODULE = 300
LONGEST_FUNCTION = 60
MEDIAN_FUNCTION = 12
MEANINGLESS = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers", "core", "base_utils"}
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK|NotImplementedError|NotImplemented)\b")
BARE = re.compile(r"#\s*(type:\s*ignore|noqa)(?!\[|:\s*[A-Z]+[0-9]+)")

EVERY_MODULE = pytest.mark.parametrize("module", modules(), ids=name)
EVERY_FILE = pytest.mark.parametrize(
    "module", modules("core", "api", "worker", "tests", "examples", "benchmarks"), ids=name
)


@EVERY_MODULE
def test_a_module_is_short(module: Path):
    assert len(module.read_text().splitlines()) <= LONGEST_MODULE


@EVERY_MODULE
def test_a_function_is_short(module: Path):
    assert [f"{where} has {lines} lines" for where, lines in functions(module) if lines > LONGEST_FUNCTION] == []


def test_the_median_function_is_short():
    lengths = [lines for module in modules() for _, lines in functions(module)]

    assert statistics.median(lengths) <= MEDIAN_FUNCTION


@EVERY_FILE
def test_a_file_begins_with_one_sentence_that_says_what_it_is_for(module: Path):
    body = tree(module).body
    text = module.read_text()

    assert body, "empty files say nothing"
    assert text.startswith('"""'), "the first line is the docstring"
    first = text.splitlines()[0].removeprefix('"""').removesuffix('"""')
    sentence = first.replace("e.g.", "").replace("i.e.", "").replace("vs.", "")
    assert sentence.endswith((".", "?")), f"not a sentence: {first}"
    assert ". " not in sentence, f"more than one sentence: {first}"
    assert sentence.strip("."), "empty"


@EVERY_FILE
def test_no_file_has_a_name_without_meaning(module: Path):
    assert not MEANINGLESS & {module.stem, module.parent.name} or module.parent.name == "core"


@EVERY_FILE
def test_nothing_is_left_unfinished(module: Path):
    if module.name == Path(__file__).name:
        return
    assert UNFINISHED.findall(module.read_text()) == []


@EVERY_FILE
def test_an_exception_from_a_check_names_what_it_excepts(module: Path):
    with tokenize.open(module) as file:
        comments = [token for token in tokenize.generate_tokens(file.readline) if token.type == tokenize.COMMENT]

    assert [f"line {token.start[0]}: {token.string}" for token in comments if BARE.search(token.string)] == []
