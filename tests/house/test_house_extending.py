"""The examples in docs/extending.md work as they stand there: each is one file, put into a copy of the library."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from house.source import ROOT

BLOCK = re.compile(r"<!-- file: (\S+) -->\n```python\n(.*?)```", re.DOTALL)
FILES: dict[str, str] = dict(BLOCK.findall((ROOT / "docs" / "extending.md").read_text()))

LOSS = """
import torch
from retort.spec import parse_spec, schema
spec = parse_spec({"name": "a", "data": {"path": "/d"}, "teacher": {"weights": "a.pt"},
                   "distillation": {"losses": [{"kind": "cosine", "margin": 0.9}]}})
[loss] = spec.distillation.losses
assert parse_spec(spec.model_dump(mode="json")) == spec
assert "Cosine" in schema()["$defs"]
x = torch.randn(2, 3, 4, 4)
assert float(loss(x, x, x[:, :1])) == 0 < float(loss(-x, x, x[:, :1]))
assert loss.build(3, 5)(x).shape == (2, 5, 4, 4)
"""
MISSPELT = """
from retort.errors import SpecError
from retort.spec import parse_spec
try:
    parse_spec({"name": "a", "data": {"path": "/d"}, "teacher": {"weights": "a.pt"},
                "distillation": {"losses": [{"kind": "cosine", "margn": 0.9}]}})
except SpecError as error:
    [problem] = error.problems
    assert problem.path == "distillation.losses.0.margn", problem
    assert problem.hint == "did you mean 'margin'?", problem
else:
    raise SystemExit("accepted")
"""
STAGE = """
from retort.pipeline.context import find
names = [stage.name for stage in find()]
assert names.index("count_images") == names.index("distill") + 1, names
"""
EXPORT = """
from retort.spec import parse_spec
spec = parse_spec({"name": "a", "data": {"path": "/d"}, "teacher": {"weights": "a.pt"},
                   "exports": [{"format": "mnn", "precision": "fp16"}, {"format": "onnx"}]})
assert [export.suffix for export in spec.exports] == [".mnn", ".onnx"]
"""


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the library with the documented files in it."""
    copy = tmp_path_factory.mktemp("extended")
    shutil.copytree(ROOT / "core", copy / "core", ignore=shutil.ignore_patterns("__pycache__"))
    for path, text in FILES.items():
        assert not (copy / path).exists(), f"{path} is there already"
        (copy / path).write_text(text)
    return copy


def test_there_is_an_example_of_each():
    assert sorted(Path(path).parent.name for path in FILES) == ["exports", "losses", "stages"]


@pytest.mark.parametrize("code", [LOSS, MISSPELT, STAGE, EXPORT], ids=["loss", "misspelt", "stage", "export"])
def test_a_documented_example_works(code: str, extended: Path):
    environment = {**os.environ, "PYTHONPATH": str(extended / "core")}
    check = f"import retort; assert {str(extended)!r} in retort.__file__, retort.__file__\n{code}"

    done = subprocess.run(
        [sys.executable, "-c", check], env=environment, capture_output=True, text=True, check=False, cwd=extended
    )

    assert done.returncode == 0, done.stderr


def test_the_examples_keep_the_rules_of_style(extended: Path):
    command = [sys.executable, "-m", "ruff", "check", "--config", str(ROOT / "pyproject.toml"), *FILES]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=extended)

    assert done.returncode == 0, done.stdout
