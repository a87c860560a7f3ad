"""A few real trainings whose workers are killed in the middle, each time on a machine that then stays away."""

from __future__ import annotations

from pathlib import Path

from chaos.ledger import Verdict, audit_states
from chaos.service_harness import Stage, eventually, staged
from chaos.table import Line, say
from retort.data import demo
from retort.db import events
from retort.db.models import EventRow
from retort.states import JobState
from servers import Postgres, Valkey

TRAINING = {"epochs": 4, "imgsz": 64, "batch": 8, "close_mosaic": 0, "checkpoint_every": 1}


def measure(folder: Path, postgres: Postgres, valkey: Valkey, *, trainings: int) -> tuple[Verdict, list[int]]:
    """Train, killing each job's worker after a measured epoch; return what was found, and the epochs trained again."""
    with staged(folder, postgres, valkey.fresh(), lease_s=8.0, heartbeat_s=1.0) as stage:
        demo.write(stage.folder / "digits", num_train=24, num_val=8, imgsz=64)
        stage.start_api()
        verdict, again = Verdict(), []
        for number in range(trainings):
            again.append(_survive(stage, number))
            say(f"real training {number + 1}: {again[-1]} epochs trained again")
        verdict += audit_states(stage, stage.wait_for_all())
        return verdict, again


def _survive(stage: Stage, number: int) -> int:
    """Train one job on two machines, the first of which is lost; return how many told epochs were trained again."""
    first = stage.add_machine(command=None)
    job_id = stage.submit_document(
        {
            "name": f"real-{number}",
            "data": {"path": str(stage.folder / "digits")},
            "teacher": {"train": {"model": "yolo11n", "weights": None, "epochs": 1}},
            "student": {"model": "yolov8n", "weights": None},
            "training": {**TRAINING, "seed": number},
            "control": False,
            "exports": [],
        }
    )
    eventually(lambda: _steps(_said(stage, job_id)) and (stage.job(job_id).recovery or {}).get("stage") == "distill")
    assert first.process is not None
    first.process.kill()
    first.process.wait()
    stage.add_machine(command=None)
    stage.wait(job_id, JobState.SUCCEEDED)
    said = _said(stage, job_id)
    told = max(_steps([row for row in said if row.attempt == 1]))
    resumed = min(_steps([row for row in said if row.attempt == 2]), default=TRAINING["epochs"] + 1) - 1
    for machine in stage.machines:
        if machine.process is not None:
            machine.process.terminate()
    return max(0, told - resumed)


def _said(stage: Stage, job_id: str) -> list[EventRow]:
    with stage.database.read() as session:
        return events.list_after(session, job_id, 0, 1_000_000)


def _steps(said: list[EventRow]) -> list[int]:
    """Epochs of the student that were told."""
    told = [row.data for row in said if row.type == "metric" and row.data["role"] == "student"]
    return [data["step"] for data in told if data["step"]]


def lines(verdict: Verdict, again: list[int]) -> list[Line]:
    """Return the line of the table."""
    most, wrong = max(again), verdict.wrong()
    return [
        Line(
            f"real trainings ({len(again)}) whose machine was lost: jobs lost; epochs trained again, most",
            f"{len(wrong)}; {most}", "0; <= 1", not wrong and most <= 1,
        )
    ]  # fmt: skip
