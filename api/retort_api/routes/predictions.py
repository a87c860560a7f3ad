"""Predict with a job's last checkpoint: an image in, boxes out."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from retort.access import Principal, Scope
from retort.db import jobs, predictions
from retort.db.predictions import Checkpoint
from retort.db.session import database_now
from retort.errors import TransientError, UserError
from starlette.concurrency import run_in_threadpool

from retort_api.deps import AppState, Caller, JobId, Router, Serving
from retort_api.errors import documented
from retort_api.http import read_limited
from retort_api.schemas.predictions import Prediction

router = Router("following")

_PATIENCE_S = 30.0
_LOOK_S = 0.05
_BYTES = {"type": "string", "format": "binary", "minLength": 1}
_IMAGE = {"required": True, "content": {"application/octet-stream": {"schema": _BYTES}}}


class NoPredictor(TransientError):
    """No worker has answered in time."""

    code = "no_predictor"


class BadImage(UserError):
    """The image cannot be looked at."""

    code = "bad_image"


async def _read_image(request: Request, service: Serving) -> bytes:
    """Read the image; how large it may be is the operator's business."""
    return await read_limited(request, service.settings.max_image_bytes)


@router.post(
    "/v1/jobs/{job_id}/predict",
    scope=Scope.JOBS_WRITE,
    response_model=Prediction,
    openapi_extra={"requestBody": _IMAGE},
    responses=documented(
        "job_not_found", "no_checkpoint", "body_too_large", "bad_image", "bad_parameter", "too_many_predictions",
        "no_predictor", "database_unavailable",
    ),
)  # fmt: skip
async def predict(
    *,
    service: Serving,
    caller: Caller,
    job_id: JobId,
    image: Annotated[bytes, Depends(_read_image)],
    confidence: Annotated[float, Query(ge=0.05, le=1, description="Lowest score of a box.")] = 0.25,
    network: Annotated[
        str | None,
        Query(
            pattern=r"^[ -~]{1,255}$",
            description="Another one of the job's: `teacher`, `control.pt`, `checkpoints/student-epoch-0010.pt`.",
        ),
    ] = None,
) -> Any:
    """Find boxes on an image with the job's last network, also while the job runs.

    The body is the image, as JPEG, PNG or another format that data sets may have. A worker looks at it on its CPU; the
    first image after a while waits for the network to be loaded.
    """
    prediction_id, checkpoint = await run_in_threadpool(
        _submit, service, caller, job_id, image, _Wish(confidence, network)
    )
    try:
        found = await _answer(service, prediction_id)
    finally:
        await run_in_threadpool(_remove, service, prediction_id)
    if found is None:
        hint = "start a worker, retort up or its container, or try again when it is less busy"
        raise NoPredictor(f"no worker has answered within {_PATIENCE_S:g} s", hint=hint)
    if (error := found.get("error")) is not None:
        raise _failure(error)
    told = {name: value for name, value in asdict(checkpoint).items() if name != "key"}
    return Prediction.model_validate({**found, **told})


@dataclass(frozen=True, slots=True)
class _Wish:
    """How an image is looked at."""

    confidence: float
    network: str | None


def _submit(service: AppState, caller: Principal, job_id: str, image: bytes, wish: _Wish) -> tuple[str, Checkpoint]:
    if not image:
        raise BadImage("the body is empty", hint="send the bytes of an image")
    with service.begin(caller) as session:
        job = jobs.get(session, job_id)
        jobs.refuse_deleted(job)
        chosen = None if wish.network is None else predictions.network(session, job, wish.network)
        checkpoint = predictions.last_checkpoint(session, job) if chosen is None else chosen.checkpoint
        most, now = service.settings.max_predictions, database_now(session)
        imgsz = None if chosen is None else chosen.imgsz
        submitted = predictions.submit(
            session, job, checkpoint, image, confidence=wish.confidence, most=most, now=now, imgsz=imgsz
        )
        return submitted, checkpoint


async def _answer(service: AppState, prediction_id: str) -> dict[str, Any] | None:
    """Return the answer once it is there; None where patience ends before. All that wait share their looks."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _PATIENCE_S
    while (now := loop.time()) < deadline and not service.stopping.is_set():
        found = await service.predictions(prediction_id)
        if found is not None:
            return found
        await asyncio.sleep(_LOOK_S - now % _LOOK_S)
    return None


def _remove(service: AppState, prediction_id: str) -> None:
    with service.database.begin() as session:
        predictions.remove(session, prediction_id)


def _failure(error: dict[str, Any]) -> UserError | TransientError:
    """Return what the process that predicts said; only a bad image is the client's mistake."""
    if error["code"] == "bad_data":
        return BadImage("the image cannot be looked at: it is damaged, too large, or of an unknown format", hint=None)
    return NoPredictor(error["message"], hint=error["hint"])
