"""Tests that train are marked so, and the quick lane stays quick; the documents name the lanes there are."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from house.source import ROOT, modules, name, tree
from hypothesis import HealthCheck, settings

STARTERS = {
    "broken_runs.run", "broken_runs.teacher", "broken_runs.Sound.train", "core.runs.start",
    "core.training.attempts.HERE", "retort.training.trainer.fit", "retort.training.trainer.TrainingLoop.train",
    "retort.training.distributed.launcher.fit",
}  # fmt: skip
"""What starts a training; a class counts where a ``train`` is called as well."""
SHARED = "trained"
"""The fixture that makes a training once: what stands on it is marked by tests/conftest.py."""
LANES = {"test", "test-all", "check"}


FILE = """
from core.runs import start
from retort.training import trainer
from retort.training.trainer import TrainingLoop
@pytest.fixture
def done(): return start(1)
def helper(): return TrainingLoop(1).train()
def test_fixture(done): ...
def test_helper(): helper()
def test_module(): trainer.fit(1)
@pytest.mark.train
def test_marked(): helper()
def test_built_only(): TrainingLoop(1)
def test_another_train(): network.train()
"""


def test_every_test_that_starts_a_training_is_marked_so():
    found = {name(path): training(path) for path in modules("tests") if path.name.startswith("test_")}
    assert sum(map(len, found.values())) > 50
    assert [f"{file}::{test}" for file, tests in found.items() for test, marked in tests.items() if not marked] == []


def test_a_training_is_found_through_functions_and_fixtures(tmp_path: Path):
    """The rule above has something to find: each of these would slow the quick lane down unseen."""
    path = tmp_path / "test_it.py"
    path.write_text(FILE)
    assert training(path) == {"test_fixture": False, "test_helper": False, "test_module": False, "test_marked": True}


def test_every_test_of_a_gpu_is_chosen_by_its_mark(request: pytest.FixtureRequest):
    """A file without the mark was left out by ``make test-gpu``; the folder's conftest marks what lies there."""
    here = [one for one in request.session.items if one.path.is_relative_to(ROOT / "tests" / "gpu")]
    if here:  # with all others: to collect them once more takes 10 s
        assert [one.nodeid for one in here if one.get_closest_marker("gpu") is None] == []
        return
    command = [sys.executable, "-m", "pytest", "tests/gpu", "--collect-only", "-q", "-m", "not gpu"]
    told = subprocess.run([*command, "-p", "no:cacheprovider"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert re.search(r"no tests collected \(\d\d deselected\)", told.stdout), told.stdout[-1000:]


def test_one_test_of_the_quick_lane_trains():
    marked = [name(path) for path in modules("tests") if "pytest.mark." + "smallest" in path.read_text()]
    assert marked == ["tests/cli/test_smallest_job.py"]


def test_no_example_fails_because_the_machine_is_busy():
    assert settings().deadline is None
    assert set(settings().suppress_health_check) == set(HealthCheck)


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "Makefile"])
def test_the_lanes_are_described_where_people_look(document: str):
    text = (ROOT / document).read_text()
    pattern = r"^([a-z-]+): \$\(READY\)" if document == "Makefile" else r"`make ([a-z-]+)`"
    assert set(re.findall(pattern, text, re.MULTILINE)) >= LANES


def test_every_mark_that_the_quick_lane_is_chosen_by_is_declared():
    chosen = re.search(r'^\t@\$\(PYTEST\) -m "([^"]+)"', (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert chosen is not None
    declared = set(re.findall(r'^    "(\w+): ', (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    assert set(re.findall(r"\w+", chosen[1])) - {"not", "or", "and"} == {"train", "smallest"} <= declared


@dataclass(frozen=True)
class Function:
    """What matters of a function: whether it starts a training, what it calls and asks for, and its marks."""

    starts: bool
    uses: frozenset[str]
    marks: str

    @classmethod
    def of(cls, node: ast.FunctionDef | ast.AsyncFunctionDef, imported: dict[str, str]) -> Function:
        inside = [one for statement in node.body for one in ast.walk(statement)]
        names = {one.id for one in inside if isinstance(one, ast.Name)}
        parts = [one for one in inside if isinstance(one, ast.Attribute)]
        meant = {imported.get(one, "") for one in names}
        meant |= {f"{imported.get(ast.unparse(one.value), '')}.{one.attr}" for one in parts}
        if any(one.attr == "train" for one in parts):
            meant |= {f"{one}.train" for one in meant}
        marks = " ".join(ast.unparse(mark) for mark in node.decorator_list)
        asked = {one.arg for one in (*node.args.args, *node.args.kwonlyargs)}
        return cls(bool(meant & STARTERS), frozenset(names | asked | set(re.findall(r"'(\w+)'", marks))), marks)


@cache
def functions(path: Path) -> dict[str, Function]:
    """The functions and fixtures at the top of a file."""
    imported = {}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom):
            imported |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
        elif isinstance(node, ast.Import):
            imported |= {one.asname or one.name: one.name for one in node.names}
    found = (node for node in tree(path).body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {node.name: Function.of(node, imported) for node in found}


def under(path: Path, test: str) -> dict[str, Function]:
    """The test, and all functions and fixtures that it stands on, in its file and the conftests above."""
    seen = [path, *(one for folder in path.parents if (one := folder / "conftest.py").is_file())]
    found: dict[str, Function] = {}
    left = {test}
    while left:
        used = left.pop()
        function = next((functions(one)[used] for one in seen if used in functions(one)), None)
        if function is not None and used not in found:
            found[used] = function
            left |= function.uses
    return found


def training(path: Path) -> dict[str, bool]:
    """The tests of a file that start a training, each with whether it is marked."""
    assigned = [ast.unparse(node) for node in tree(path).body if isinstance(node, ast.Assign)]
    whole = any(text.startswith("pytestmark") and "mark.train" in text for text in assigned)
    stands_on = {test: under(path, test) for test in functions(path) if test.startswith("test_")}
    return {
        test: whole or SHARED in found or "mark.train" in found[test].marks
        for test, found in stands_on.items()
        if any(one.starts for one in found.values())
    }
