"""Trackers follow a job with their real libraries, and nothing that happens to them happens to the job."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from retort.states import JobState
from retort.tracking.dispatcher import COMMAND
from support.worker_harness import House, eventually
from worker.trackers import (
    DYING,
    HANGING,
    MISSING,
    MLFLOW,
    PATIENCE_S,
    RAISING,
    WANDB,
    WITHOUT_LIBRARIES,
    submit,
    told_mlflow,
    told_wandb,
    warnings_of,
)


@pytest.fixture(scope="module")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables, which take it ten seconds to make."""
    import mlflow

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    mlflow.MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def mlflow_house(small_house: House, empty_mlflow: Path) -> House:
    (small_house.home / "tracking").mkdir()
    shutil.copy(empty_mlflow, small_house.home / "tracking")
    return small_house


def test_mlflow_is_told_of_spec_curves_and_end(small_house: House):  # and makes its own tables
    job_id = submit(small_house, "finish", MLFLOW)

    assert small_house.run(job_id, tracking_timeout_s=PATIENCE_S) is JobState.SUCCEEDED

    run, curves = told_mlflow(small_house)
    assert (run.info.run_name, run.info.status) == ("finish", "FINISHED")
    assert run.data.tags["retort.job_id"] == job_id
    assert len(run.data.tags["retort.dataset_digest"]) == 64
    assert (run.data.params["training.epochs"], run.data.params["student.model"]) == ("3", "yolov8n")
    assert curves["student/val/mAP50-95"] == [(1, 0.01), (2, 0.02), (3, 0.03)]
    assert warnings_of(small_house, job_id) == []


def test_weights_and_biases_writes_a_run_to_be_sent_later(small_house: House):
    job_id = submit(small_house, "finish", WANDB)

    assert small_house.run(job_id, tracking_timeout_s=PATIENCE_S) is JobState.SUCCEEDED

    config, rows = told_wandb(small_house)
    assert (config["id"], config["project"]) == (job_id, "cells")
    assert config["spec"]["training"]["epochs"] == 3
    assert [(row["student/epoch"], row["student/val/mAP50-95"]) for row in rows] == [(1, 0.01), (2, 0.02), (3, 0.03)]
    assert warnings_of(small_house, job_id) == []


def test_a_resumed_job_is_the_same_run_and_no_epoch_is_told_twice_or_lost(mlflow_house: House):
    job_id = submit(mlflow_house, "linger", {**MLFLOW, **WANDB}, epochs=6)
    supervision, _ = mlflow_house.supervision(job_id, workshop := mlflow_house.workshop(tracking_timeout_s=PATIENCE_S))
    thread = threading.Thread(target=supervision.run)
    thread.start()
    eventually(lambda: mlflow_house.steps(job_id) == [1, 2, 3])
    workshop.drain()
    thread.join()
    assert mlflow_house.job(job_id).state is JobState.QUEUED
    # As if the worker had died after the run had written this line, before it recorded it.
    journal = mlflow_house.workdir(job_id) / "journal-1.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    said = {**json.loads(lines[0]), "n": len(lines) + 1, "step": 2, "values": {"train/unheard": 1.0}}
    journal.write_text("".join(lines) + json.dumps(said) + "\n")

    assert mlflow_house.run(job_id, tracking_timeout_s=PATIENCE_S) is JobState.SUCCEEDED

    run, curves = told_mlflow(mlflow_house)
    assert run.info.status == "FINISHED"
    assert [step for step, _ in curves["student/train/loss"]] == [1, 2, 3, 4, 5, 6]
    assert curves["student/train/unheard"] == [(2, 1.0)]
    config, rows = told_wandb(mlflow_house)
    assert config["id"] == job_id
    assert [row["student/epoch"] for row in rows if "student/train/loss" in row] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("wanted", [True, False])
def test_files_and_maps_are_handed_over_only_where_the_spec_says_so(mlflow_house: House, wanted: bool):
    trackers = {
        "mlflow": {"experiment": "cells", "artifacts": wanted},
        "wandb": {**WANDB["wandb"], "artifacts": wanted},
    }
    job_id = submit(mlflow_house, "mapped", trackers)
    assert mlflow_house.run(job_id, tracking_timeout_s=PATIENCE_S) is JobState.SUCCEEDED

    tracking = mlflow_house.home / "tracking"
    found = sorted(path.name for path in (tracking / "mlartifacts").rglob("*.pt"))
    assert found == (["student.pt"] if wanted else [])
    images = [path.name.partition("+timestamp")[0] for path in (tracking / "mlartifacts").rglob("images/*.png")]
    assert images == (["student~health~heatmaps+step+1"] if wanted else [])
    mapped = [row["student/epoch"] for row in told_wandb(mlflow_house)[1] if "student/health/heatmaps" in row]
    assert mapped == ([1] if wanted else [])
    sent = [path.parent.name for path in (tracking / "wandb").rglob("media/images/**/heatmaps_*.jpg")]
    assert sent == (["health"] if wanted else [])
    assert warnings_of(mlflow_house, job_id) == []


def test_what_a_run_names_outside_of_its_folder_is_never_handed_over(mlflow_house: House):
    (mlflow_house.home / "work").mkdir()
    (mlflow_house.home / "outside.pt").write_bytes(b"secret")
    job_id = submit(mlflow_house, "outside", {"mlflow": {"experiment": "cells", "artifacts": True}})

    mlflow_house.run(job_id, tracking_timeout_s=PATIENCE_S)

    assert list((mlflow_house.home / "tracking").rglob("*.pt")) == []


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (WITHOUT_LIBRARIES, "mlflow is not installed here"),
        (RAISING, "ZeroDivisionError: division by zero"),
        (HANGING, "it took longer than 0.5 s over one thing"),
        (DYING, "its process died"),
        (MISSING, "No such file or directory"),
    ],
    ids=["not installed", "raises", "hangs", "dies", "cannot be started"],
)
def test_a_tracker_that_fails_is_switched_off_and_the_job_goes_on(
    mlflow_house: House, program: tuple[str, ...], reason: str
):
    job_id = submit(mlflow_house, "finish", MLFLOW)
    timeout_s = 0.5 if program is HANGING else PATIENCE_S
    workshop = replace(mlflow_house.workshop(tracking_timeout_s=timeout_s), tracker=program)
    supervision, _ = mlflow_house.supervision(job_id, workshop)

    assert supervision.run() is JobState.SUCCEEDED

    assert mlflow_house.steps(job_id) == [1, 2, 3]
    (warning,) = warnings_of(mlflow_house, job_id)
    assert warning.startswith("MLflow is switched off for this attempt: ")
    assert reason in warning
    (lost,) = mlflow_house.job(job_id).result["extras"]
    assert (lost["name"], lost["status"], lost["reason"]) == ("tracker", "failed", warning)


@pytest.fixture
def black_hole() -> Iterator[str]:
    """Address of a server that takes connections, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_never_answers_holds_up_neither_the_lease_nor_the_end(small_house: House, black_hole: str):
    job_id = submit(small_house, "finish", MLFLOW)
    began = time.monotonic()

    state = small_house.run(job_id, mlflow_uri=black_hole, tracking_timeout_s=8.0, lease_s=6.0)

    assert state is JobState.SUCCEEDED
    assert time.monotonic() - began < 30
    (warning,) = warnings_of(small_house, job_id)
    assert "within 8 s" in warning or "longer than 8 s" in warning


def test_weights_and_biases_that_cannot_be_reached_is_switched_off_too(
    small_house: House, black_hole: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WANDB_BASE_URL", black_hole)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    job_id = submit(small_house, "finish", {"wandb": {"project": "cells", "mode": "online"}})

    assert small_house.run(job_id, tracking_timeout_s=4.0) is JobState.SUCCEEDED

    (warning,) = warnings_of(small_house, job_id)
    assert warning.startswith("Weights & Biases is switched off for this attempt: ")
    assert "0" * 40 not in warning


def test_a_failed_attempt_is_told_with_its_reason(mlflow_house: House):
    job_id = submit(mlflow_house, "diverged", MLFLOW)

    assert mlflow_house.run(job_id, tracking_timeout_s=PATIENCE_S) is JobState.FAILED

    run, _ = told_mlflow(mlflow_house)
    assert (run.info.status, run.data.tags["retort.failure"]) == ("FAILED", "diverged: the loss is not a number")


def test_what_is_told_of_a_tracker_is_told_on_every_database(house: House):
    job_id = submit(house, "finish", MLFLOW)
    supervision, _ = house.supervision(job_id, replace(house.workshop(), tracker=MISSING))

    assert supervision.run() is JobState.SUCCEEDED

    assert [warning.partition(":")[0] for warning in warnings_of(house, job_id)] == [
        "MLflow is switched off for this attempt"
    ]


def test_a_spec_that_wants_no_tracker_starts_none(small_house: House):
    job_id = submit(small_house, "finish", {})

    assert small_house.run(job_id, tracking_timeout_s=PATIENCE_S) is JobState.SUCCEEDED

    assert not (small_house.home / "tracking").exists()


def test_the_trackers_of_a_lost_lease_are_killed(small_house: House, tmp_path: Path):
    job_id = submit(small_house, "wait", WANDB)
    supervision, _ = small_house.supervision(job_id)
    thread = threading.Thread(target=supervision.run)
    thread.start()
    eventually(lambda: list((tmp_path / "tracking").rglob("run-*.wandb")))
    small_house.reap(after_s=3600)
    thread.join()

    assert supervision._trackers._dispatcher is not None
    eventually(lambda: not supervision._trackers._dispatcher.busy())


_PEEKS = """
import sys
from retort.confinement import kernel
kernel.keep_capabilities(frozenset())
print(open(f"/proc/{sys.argv[1]}/environ").read())
"""


def test_no_program_of_the_same_user_reads_the_keys_of_a_tracker(tmp_path: Path):
    """Its process has the environment of the worker; a run that could not be confined would find them there."""

    def peek(pid: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", _PEEKS, str(pid)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    with subprocess.Popen(
        COMMAND, env={**os.environ, "WANDB_API_KEY": "secret" * 7}, cwd=tmp_path, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as tracker:  # fmt: skip
        eventually(lambda: "PermissionError" in peek(tracker.pid).stderr)
        assert "secret" not in peek(tracker.pid).stdout
        assert tracker.poll() is None
        tracker.kill()
