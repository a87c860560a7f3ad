"""Shells complete jobs, sweeps, models and datasets; where no service answers they complete nothing, at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from cli.commands import Retort, environment
from retort.cli import completion
from retort.cli.app import app
from typer.main import get_command

NOWHERE = "http://127.0.0.1:9"


def completed(words: str, url: str, key: str = "") -> list[str]:
    """What bash is told."""
    given = {"_RETORT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    done = subprocess.run(
        [sys.executable, "-m", "retort.cli"], env={**environment(url=url, key=key), **given}, capture_output=True,
        text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


def test_a_job_is_completed_by_its_name_and_by_its_id_where_several_have_the_name(
    served: Retort, submitted: Callable[[str, int], str], service: str, key: str
):
    one = served("clone", submitted("finish", 1), "--set", "name=finish-of-its-kind").out.strip()
    two = submitted("finish", 1)

    assert completed("retort get finish-of", service, key) == ["finish-of-its-kind"]
    assert two in completed("retort watch ", service, key)
    assert completed(f"retort wait {one[:-2]}", service, key) == [one]
    served("clone", one)
    assert completed("retort watch finish-of", service, key) == ["finish-of-its-kind"], "where several have it, too"


@pytest.mark.parametrize("words", ["retort get ", "retort sweep-get ", "retort models show ", "retort datasets pull "])
def test_where_no_service_answers_nothing_of_it_is_completed(words: str):
    assert completed(words, NOWHERE) == (["@last"] if words == "retort get " else [])


def test_what_needs_no_service_is_completed_without_one():
    assert "coco8" in [word for word, _ in completion.known_datasets("co")]
    assert next(word for word, _ in completion.students("yolo11")) == "yolo11n"


def test_names_that_a_shell_would_read_in_its_way_are_left_out():
    words = [(word, "about") for word in ("good", "two words", "$(rm)", "a;b", "\x1b[31m", "x`y`", "quote'")]

    assert completion._beginning("", words) == [("good", "about")]


def test_every_argument_that_names_a_job_a_sweep_or_a_model_is_completed():
    missing = [
        f"{' '.join(path)} {parameter.metavar}"
        for path, command in commands(get_command(app))
        for parameter in command.params
        if parameter.metavar in {"JOB", "[JOB]", "SWEEP", "JOB|SWEEP", "REFERENCE"}
        and parameter._custom_shell_complete is None
    ]

    assert missing == []


def commands(command: Any, *path: str) -> list[tuple[tuple[str, ...], Any]]:
    """All commands below *command*, by their words."""
    below = getattr(command, "commands", {})
    found = [one for name, child in below.items() for one in commands(child, *path, name)]
    return found or [(path, SimpleNamespace(params=command.params))]


def test_every_command_that_prints_something_prints_json_where_it_is_asked_to():
    silent = {"mcp", "skill"}  # one speaks a protocol, the other prints a document
    missing = [
        " ".join(path)
        for path, command in commands(get_command(app))
        if not any("--json" in parameter.opts for parameter in command.params)
    ]

    assert set(missing) == silent
