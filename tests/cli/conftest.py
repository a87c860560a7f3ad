"""A whole service started by ``retort up``, and the command line that speaks to it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cli.commands import RUN_PROGRAM, SPEC, Ended, Retort, free_port, key_of, running
from retort.cli.app import start

KEYS: dict[str, str] = {}
"""Of the services that were started, by address."""


@pytest.fixture(scope="session")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What a service says of itself whose runs play the script that the job's name says."""
    home = tmp_path_factory.mktemp("up") / "home"
    home.mkdir()
    home.chmod(0o755)  # as somebody has made it before
    scripted = [f"--run-command={sys.executable}", f"--run-command={RUN_PROGRAM}"]
    with running(home, "--port", str(free_port()), *scripted, poll_s=0.2, heartbeat_s=0.2) as (_, ready):
        KEYS[ready["url"]] = key_of(ready)
        yield ready


@pytest.fixture(scope="session")
def service(ready: dict[str, Any]) -> str:
    """Address of that service."""
    return str(ready["url"])


@pytest.fixture(scope="session")
def key(ready: dict[str, Any]) -> str:
    """Key of that service."""
    return KEYS[ready["url"]]


@pytest.fixture
def retort(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Retort:
    """Run a command in this process, with no configuration but the defaults.

    It carries the key of the service that it names, unless it says ``keyed=False``.
    """
    for name in [name for name in os.environ if name.startswith("RETORT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")  # whatever starts the tests may have a terminal or not
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))

    def call(*arguments: object, url: str | None = None, keyed: bool = True) -> Ended:
        capsys.readouterr()
        if url:
            monkeypatch.setenv("RETORT_URL", url)
        named = url or next((argument for argument in arguments if argument in KEYS), None)
        if named and keyed:
            monkeypatch.setenv("RETORT_KEY", KEYS.get(str(named), ""))
        code = start([str(argument) for argument in arguments])
        return Ended(code, *capsys.readouterr())

    return call


@pytest.fixture
def served(retort: Retort, service: str) -> Retort:
    """Run a command against the service."""
    return lambda *arguments: retort(*arguments, url=service)


@pytest.fixture
def submitted(served: Retort) -> Callable[[str, int], str]:
    """Submit a job that plays a script; return its id."""

    def submit(script: str, epochs: int) -> str:
        ended = served("submit", SPEC, "--set", f"name={script}", "--set", f"training.epochs={epochs}")
        assert ended.code == 0, ended.err
        return ended.out.strip()

    return submit
