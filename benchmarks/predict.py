"""How long an image waits for its boxes: over HTTP, by the network of a finished job, cold and warm.

An embedded service trains a student for one epoch on the scenes in examples/data. Then images are posted one after the
other: the first one after the worker has started, others by a network that is loaded, and, with a second service that
keeps no program ready, the first one by a program that has to start.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx

EXAMPLES = Path(__file__).parents[1] / "examples" / "data" / "digits"
GOAL_S = 2.0
SPEC: dict[str, Any] = {
    "name": "predict",
    "data": {"path": str(EXAMPLES)},
    "teacher": {"train": {"model": "yolov8n", "weights": None, "epochs": 1}},
    "student": {"model": "yolov8n", "weights": None},
    "training": {"epochs": 1, "imgsz": 320, "batch": 8},
    "distillation": {"recipe": "article"},
    "control": False,
    "exports": [],
}


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@contextmanager
def service(home: Path, **settings: object) -> Iterator[httpx.Client]:
    """Run a service of its own, and yield a client that has its key."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RETORT_")}
    given = {f"RETORT_{name.upper()}": str(value) for name, value in settings.items()}
    command = [sys.executable, "-m", "retort.cli", "up", "--json", "--home", str(home), "--port", _free_port()]
    with (
        (home.parent / "up.log").open("ab") as log,
        subprocess.Popen(command, env={**kept, **given}, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            key = {"Authorization": f"Bearer {Path(told['key_file']).read_text().strip()}"}
            with httpx.Client(base_url=told["url"], headers=key, timeout=60, trust_env=False) as client:
                yield client
        finally:
            process.terminate()
            process.wait(60)


def trained(client: httpx.Client) -> str:
    """Train a student; return its job."""
    job: str = client.post("/v1/jobs", json=SPEC).raise_for_status().json()["id"]
    while (state := client.get(f"/v1/jobs/{job}").json()["state"]) not in {"succeeded", "failed", "cancelled"}:
        time.sleep(1)
    assert state == "succeeded", state
    return job


def asked(client: httpx.Client, job: str, images: list[bytes]) -> list[float]:
    """Return how long each image took."""
    took = []
    for image in images:
        began = time.perf_counter()
        headers = {"Content-Type": "application/octet-stream"}
        client.post(f"/v1/jobs/{job}/predict", content=image, headers=headers).raise_for_status()
        took.append(time.perf_counter() - began)
    return took


def main() -> int:
    """Measure, print, and say whether the goal was met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20)
    images = parser.parse_args().images
    bodies = [path.read_bytes() for path in sorted((EXAMPLES / "images" / "val").iterdir())]
    bodies = [bodies[number % len(bodies)] for number in range(images)]
    with tempfile.TemporaryDirectory(prefix="retort-predict-") as folder:
        home = Path(folder) / "home"
        with service(home) as client:
            job = trained(client)
        with service(home) as client:
            time.sleep(60)  # for the worker's program to be ready, however busy the machine is
            first, *warm = asked(client, job, bodies)
        with service(home, predictor_idle_s=0) as client:
            (cold,) = asked(client, job, bodies[:1])
    p95 = statistics.quantiles(warm, n=20)[-1]
    lines = {"first, kept ready": first, "median": statistics.median(warm), "p95": p95}
    for name, seconds in lines.items():
        print(f"{name:20} {seconds:6.2f} s  {'ok' if seconds <= GOAL_S else 'ABOVE'} (goal {GOAL_S:g} s)")
    print(f"{'program not kept':20} {cold:6.2f} s  (RETORT_PREDICTOR_IDLE_S=0; no goal)")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    return int(max(lines.values()) > GOAL_S)


if __name__ == "__main__":
    sys.exit(main())
