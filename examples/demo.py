"""``make demo``: distil a digit detector end to end on this machine, over REST, and print its verdict."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from retort.cli import jobs, render
from retort.cli.spec import load
from retort.client.client import Client
from retort.data import demo
from retort.errors import RetortError, TransientError
from retort.spec.result import JobResult
from rich.console import Console

FOLDER = Path("runs/demo").absolute()
SPEC = Path(__file__).parent / "specs" / "demo.yaml"
WANTED = ("student.pt", "student-fp32.onnx", "report.html", "report.json")
OPEN_STUDENT = """
import sys
from ultralytics import YOLO
model = YOLO(sys.argv[1])
boxes = sum(len(result.boxes) for result in model.predict(sys.argv[2], verbose=False))
assert not any(name.split(".")[0] == "retort" for name in sys.modules), "the student needs Retort"
print(f"{len(model.names)} classes, {boxes} boxes in one image")
"""
OPEN_ONNX = """
import json, sys
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
[given] = session.get_inputs()
sides = json.loads(session.get_modelmeta().custom_metadata_map["imgsz"])
[answer] = session.run(None, {given.name: numpy.full((1, 3, *sides), 0.5, numpy.float32)})
assert numpy.isfinite(answer).all(), "the graph computes what is no number"
print(f"{given.name} {given.shape} -> {answer.shape}")
"""


def main() -> int:
    """Run the demo; return 0 when every part of it worked."""
    started = time.monotonic()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    data_yaml = demo.write(FOLDER / "digits", num_train=400, num_val=120, imgsz=96)
    say(f"wrote {data_yaml.parent}: 400 training and 120 validation scenes")
    spec = load(str(SPEC), [f"data.path={data_yaml.parent}"])
    try:
        with service() as (url, key), Client(url, key=key) as client:
            say(f"the service answers at {url}")
            job = client.submit(spec)
            say(f"submitted {job['id']}")
            if jobs.show(client, job["id"], as_json=False):
                raise TransientError("the job did not succeed", hint=f"the service's log is {FOLDER / 'service.log'}")
            for name in WANTED:
                path = client.download(job["id"], name, FOLDER / "results" / name)
                say(f"downloaded {path} ({render.size(path.stat().st_size)}), SHA-256 verified")
            result, stored = client.result(job["id"]), client.get(job["id"])["result"]
        assert isinstance(result, JobResult), "the spec asks for a distillation"
        assert stored is not None, "the job succeeded"
        verify(stored)
    except (RetortError, subprocess.CalledProcessError) as error:
        hint = getattr(error, "hint", None)
        say(f"error: {error}{f' ({hint})' if hint else ''}")
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    shown = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    for part in render.result_parts(result):
        shown.print(part)
    say(f"report: {FOLDER / 'results' / 'report.html'}")
    say(f"done in {render.duration(time.monotonic() - started)} (minutes:seconds)")
    return 0


@contextmanager
def service() -> Iterator[tuple[str, str]]:
    """Run ``retort up`` on a free port; yield its address and key; at the end stop it, and see that nothing is left."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = FOLDER / "home"
    env = {name: value for name, value in os.environ.items() if not name.startswith("RETORT_")}
    command = [sys.executable, "-m", "retort.cli", "up", "--json", "--port", str(port), "--home", str(home)]
    with (FOLDER / "service.log").open("w") as log:
        # In a session of its own: a Ctrl-C stops the demo, and the demo drains the service.
        process = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        )
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise TransientError("the service did not start", hint=f"its log is {FOLDER / 'service.log'}")
        ready = json.loads(line)
        yield ready["url"], Path(ready["key_file"]).read_text().strip()
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=90)
        left = processes_of(home)
    if code or left:
        raise TransientError(f"the service did not stop cleanly: exit code {code}, processes left: {left}")
    say("the service has stopped; no process is left")


def processes_of(home: Path) -> list[int]:
    """Return the processes that work in *home*, or for it."""
    found = []
    for process in psutil.process_iter():
        try:
            works_in = process.cwd().startswith(str(home))
            works_for = process.environ().get("RETORT_HOME") == str(home)
        except (psutil.Error, OSError):
            continue
        if works_in or works_for:
            found.append(process.pid)
    return found


def verify(result: dict[str, Any]) -> None:
    """Open what was downloaded as anybody would: with plain Ultralytics, and with onnxruntime; read the report."""
    results, elsewhere = FOLDER / "results", FOLDER / "verify"
    elsewhere.mkdir()
    image = next((FOLDER / "digits" / "images" / "val").iterdir())
    settings = {"YOLO_CONFIG_DIR": str(elsewhere), "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
    for title, code, arguments in (
        ("student.pt in plain YOLO", OPEN_STUDENT, [results / "student.pt", image]),
        ("student-fp32.onnx in onnxruntime", OPEN_ONNX, [results / "student-fp32.onnx"]),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            cwd=elsewhere, env=os.environ | settings, check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        say(f"{title}: {done.stdout.strip().splitlines()[-1]}")
    report = json.loads((results / "report.json").read_text())
    if report["result"] != result or "<html" not in (results / "report.html").read_text().lower():
        raise TransientError("the report does not hold the result that the service gave")


def say(text: str) -> None:
    """Print one line at once."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
