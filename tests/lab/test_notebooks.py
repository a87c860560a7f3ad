"""The notebooks run, hold their claims, and show what they showed when they were committed."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from house.source import ROOT
from lab.notebooks import FOLDER, ORDER, cleaned, executed, read
from sharing import Once

LOSS = re.compile(r"^LOSS = '''(.*?)'''", re.DOTALL | re.MULTILINE)
MOST_BYTES = 400_000
"""Of a notebook with its pictures: they travel with every clone."""
USED = """
from retort.losses import LOSS_KINDS
from retort.spec import parse_spec
spec = parse_spec({"name": "a", "data": {"path": "/d"}, "teacher": {"weights": "a.pt"},
                   "distillation": {"losses": [{"kind": "log_cosh", "scale": 2.0}]}})
[loss] = spec.distillation.losses
assert type(loss) is LOSS_KINDS["log_cosh"]
"""
FIVE_LINES = {"KL in five lines": "kl", "cosine in five lines": "cosine"}


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell: Any) -> list[str]:
    """What kinds of things a cell shows, in order."""
    kinds = [one.get("name") or "+".join(sorted(one.data)) for one in cell.outputs]
    return [kind for number, kind in enumerate(kinds) if kind != "stdout" or kinds[:number].count("stdout") == 0]


def execute(folder: Path) -> dict[str, Any]:
    """Execute all notebooks anew in one folder, with one epoch in place of many."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LAB_EPOCHS", "1")
        patched.setenv("MPLCONFIGDIR", str(folder / "matplotlib"))
        for name in ("RETORT_URL", "RETORT_KEY", "RETORT_HOME"):
            patched.delenv(name, raising=False)
        return {name: executed(name, folder) for name in ORDER}


@pytest.fixture(scope="session")
def again(trained: Once) -> dict[str, Any]:
    """All notebooks as they are when they are executed anew."""
    found: dict[str, Any] = trained("notebooks", execute)[1]
    return found


@pytest.mark.train
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ORDER)
def test_a_notebook_runs_holds_its_claims_and_shows_what_it_showed(name: str, again: dict[str, Any]):
    """A claim is an assertion in a cell; executing it has raised none."""
    kept, found = code(read(name)), code(again[name])

    assert any(line.startswith("assert ") for cell in found for line in cell.source.splitlines())
    assert [shown(cell) for cell in found] == [shown(cell) for cell in kept]


def test_each_notebook_is_committed_executed_and_clean():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(ORDER)
    for name in ORDER:
        notebook, content = read(name), (FOLDER / f"{name}.ipynb").read_text()
        cells = code(notebook)
        assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "in order, each once"
        assert cleaned(read(name), ROOT) == notebook, "make notebooks leaves nothing of the machine in it"
        assert not any(one.output_type == "error" for cell in cells for one in cell.outputs)
        assert len(content) < MOST_BYTES


def test_the_committed_pictures_are_pictures():
    pictures = [one.data["image/png"] for name in ORDER for cell in code(read(name)) for one in cell.outputs
                if "image/png" in one.get("data", {})]  # fmt: skip
    assert len(pictures) >= 8
    assert all(base64.b64decode(one).startswith(b"\x89PNG") for one in pictures)


def test_kl_and_cosine_are_drawn_in_five_lines_each():
    cells = read("temperature").cells
    for title, name in FIVE_LINES.items():
        [number] = [n for n, cell in enumerate(cells) if cell.source.startswith("## ") and title in cell.source]
        drawn, _, _ = cells[number + 1].source.partition("\n\n")
        assert (len(drawn.splitlines()), f"imshow({name}" in drawn) == (5, True)


def test_the_own_loss_is_a_file_that_the_library_takes_as_it_stands(tmp_path: Path):
    """The notebook says that the file need only be put into ``core/retort/losses``."""
    [text] = [found for cell in code(read("own_data_own_loss")) for found in LOSS.findall(cell.source)]
    shutil.copytree(ROOT / "core", tmp_path / "core", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "core/retort/losses/log_cosh.py").write_text(text)
    rules = ["-m", "ruff", "check", "--config", str(ROOT / "pyproject.toml"), "core/retort/losses/log_cosh.py"]
    for command in (["-c", USED], rules):
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "core")}
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
