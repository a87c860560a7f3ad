"""Workers on hosts of their own, in network namespaces: one is cut off, others take its jobs, and it comes back."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from chaos.ledger import audit
from chaos.service_harness import Stage, eventually, staged
from retort.db import jobs
from retort.states import ACTIVE, JobState
from servers import Postgres, Valkey, running

NETWORK = "10.213.77"
BRIDGE = "retort-br"


def ip(*words: str) -> None:
    subprocess.run(["/usr/bin/env", "ip", *words], check=True, capture_output=True)


@dataclass(frozen=True)
class Host:
    """A network namespace with one cable to the bridge."""

    number: int

    @property
    def name(self) -> str:
        return f"retort-{self.number}"

    @property
    def prefix(self) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.name)

    def build(self) -> None:
        ip("netns", "add", self.name)
        ip("link", "add", f"rtv{self.number}", "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("link", "set", f"rtv{self.number}", "master", BRIDGE, "up")
        ip("-n", self.name, "addr", "add", f"{NETWORK}.{self.number}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            ip("-n", self.name, "link", "set", device, "up")

    def cut(self) -> None:
        """Pull the cable: packets vanish, and no side is told."""
        ip("link", "set", f"rtv{self.number}", "down")

    def heal(self) -> None:
        ip("link", "set", f"rtv{self.number}", "up")


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and iproute2, for network namespaces")
    made = [Host(2), Host(3)]
    _remove(made)
    try:
        ip("link", "add", BRIDGE, "type", "bridge")
        ip("addr", "add", f"{NETWORK}.1/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        for host in made:
            host.build()
    except subprocess.CalledProcessError as error:
        _remove(made)
        pytest.skip(f"this machine makes no network namespaces: {error.stderr.decode().strip()}")
    yield made
    _remove(made)


def _remove(hosts: list[Host]) -> None:
    for words in (*(("netns", "del", host.name) for host in hosts), ("link", "del", BRIDGE)):
        subprocess.run(["/usr/bin/env", "ip", *words], check=False, capture_output=True)


def holders(stage: Stage) -> set[int]:
    """Processes of the workers that hold jobs."""
    held = [stage.job(job_id) for job_id, state in stage.states().items() if state in ACTIVE]
    return {int(job.worker.split(":")[1]) for job in held if job.worker}


def test_a_host_that_is_cut_off_and_comes_back_loses_and_doubles_nothing(hosts: list[Host], tmp_path: Path):
    with ExitStack() as stack:
        postgres = stack.enter_context(running(Postgres(f"{NETWORK}.1")))
        valkey = stack.enter_context(running(Valkey(f"{NETWORK}.1")))
        stage = stack.enter_context(staged(tmp_path / "stage", postgres, valkey.url()))
        remote = postgres.remote_url(stage.database_name)
        stage.start_api()
        machines = [stage.add_machine(prefix=host.prefix, database_url=remote, slots=3) for host in hosts]
        stage.ready()
        for _ in range(8):
            stage.submit("train.200", 20)
        pids = [machine.process.pid for machine in machines if machine.process]
        eventually(lambda: set(pids) <= holders(stage), 60)

        lost = [job_id for job_id, state in stage.states().items() if state is JobState.RUNNING]
        lost = [job_id for job_id in lost if str(pids[0]) in str(stage.job(job_id).worker)]
        hosts[0].cut()
        for _ in range(4):
            stage.submit("train.200", 20)
        eventually(lambda: all(stage.job(job_id).attempt == 2 for job_id in lost), 90)
        assert pids[0] not in holders(stage), "the others have its jobs"
        hosts[0].heal()

        for _ in range(8):
            stage.submit("train.200", 20)
        verdict = audit(stage, stage.wait_for_all())
        assert verdict.wrong() == []
        last = list(stage.accepted)[-8:]
        with stage.database.read() as session:
            workers = {row.worker.split(":")[1] for job_id in last for row in jobs.attempts_of_job(session, job_id)}
        assert str(pids[0]) in workers, "the healed host works again"
