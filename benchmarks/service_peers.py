"""The peer: an MLflow tracking server as its command starts it, asked for what it shares with this service."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
from servers import free_port
from service_stand import Load, answers, eventually, load, post

_API = "/api/2.0/mlflow"


@dataclass
class Mlflow:
    """A server and one experiment on it."""

    url: str
    experiment: str

    def create_runs(self, *, seconds: float, connections: int) -> Load:
        """Create runs as fast as it goes."""
        body = json.dumps({"experiment_id": self.experiment, "start_time": 1, "run_name": "bench"})
        return load(f"{self.url}{_API}/runs/create", seconds=seconds, connections=connections, script=post(body))

    def get_runs(self, *, seconds: float, connections: int) -> Load:
        """Ask for a run."""
        url = f"{self.url}{_API}/runs/get?run_id={self.new_run()}"
        return load(url, seconds=seconds, connections=connections)

    def points_per_second(self, *, batches: int, points: int) -> float:
        """Log batches of metrics, one after the other; return the points a second."""
        run, step, begun = self.new_run(), 0, time.perf_counter()
        with httpx.Client(base_url=self.url, trust_env=False, timeout=60) as client:
            for _ in range(batches):
                metrics = [
                    {"key": f"train/loss_{index % 10}", "value": 0.5, "timestamp": 1, "step": step + index // 10}
                    for index in range(points)
                ]
                step += points // 10
                client.post(f"{_API}/runs/log-batch", json={"run_id": run, "metrics": metrics}).raise_for_status()
        return batches * points / (time.perf_counter() - begun)

    def publish(self, file: Path) -> str:
        """Put *file* into a run's artifacts through the server; return its address there."""
        address = f"{self.url}/api/2.0/mlflow-artifacts/artifacts/{self.new_run()}/{file.name}"
        with file.open("rb") as content:
            httpx.put(address, content=content, trust_env=False, timeout=300).raise_for_status()
        return address

    def new_run(self) -> Any:
        """Create a run; return its id."""
        body = {"experiment_id": self.experiment, "start_time": 1}
        made = httpx.post(f"{self.url}{_API}/runs/create", json=body, trust_env=False, timeout=60).raise_for_status()
        return made.json()["run"]["info"]["run_id"]


@contextmanager
def mlflow(program: str, folder: Path, database_url: str) -> Iterator[Mlflow]:
    """Start ``mlflow server`` with its defaults on *database_url*; give it once it answers."""
    folder.mkdir(parents=True)
    port = free_port()
    command = [program, "server", "--host", "127.0.0.1", "--port", str(port), "--backend-store-uri", database_url]
    with (folder / "mlflow.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--artifacts-destination", str(folder / "artifacts")],
            cwd=folder, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: answers(f"{url}/health"), 300)
        made = httpx.post(f"{url}{_API}/experiments/create", json={"name": "bench"}, trust_env=False, timeout=60)
        yield Mlflow(url, made.raise_for_status().json()["experiment_id"])
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def version(program: str) -> str:
    """Return what the program says it is."""
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
