"""What hosts and hooks run is what make runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from house.source import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_hooks_run_what_make_lint_runs():
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    [repository] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]

    assert lint is not None
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in lint.group(1).splitlines()]
    assert [hook["entry"] for hook in repository["hooks"]] == commands


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_names_targets_that_there_are(path: Path):
    jobs = yaml.safe_load(path.read_text())["jobs"].values()
    commands = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    named = [found for command in commands for found in re.findall(r"\bmake ([a-z-]+)", command)]

    assert named
    assert set(named) <= TARGETS
