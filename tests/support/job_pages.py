"""Jobs as people look at them, written as a worker writes them: one that runs, one that failed, one that succeeded."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw
from results import result
from retort import chart_program
from retort.constants import MAP, MAP50, Role
from retort.db import Lease, jobs
from retort.db.session import database_now
from retort.protocol.events import HealthEvent, LogEvent, MetricEvent, ProgressEvent, RunFailure, StageEvent
from retort.report import charts
from retort.report.health import HealthReport
from retort.report.html import render
from retort.report.samples import DrawnBox, Gallery, Group, row
from retort.report.usage import usage
from retort.report.verdict import Noise, verdict
from retort.spec import parse_spec
from stored_results import EXPORTS, INTERVAL, VERDICT
from support.api_harness import SPEC, Worker
from support.curve_filling import curves, publish_curves
from support.sample_filling import publish_samples, samples

BEGAN = time.time() - 4000
FAILURE = RunFailure(
    code="out_of_memory", message="a step with batch 16 takes 11.8 GiB of the 10.2 that are free on the GPU",
    hint="lower training.batch; resources.halve_batch tries half of a batch by itself", log_excerpt="Traceback: …",
)  # fmt: skip


@dataclass(frozen=True)
class Seeded:
    """Ids of the jobs."""

    running: str
    failed: str
    succeeded: str
    queued: str


def submitted(worker: Worker, name: str, **changes: Any) -> str:
    """Queue a job."""
    spec = {**SPEC, "name": name, **changes}
    with worker.database.begin() as session:
        return jobs.submit(session, parse_spec(spec), now=database_now(session), retries=2).job_id


def epoch(n: int, step: int, role: Role, of: int) -> MetricEvent:
    """The values of one epoch, of the shape that trainings have."""
    done, ahead = step / of, 0.06 if role is Role.STUDENT else 0.0
    wave = 0.01 * math.sin(1.7 * step + len(role))
    score = 0.42 * (1 - math.exp(-4 * done)) + ahead * done + wave
    values: dict[str, float | None] = {
        MAP: score, MAP50: 1.4 * score, "val/precision": 0.4 + 0.3 * done, "val/recall": 0.3 + 0.3 * done,
        "train/loss": 6 - 3 * done + 10 * wave, "train/box_loss": 2 - done + 3 * wave, "train/cls_loss": 3 - 2 * done,
        "train/dfl_loss": 1.4 - 0.4 * done, "val/box_loss": 2.1 - done, "val/cls_loss": 3 - 1.8 * done,
        "lr/weight": 0.01 * (1 - 0.99 * done), "lr/bias": 0.01 * (1 - 0.98 * done),
    }  # fmt: skip
    values |= {
        "system/images_per_second": 212 - 20 * (role is Role.STUDENT) + 300 * wave, "system/steps_per_epoch": 25.0,
        "system/gpu_percent": 91 + 200 * wave, "system/cpu_percent": 340 + 900 * wave, "system/gpu_memory_gib": 9.4,
        "system/memory_gib": 6.1 + wave, "system/gpu_temperature_c": 64 + 90 * wave, "system/gpu_power_w": 260.0,
    }  # fmt: skip
    if role is Role.STUDENT:
        values |= {
            "teacher/mAP50": 0.8, "teacher/mAP50-95": 0.6, "train/kd_loss": 1.2 - 0.8 * done,
            "train/kd/class_logits": 0.7 - 0.5 * done, "train/kd/pearson": 0.5 - 0.3 * done, "train/kd/weight": 1.0,
            "health/kl_foreground": 0.9 - 0.6 * done, "health/cosine_P3": 0.4 + 0.4 * done, "health/grad_ratio": 0.3,
            "health/teacher_agreement": 0.9, "health/foreground_anchors": 120.0, "mine/surprise": 0.1,
        }  # fmt: skip
    return MetricEvent(n=n, at=BEGAN + 30 * n, role=role, step=step, values=values)


def trained(worker: Worker, lease: Lease, done: int, of: int) -> int:
    """Record a check, and *done* epochs of student and control; return the number of the last line."""
    said: list[Any] = [StageEvent(n=1, at=BEGAN, stage="check"), StageEvent(n=2, at=BEGAN + 20, stage="distill")]
    for role in (Role.STUDENT, Role.CONTROL):
        if role is Role.CONTROL:
            said.append(StageEvent(n=len(said) + 1, at=BEGAN + 30 * len(said), stage="control"))
        said += [epoch(len(said) + 1 + at, at + 1, role, of) for at in range(done)]
    n = len(said)
    said += [
        LogEvent(n=n + 1, at=BEGAN + 99, message="distils from yolo11s.pt with <b>class_logits</b>"),
        LogEvent(n=n + 2, at=BEGAN + 100, level="warning", message="2 of 400 images of train could not be read"),
        HealthEvent(
            n=n + 3, at=BEGAN + 101, rule="gradients_fight", verdict="warning", epoch=3,
            message="the terms' gradient points away from the task's: cosine -0.31",
            cause="The weight of the terms is too high.", advice="Halve distillation.losses.0.weight.",
        ),
        ProgressEvent(n=n + 4, at=BEGAN + 102, progress=0.42, eta_s=4000),
    ]  # fmt: skip
    worker.record(lease, *said)
    return n + 4


def report(name: str, job_id: str) -> bytes:
    """A report with samples of one picture."""
    found = outcome()
    path_data = io.BytesIO()
    picture = Image.new("RGB", (320, 240), "#55708a")
    ImageDraw.Draw(picture).rectangle((60, 60, 150, 160), fill="#c0392b")
    picture.save(path_data, "PNG")
    groups = tuple(_groups(path_data.getvalue()))
    page = render(
        name=name, judged=verdict(found, Noise()), result=found, charts=charts.charts({}, found.roles),
        comparisons=charts.comparisons(found), quantization=[], labelling=[], ecg=HealthReport((), (), (), ()),
        gallery=Gallery(groups, (("red", "#E69F00"),)), usage=usage(job_id, "student.pt", found), manifest=None,
        spec={},
    )  # fmt: skip
    return chart_program.shared(page.encode(), depth=4)


def _groups(data: bytes) -> Iterator[Group]:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "street <1>.png"
        path.write_bytes(data)
        expected = [DrawnBox((60, 60, 150, 160), 0)]
        found = {
            "teacher": [DrawnBox((60, 60, 150, 160), 0, 0.9)], "control": [DrawnBox((200, 20, 260, 90), 0, 0.4)],
            "student": [DrawnBox((62, 58, 152, 158), 0, 0.8), DrawnBox((200, 20, 260, 90), 0, 0.3)],
        }  # fmt: skip
        yield Group("Spread over the set", "Validation images.", (row(path, expected, found, ["red"], None),))


def outcome() -> Any:
    """A result with exports, and a verdict with an interval."""
    said = {
        **VERDICT, "kind": "gain", "sentence": "Distillation gained 5.0 points of mAP50-95.", "gap_closed": None,
        "interval": {**INTERVAL, "low": 0.012},
    }  # fmt: skip
    return result(verdict=said, exports=[EXPORTS["passed"], EXPORTS["over_budget"], EXPORTS["failed"]])


def seed(worker: Worker, *, epochs: int = 40) -> Seeded:
    """Write the jobs."""
    training = {"epochs": epochs}
    running = submitted(worker, "street-small", training=training)
    trained(worker, worker.claim(running), epochs // 2, epochs)
    failed = submitted(worker, "too-large", training=training)
    lease = worker.claim(failed)
    worker.record(lease, StageEvent(n=1, at=BEGAN, stage="check"), StageEvent(n=2, at=BEGAN + 20, stage="distill"))
    worker.fail(lease, FAILURE)
    succeeded = submitted(worker, "street-best", training=training)
    lease = worker.claim(succeeded)
    n = trained(worker, lease, epochs, epochs)
    worker.record(
        lease,
        StageEvent(n=n + 1, at=BEGAN + 3000, stage="evaluate"),
        StageEvent(n=n + 2, at=BEGAN + 3100, stage="report"),
    )
    for name in ("student.pt", "control.pt", "teacher.pt", "student.onnx", "checkpoints/student-epoch-0010.pt"):
        worker.publish(lease, name, name.encode())
    publish_curves(worker, lease, curves(("red", "blue")))
    publish_samples(worker, lease, samples(("street <1>.png", "yard.png", "gate.png", "bridge.png"), (10, 20, 30, 40)))
    worker.publish(lease, "report.html", report("street-best", succeeded), media_type="text/html; charset=utf-8")
    worker.succeed(lease, outcome())
    return Seeded(running, failed, succeeded, submitted(worker, "waits"))
