"""JupyterLab as ``make lab`` starts it: reached from this machine alone, and only with the token that it prints."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import psutil
import pytest
from house.source import ROOT
from servers import free_port

CARELESS = {"ServerApp": {"ip": "0.0.0.0"}, "IdentityProvider": {"token": ""}}  # noqa: S104 - what must not come about
PRINTED = re.compile(r"http://127\.0\.0\.1:\d+/lab\?token=(\w+)")


@contextmanager
def lab(home: Path, port: int) -> Iterator[tuple[psutil.Process, str]]:
    """Start ``make lab`` as somebody whose own Jupyter asks for no token and listens everywhere; yield its token."""
    (home / ".jupyter").mkdir(parents=True)
    (home / ".jupyter" / "jupyter_server_config.json").write_text(json.dumps(CARELESS))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")}
    command = [shutil.which("make") or "make", "--no-print-directory", "lab", f"LAB_PORT={port}", "ARGS=--no-browser"]
    process = subprocess.Popen(
        command, cwd=ROOT, env={**environment, "HOME": str(home)}, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        token = next((found[1] for line in process.stderr if (found := PRINTED.search(line))), None)
        assert token is not None, "it ended without an address"
        yield psutil.Process(process.pid), token
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=30)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[psutil.Process, httpx.Client, str]]:
    port = free_port()
    with (
        lab(tmp_path_factory.mktemp("lab") / "home", port) as (process, token),
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        yield process, client, token


def listening(process: psutil.Process) -> set[str]:
    every = [one.net_connections() for one in (process, *process.children(recursive=True))]
    return {found.laddr.ip for part in every for found in part if found.status == psutil.CONN_LISTEN}


def test_the_lab_listens_on_this_machine_alone(running: tuple[psutil.Process, httpx.Client, str]):
    assert listening(running[0]) == {"127.0.0.1"}


def test_the_lab_shows_nothing_without_its_token(running: tuple[psutil.Process, httpx.Client, str]):
    _, client, token = running
    asked: list[Any] = [client.get("/api/contents", params=params).status_code for params in ({}, {"token": token})]
    assert asked == [403, 200]
    assert client.get("/api/contents", headers={"Host": "evil.example"}, params={"token": token}).status_code == 403


def test_the_lab_opens_the_notebooks_with_this_python(running: tuple[psutil.Process, httpx.Client, str]):
    _, client, token = running
    given = {"Authorization": f"token {token}"}
    [kernel] = client.get("/api/kernelspecs", headers=given).json()["kernelspecs"].values()
    shown = {one["name"] for one in client.get("/api/contents", headers=given).json()["content"]}
    assert kernel["spec"]["argv"][:3] == ["python", "-m", "ipykernel_launcher"]
    assert shown >= {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
