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
from cli.commands import RUN_PROGRAM, SPEC, Retort, environment, free_port, running
from retort.cli.up import ManagedProcess, ProcessSupervisor, why_not_ready
from retort.errors import TransientError
from retort.settings import Settings
from servers import Valkey


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


def test_a_broker_that_is_not_there_and_goes_twice_more_costs_no_job(
    tmp_path: Path, retort: Retort, monkeypatch: pytest.MonkeyPatch
):
    broker, log = Valkey(), tmp_path / "home.log"
    broker.port = free_port()
    scripted = [f"--run-command={sys.executable}", f"--run-command={RUN_PROGRAM}"]
    settings = {"broker_url": f"redis://127.0.0.1:{broker.port}/0", "poll_s": 0.5, "heartbeat_s": 0.2}

    def job(url: str) -> None:
        told = retort("submit", SPEC, "--set", "name=finish", "--set", "training.epochs=1", url=url)
        assert told.code == 0, told.err
        assert retort("wait", told.out.strip(), "--timeout", 30, url=url).code == 0

    def is_(url: str, status: str) -> bool:
        return bool(httpx.get(f"{url}/readyz", timeout=20).json()["status"] == status)

    with running(tmp_path / "home", "--port", str(free_port()), *scripted, **settings) as (_, ready):
        url = ready["url"]
        monkeypatch.setenv("RETORT_HOME", ready["home"])
        assert ready["status"] == "degraded"
        assert "no job is lost: each starts by polling, within 0.5 s" in log.read_text()
        job(url)
        for _ in range(2):
            broker.start()
            assert is_(url, "ok")
            job(url)
            broker.kill()
            assert is_(url, "degraded")
            job(url)
    assert log.read_text().count("broker_not_reached") == 3, "by the API, once for each outage"
    assert "alembic" not in log.read_text()
    broker.stop()


def test_a_service_that_is_not_ready_in_time_says_why():
    """It said "not ready after 120 s", and not which check had failed."""
    part = ManagedProcess("retort_no_such_module", environment(), backoff_s=5.0)

    with pytest.raises(TransientError, match="not ready after 0 s: the check 'store' fails") as caught:
        ProcessSupervisor([part], 5.0, print).run(
            ready=lambda: False, announce=lambda: None, late=lambda: ("the check 'store' fails", "see"), patience_s=0.1
        )

    assert caught.value.hint == "see"


def test_where_nothing_answers_the_parts_messages_are_the_place_to_look():
    why, hint = why_not_ready(None, {}, "http://here", Settings())

    assert why == "nothing answers at http://here/readyz"
    assert "messages of retort_api" in hint


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
        ProcessSupervisor([part], 5.0, said.append).run(
            ready=lambda: False, announce=lambda: said.append("ready"), late=lambda: ("", ""), patience_s=120.0
        )

    assert len(said) == 4
    assert not part.running


def test_importing_the_command_line_imports_nothing_heavy():
    heavy = {"torch", "ultralytics", "sqlalchemy", "celery", "fastapi", "sklearn", "numpy", "PIL"}
    code = "import sys, retort.cli.app; print(*{name.partition('.')[0] for name in sys.modules})"

    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)

    assert not heavy & set(done.stdout.split())
