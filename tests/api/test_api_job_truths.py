"""What the tabs of a job say is true at every stage: samples, charts, lists, and files of an export job."""

from __future__ import annotations

import re

from fastapi.testclient import TestClient
from retort.constants import MAP, Role
from retort.db import Lease
from retort.protocol.events import MetricEvent, RunFailure, StageEvent
from retort.spec.result import parse_result
from stored_results import EXPORTS, role
from support.api_harness import SPEC, Worker
from support.sample_filling import publish_samples, samples


def test_samples_are_promised_for_the_time_at_which_they_come(client: TestClient, worker: Worker, lease: Lease):
    address = f"/jobs/{lease.job_id}/samples"
    worker.record(lease, StageEvent(n=1, at=1, stage="distill"))
    assert "Samples come once the student is trained" in client.get(address).text
    worker.record(lease, StageEvent(n=2, at=2, stage="export"))
    page = client.get(address).text
    assert ("once the student is trained" in page, "Samples come with the report" in page) == (False, True)


def test_nothing_is_promised_of_a_job_that_has_ended(client: TestClient, worker: Worker, lease: Lease):
    promised = re.compile(r"\byet\b|first epoch|while the job runs|when the job ends|come with|once the student")
    tabs = ("charts", "health", "evaluation", "samples", "files", "log")

    def empty(tab: str) -> str:
        return " ".join(re.findall(r'class="card empty">(.*?)</div>', client.get(f"/jobs/{lease.job_id}/{tab}").text))

    assert all(promised.search(empty(tab)) for tab in tabs if tab != "log"), "it is looked for where it stands"
    worker.fail(lease, RunFailure(code="bad_spec", message="no room"))
    assert {tab: empty(tab) for tab in tabs if not empty(tab) or promised.search(empty(tab))} == {}


def test_one_kept_epoch_is_shown_without_a_choice(client: TestClient, worker: Worker, lease: Lease):
    publish_samples(worker, lease, samples(("yard.png",), (3,)))
    page = client.get(f"/jobs/{lease.job_id}/samples").text
    assert "After epoch 3:" in page
    assert not re.findall(r"type=.range|[?]epoch=|job_samples.js", page)


def test_the_teachers_own_training_and_its_measured_level_have_names_of_their_own(
    client: TestClient, worker: Worker, lease: Lease
):
    level = {MAP: 0.2, "teacher/mAP50-95": 0.6}
    worker.record(
        lease, MetricEvent(n=1, at=1, role=Role.TEACHER, step=1, values={MAP: 0.5}),
        MetricEvent(n=2, at=2, role=Role.STUDENT, step=1, values=level),
    )  # fmt: skip
    header = client.get(f"/jobs/{lease.job_id}/charts/map.csv").text.splitlines()[0]
    assert header == 'epoch,time,student,"teacher, measured",teacher while it trained'


def test_a_job_that_exports_shows_its_network_the_files_their_figures_and_how_they_are_used(
    client: TestClient, worker: Worker
):
    document = {
        "task": "evaluate", "networks": [{**role(0.41), "weights": "m.pt", "title": "mine", "imgsz": 320}],
        "exports": [{**EXPORTS["passed"], "shape": [320, 320]}, EXPORTS["failed"]], "names": ["cat"],
        "num_images": 8, "digest": "0" * 64, "device": "cpu",
    }  # fmt: skip
    spec = {"task": "evaluate", "data": SPEC["data"], "networks": ["yolo11s.pt"], "exports": [{"format": "onnx"}]}
    job_id = str(client.post("/v1/jobs", json=spec).json()["id"])
    lease = worker.claim(job_id)
    worker.publish(lease, "student.onnx", b"graph")
    worker.succeed(lease, parse_result(document))

    page, files = client.get(f"/jobs/{job_id}").text, client.get(f"/jobs/{job_id}/files").text

    for part in ("mine, mAP50-95</dt><dd>41.0", "What it exported", "few images", ">yolo11s.pt</code>"):
        assert part in page, part
    for part in ("student.onnx in onnxruntime", "in C++", "trtexec --onnx=student.onnx"):
        assert (part in page, part in files) == (True, True), part
    assert "What the forms take and give" in files
