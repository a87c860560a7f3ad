"""Build the OpenAPI examples from the response models."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pydantic import BaseModel
from retort.constants import MAP, MAP50, Role
from retort.data.dataset_summary import DatasetSplit
from retort.review.models import Scored
from retort.spec import AnySpec, digest, parse_spec
from retort.states import AttemptState, DatasetState, JobState, UploadState

from retort_api.errors import ACCEPTED, CREATED, KINDS, OK, Mistake, Problem
from retort_api.schemas.datasets import DatasetLinks, RegisteredDataset
from retort_api.schemas.jobs import (
    Artifact,
    ArtifactLinks,
    Artifacts,
    Attempt,
    Best,
    Event,
    EventPage,
    Job,
    JobLinks,
    JobPage,
    JobSummary,
    QueuePlace,
    Transition,
)
from retort_api.schemas.models import Model, ModelLinks
from retort_api.schemas.reviews import (
    Review,
    ReviewDecision,
    ReviewImage,
    ReviewImageLinks,
    ReviewImagePage,
    ReviewLinks,
)
from retort_api.schemas.uploads import Part, Upload, UploadLinks

JOB_ID = "job_01985a3e7b0c7d4e8f1a2b3c4d5e6f70"
SPEC: dict[str, Any] = {
    "name": "street-student",
    "data": {"path": "/data/street"},
    "teacher": {"weights": "yolo11l.pt"},
    "student": {"model": "yolov8n"},
    "distillation": {"recipe": "balanced"},
    "training": {"epochs": 100},
}
SWEEP: dict[str, Any] = {
    "name": "temperature",
    "base": {**SPEC, "distillation": {"recipe": "article"}, "control": False},
    "parameters": {"distillation.losses.0.temperature": {"values": [2.0, 4.0, 7.0]}},
    "search": {"strategy": "grid"},
    "concurrency": 2,
}
_ADVICE = {
    "name": "which-teacher",
    "data": {"path": "/data/street"},
    "student": {"model": "yolov8n"},
    "candidates": ["yolo11m.pt", "yolo11l.pt"],
}
_HOME = f"/v1/jobs/{JOB_ID}"
_SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_UPLOAD_ID = "upl_01985a420a1b7c2d8e3f4a5b6c7d8e9f"
_MODEL_SHA256 = "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"


class Examples(NamedTuple):
    """Example request and responses of one operation."""

    request: Mapping[str, Any] | None = None
    answers: Mapping[int, BaseModel] = {}


def by_operation() -> dict[str, Examples]:
    """Return the examples of the main operations by operationId."""
    queued, running = _job(JobState.QUEUED), _job(JobState.RUNNING)
    refused = {KINDS["bad_spec"].status: _BAD_SPEC}
    missing = {KINDS["job_not_found"].status: _NO_JOB}
    return {
        "submit_job": Examples(SPEC, {ACCEPTED: queued, **refused}),
        "advise": Examples(_ADVICE),
        "list_jobs": Examples(None, {OK: JobPage(data=(_summary(running),), next_cursor=None, has_more=False)}),
        "get_job": Examples(None, {OK: running, **missing}),
        "change_job": Examples({"priority": 5, "labels": {"site": "north"}}),
        "act_on_jobs": Examples({"action": "cancel", "filter": {"labels": {"site": "north"}, "state": ["queued"]}}),
        "validate_spec": Examples(SPEC),
        "create_webhook": Examples({"url": "https://example.com/retort", "events": ["job.succeeded", "job.failed"]}),
        "sign_download": Examples({"expires_in_s": 3600}),
        "clone_job": Examples({"training": {"epochs": 50}}),
        "extend_job": Examples({"epochs": 20}),
        "list_events": Examples(None, {OK: _EVENTS, **missing}),
        "list_artifacts": Examples(None, {OK: _ARTIFACTS, **missing}),
        "get_review": Examples(None, {OK: _REVIEW}),
        "list_review_images": Examples(None, {OK: ReviewImagePage(data=(_IMAGE,), next_cursor=None, has_more=False)}),
        "get_review_image": Examples(None, {OK: _IMAGE}),
        "withdraw_review_decision": Examples(None, {OK: _IMAGE}),
        "decide_review_image": Examples({"decision": "accept", "reviewer": "ann"}, {OK: _DECIDED}),
        "complete_review": Examples({"rest": "reject", "reviewer": "ann"}, {OK: queued}),
        "register_model": Examples(None, {CREATED: _MODEL}),
        "begin_upload": Examples({"size_bytes": 20_971_520, "sha256": _SHA256, "name": "bccd.zip"}, {CREATED: _UPLOAD}),
        "get_upload": Examples(None, {OK: _UPLOAD}),
        "create_dataset": Examples({"name": "bccd", "upload": _UPLOAD_ID}),
        "get_dataset_version": Examples(None, {OK: _DATASET}),
        "submit_sweep": Examples(SWEEP),
    }


def _at(minute: int) -> datetime:
    return datetime(2026, 1, 5, 9, minute, tzinfo=UTC)


_PLACE = QueuePlace(
    reason="turn", message="place 3 in the queue, 2 workers", position=3, ahead=2, until=None, estimated_start_s=1800.0
)


def _job(state: JobState) -> Job:
    spec = parse_spec(SPEC)
    began = state is not JobState.QUEUED
    about = {
        "id": JOB_ID,
        "name": spec.name,
        "state": state,
        "stage": "distill" if began else None,
        "progress": 0.42 if began else 0.0,
        "eta_s": 1860.0 if began else None,
        "best": _best(0.618, 0.413) if began else None,
        "failure": None,
        "attempt": int(began),
        "retries_left": 3,
        "owner": "vision-team",
        "labels": {"site": "north"},
        "priority": 0,
        "queue": None if began else _PLACE,
        "finish_early": False,
        "parent_id": None,
        "sweep_id": None,
        "created_at": _at(0),
        "started_at": _at(1) if began else None,
        "finished_at": None,
        "keep": False,
        "deleted_at": None,
        "links": JobLinks.of(JOB_ID),
        "claimable_at": _at(0),
        "expires_at": None,
        "run_s": 0.0,
        "adjustments": None,
        "saved": None,
        "result": None,
        "attempts": (_ATTEMPT,) if began else (),
        "transitions": _TRANSITIONS if began else _TRANSITIONS[:1],
        **_written_out(spec),
    }
    return Job.model_validate(about)


def _written_out(spec: AnySpec) -> dict[str, Any]:
    return {"spec": spec.model_dump(mode="json"), "spec_digest": digest(spec)}


def _best(map50: float, map50_95: float) -> Best:
    return Best.model_validate({"role": Role.STUDENT, "epoch": 41, MAP50: map50, MAP: map50_95})


def _summary(job: Job) -> JobSummary:
    return JobSummary.model_validate(job, from_attributes=True)


_ATTEMPT = Attempt.model_validate({
    "number": 1, "worker": "gpu-1", "host": "gpu-1.lab", "device": "cuda:0", "state": AttemptState.RUNNING,
    "started_at": _at(1), "ended_at": None, "exit_code": None, "failure": None,
    "confinement": {"mode": "best", "in_force": ["privileges", "limits", "files", "calls", "network"], "missing": {
        "mounts": "Operation not permitted", "processes": "Operation not permitted",
    }},
})  # fmt: skip
_TRANSITIONS = (
    Transition(kind="state", name="queued", at=_at(0), actor="client", reason=None, attempt=0),
    Transition(kind="state", name="running", at=_at(1), actor="worker:gpu-1", reason=None, attempt=1),
    Transition(kind="stage", name="distill", at=_at(2), actor="worker:gpu-1", reason=None, attempt=1),
)
_EVENTS = EventPage(
    data=(
        Event(
            seq=1, type="state", level=None, message=None, data={"state": "queued", "actor": "client", "reason": None},
            attempt=0, at=_at(0),
        ),
        Event(
            seq=2, type="metric", level=None, message=None,
            data={"role": "student", "step": 1, "values": {MAP50: 0.212, MAP: 0.101}}, attempt=1, at=_at(3),
        ),
    ),
    next_after=2,
    has_more=False,
)  # fmt: skip
_ARTIFACTS = Artifacts(
    data=(
        Artifact(
            id="art_01985a3f0e2d7b6c9d3e4f5a6b7c8d9e",
            name="student.pt",
            role="student",
            size_bytes=6_534_387,
            sha256=_SHA256,
            media_type="application/octet-stream",
            metadata={},
            created_at=_at(50),
            deleted_at=None,
            links=ArtifactLinks(self=f"{_HOME}/artifacts/student.pt"),
        ),
    )
)
_REVIEW = Review(
    job_id=JOB_ID,
    state=JobState.AWAITING_REVIEW,
    mode="sample",
    classes=("car", "person"),
    num_images=100,
    num_boxes=412,
    num_accepted=98,
    num_rejected=1,
    num_edited=0,
    num_open=1,
    num_looked_at=99,
    open=("train-0001",),
    links=ReviewLinks(
        job=_HOME, images=f"{_HOME}/review/images", export=f"{_HOME}/review/export", complete=f"{_HOME}/review/complete"
    ),
)
_IMAGE = ReviewImage(
    image="train-0001",
    file="night/0001.png",
    width=640,
    height=480,
    boxes=(Scored(name="car", x1=0.1, y1=0.2, x2=0.3, y2=0.4, score=0.91),),
    doubtful=(),
    decision=None,
    version="open",
    links=ReviewImageLinks(
        self=f"{_HOME}/review/images/train-0001", picture=f"{_HOME}/artifacts/review/train-0001.jpg"
    ),
)
_DECIDED = _IMAGE.model_copy(
    update={
        "decision": ReviewDecision(
            decision="accept", boxes=None, reviewer="ann", at=_at(30), seen=True
        ),
        "version": "9f0c2b7d41a8e653",
    }
)  # fmt: skip
_MODEL = Model(
    id="mdl_01985a400a1b7c2d8e3f4a5b6c7d8e9f",
    name="street-teacher",
    reference=f"model:street-teacher@sha256:{_MODEL_SHA256}",
    sha256=_MODEL_SHA256,
    size_bytes=51_387_343,
    role=None,
    architecture=None,
    classes=None,
    imgsz=None,
    metrics=None,
    dataset_digest=None,
    job_id=None,
    created_at=_at(0),
    deleted_at=None,
    links=ModelLinks(
        self="/v1/models/street-teacher", file=f"/v1/models/street-teacher/{_MODEL_SHA256}", job=None
    ),
)  # fmt: skip

_UPLOAD = Upload(
    id=_UPLOAD_ID,
    state=UploadState.OPEN,
    name="bccd.zip",
    size_bytes=20_971_520,
    received_bytes=8_388_608,
    source_url=None,
    failure=None,
    sha256=_SHA256,
    part_bytes=8_388_608,
    num_parts=3,
    created_at=_at(0),
    expires_at=_at(59),
    links=UploadLinks(self=f"/v1/uploads/{_UPLOAD_ID}", complete=f"/v1/uploads/{_UPLOAD_ID}/complete", signed=None),
    parts=(Part(number=1, sha256=_MODEL_SHA256, size_bytes=8_388_608),),
    missing=(2, 3),
)
_DATASET = RegisteredDataset(
    id="dst_01985a410a1b7c2d8e3f4a5b6c7d8e9f",
    name="bccd",
    owner="ann",
    state=DatasetState.READY,
    reference=f"dataset:bccd@sha256:{_MODEL_SHA256}",
    sha256=_MODEL_SHA256,
    size_bytes=21_504_000,
    source_sha256=_SHA256,
    upload_id=_UPLOAD_ID,
    classes=("WBC", "RBC", "Platelets"),
    splits={"train": DatasetSplit(num_images=290, num_backgrounds=0, boxes=(298, 3328, 286))},
    findings=(),
    notes=("annotations in VOC form were converted",),
    digest=_SHA256,
    created_at=_at(0),
    ended_at=_at(1),
    links=DatasetLinks(
        self=f"/v1/datasets/bccd/{_MODEL_SHA256}", content=f"/v1/datasets/bccd/{_MODEL_SHA256}/content", previews=()
    ),
)


def _problem(code: str, detail: str, instance: str, *mistakes: Mistake, hint: str | None = None) -> Problem:
    kind = KINDS[code]
    return Problem(
        type=f"urn:retort:problem:{code}", title=kind.title, status=kind.status, detail=detail, instance=instance,
        code=code, hint=hint, errors=mistakes, retryable=False, request_id="5979d1c4c6954c6fb6a0a8ba2eb384aa",
    )  # fmt: skip


_BAD_SPEC = _problem(
    "bad_spec",
    "training.epohs: unknown field 'epohs'",
    "/v1/jobs",
    Mistake(path="training.epohs", detail="unknown field 'epohs'", hint="did you mean 'epochs'?"),
    hint="did you mean 'epochs'?",
)
_NO_JOB = _problem("job_not_found", f"there is no job {JOB_ID}", _HOME)
