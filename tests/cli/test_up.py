"""``retort up``: one parent that starts, watches, restarts and drains the service."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2 as httpx
import psutil
import pytest
from cli.commands import Retort, environment, free_port, running
from retort.cli.up import ManagedProcess, ProcessSupervisor
from retort.errors import TransientError


def eventually(look: Callable[[], object], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not look():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def parts(pid: int) -> dict[str, psutil.Process]:
    """The supervised processes that live, by their module."""
    found = {}
    for child in psutil.Process(pid).children():
        with suppress(psutil.Error):  # it may be gone, or no program yet
            command = child.cmdline()
            if alive(child) and "retort.cli.child" in command:
                found[command[3]] = child
    return found


def test_a_part_that_dies_is_started_again_and_sigterm_leaves_no_process(tmp_path: Path):
    with running(tmp_path / "home", "--port", str(free_port())) as (process, ready):
        first = parts(process.pid)
        assert set(first) == {"retort_api", "retort_worker"}
        first["retort_api"].kill()
        eventually(lambda: parts(process.pid).get("retort_api") not in {None, first["retort_api"]})
        eventually(lambda: answers(ready["url"]))
        assert parts(process.pid)["retort_worker"] == first["retort_worker"]

        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert not any(alive(child) for child in children)


def test_a_broker_that_cannot_be_reached_keeps_nothing_from_starting(tmp_path: Path):
    dead = f"redis://127.0.0.1:{free_port()}/0"
    with running(tmp_path / "home", "--port", str(free_port()), broker_url=dead) as (_, ready):
        log = (tmp_path / "home.log").read_text()

    assert ready["status"] == "degraded"
    assert "no job is lost: each starts by polling, within 2 s" in log
    assert log.count("the broker cannot be reached") == 1
    assert "alembic" not in log


def test_a_killed_parent_takes_its_parts_along(tmp_path: Path):
    with running(tmp_path / "home", "--port", str(free_port())) as (process, ready):
        children = list(parts(process.pid).values())
        process.kill()
        eventually(lambda: not any(alive(child) for child in children))

        assert not answers(ready["url"])


def alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_one_home_has_one_supervisor(ready: dict[str, Any], retort: Retort):
    refused = retort("up", "--home", ready["home"], "--port", free_port(), "--json")

    assert (refused.code, refused.error["code"]) == (4, "home_in_use")


def test_a_taken_port_is_told(ready: dict[str, Any], tmp_path: Path, retort: Retort):
    refused = retort("up", "--home", tmp_path / "home", "--port", ready["url"].rpartition(":")[2], "--json")

    assert (refused.code, refused.error["code"]) == (4, "port_in_use")


def test_a_part_that_keeps_dying_ends_the_service_with_a_reason():
    said: list[str] = []
    part = ManagedProcess("retort_no_such_module", environment(), backoff_s=0.001)

    with pytest.raises(TransientError, match="retort_no_such_module died 5 times in a row, last with exit code 1"):
        ProcessSupervisor([part], 5.0, said.append).run(ready=lambda: False, announce=lambda: said.append("ready"))

    assert len(said) == 4
    assert not part.running


def test_importing_the_command_line_imports_nothing_heavy():
    heavy = {"torch", "ultralytics", "sqlalchemy", "celery", "fastapi", "sklearn", "numpy", "PIL"}
    code = "import sys, retort.cli.app; print(*{name.partition('.')[0] for name in sys.modules})"

    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)

    assert not heavy & set(done.stdout.split())
