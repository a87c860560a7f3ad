"""Modules are short, say in one sentence what they are for, and carry names that mean something."""

from __future__ import annotations

import re
import statistics
import tokenize
from pathlib import Path

from house.source import functions, modules, name

LONGEST_MODULE = 600
LONGEST_FUNCTION = 60
MEDIAN_FUNCTION = 12
MEANINGLESS = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK|NotImplementedError|NotImplemented)\b")
BARE = re.compile(r"#\s*(type:\s*ignore|noqa)(?!\[|:\s*[A-Z]+[0-9]+)")

LIBRARY = modules()
EVERY_FILE = modules("core", "api", "worker", "tests", "examples", "benchmarks", "migrations")


def test_modules_are_short():
    lengths = {name(module): len(module.read_text().splitlines()) for module in LIBRARY}

    assert {module: lines for module, lines in lengths.items() if lines > LONGEST_MODULE} == {}


def test_functions_are_short():
    lengths = dict(function for module in LIBRARY for function in functions(module))

    assert {function: lines for function, lines in lengths.items() if lines > LONGEST_FUNCTION} == {}
    assert statistics.median(lengths.values()) <= MEDIAN_FUNCTION


def _first_sentence_is_wrong(module: Path) -> str | None:
    text = module.read_text()
    if not text.startswith('"""'):
        return "the first line is not a docstring"
    first = text.splitlines()[0].removeprefix('"""').removesuffix('"""')
    sentence = first.replace("e.g.", "").replace("i.e.", "").replace("vs.", "")
    if not sentence.strip(".?") or not sentence.endswith((".", "?")):
        return f"not a sentence on one line: {first}"
    return f"more than one sentence: {first}" if ". " in sentence else None


def test_every_file_begins_with_one_sentence_that_says_what_it_is_for():
    wrong = {name(module): _first_sentence_is_wrong(module) for module in EVERY_FILE}

    assert {module: why for module, why in wrong.items() if why} == {}


def test_no_file_has_a_name_without_meaning():
    named = [module for module in EVERY_FILE if {module.stem, module.parent.name} & MEANINGLESS]

    assert [name(module) for module in named] == []


def test_nothing_is_left_unfinished():
    own = Path(__file__).name
    found = {name(module): UNFINISHED.findall(module.read_text()) for module in EVERY_FILE if module.name != own}

    assert {module: words for module, words in found.items() if words} == {}


def test_an_exception_from_a_check_names_what_it_excepts():
    bare = []
    for module in EVERY_FILE:
        with tokenize.open(module) as file:
            comments = [token for token in tokenize.generate_tokens(file.readline) if token.type == tokenize.COMMENT]
        bare += [f"{name(module)}:{token.start[0]} {token.string}" for token in comments if BARE.search(token.string)]

    assert bare == []
