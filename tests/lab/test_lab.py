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


def listening(process: psutil.Process) -> set[str]:
    every = [found for one in (process, *process.children(recursive=True)) for found in connections(one)]
    return {found.laddr.ip for found in every if found.status == psutil.CONN_LISTEN}


def connections(process: psutil.Process) -> list[Any]:
    """Return what *process* has open; nothing of one that has ended since it was listed."""
    try:
        return process.net_connections()
    except psutil.NoSuchProcess:
        return []


def test_the_lab_is_reached_from_this_machine_alone_and_with_its_token_and_opens_the_notebooks(tmp_path: Path):
    port = free_port()
    with lab(tmp_path / "home", port) as (process, token), httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        assert listening(process) == {"127.0.0.1"}

        asked = [client.get("/api/contents", params=params) for params in ({}, {"token": token})]
        assert [answer.status_code for answer in asked] == [403, 200]
        foreign = client.get("/api/contents", headers={"Host": "evil.example"}, params={"token": token})
        assert foreign.status_code == 403

        shown = {one["name"] for one in asked[1].json()["content"]}
        assert shown >= {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
        [kernel] = client.get("/api/kernelspecs", params={"token": token}).json()["kernelspecs"].values()
        assert kernel["spec"]["argv"][:3] == ["python", "-m", "ipykernel_launcher"]
