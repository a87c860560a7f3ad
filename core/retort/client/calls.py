"""Describe the requests that both clients, sync and async, make."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Json = dict[str, Any]
_PREDICTION_S = 60.0
"""For the boxes on an image: a worker may have to load the network."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request."""

    method: str
    path: str
    options: Json = field(default_factory=dict)
    """As for the HTTP client: params, headers, json, content, timeout."""


def given(**params: Any) -> Json:
    """Return what is not None."""
    return {name: value for name, value in params.items() if value is not None}


def submission_key(chosen: str | None) -> dict[str, str]:
    """Name a submission, so that sending it twice makes one job."""
    return {"Idempotency-Key": chosen or uuid.uuid4().hex}


def submit(
    path: str,
    document: Mapping[str, Any],
    *,
    idempotency_key: str | None = None,
    owner: str | None = None,
    priority: int | None = None,
    labels: Mapping[str, str] | None = None,
) -> Call:
    """Submit a spec or a sweep."""
    told = [f"{key}={value}" for key, value in (labels or {}).items()]
    params = given(owner=owner, priority=priority, label=told or None)
    options = {"json": dict(document), "params": params, "headers": submission_key(idempotency_key)}
    return Call("POST", path, options)


def job(job_id: str, *, wait_s: float | None = None, timeout_s: float = 30.0) -> Call:
    """Read a job, at once or when it has ended."""
    if wait_s is None:
        return Call("GET", f"/v1/jobs/{job_id}")
    return Call("GET", f"/v1/jobs/{job_id}", {"params": {"wait": wait_s}, "timeout": wait_s + timeout_s})


def part(job_id: str, what: str, /, **params: Any) -> Call:
    """Read what belongs to a job, such as its artifacts or metrics."""
    return Call("GET", f"/v1/jobs/{job_id}/{what}", {"params": given(**params)})


def act(job_id: str, action: Literal["cancel", "pause", "resume", "stop"]) -> Call:
    """Ask something of a job that is harmless to ask twice."""
    return Call("POST", f"/v1/jobs/{job_id}/{action}")


def retry(job_id: str, idempotency_key: str | None) -> Call:
    """Go on where a job has ended, in a new one."""
    return Call("POST", f"/v1/jobs/{job_id}/retry", {"headers": submission_key(idempotency_key)})


def clone(job_id: str, patch: Mapping[str, Any] | None, idempotency_key: str | None) -> Call:
    """Begin a new job with a job's spec, changed by *patch*."""
    options = {"json": dict(patch or {}), "headers": submission_key(idempotency_key)}
    return Call("POST", f"/v1/jobs/{job_id}/clone", options)


def change(
    job_id: str,
    *,
    name: str | None = None,
    labels: Mapping[str, str | None] | None = None,
    priority: int | None = None,
    version: str | None = None,
) -> Call:
    """Rename or label a job, or change its priority."""
    body = given(name=name, labels=None if labels is None else dict(labels), priority=priority)
    headers = {} if version is None else {"If-Match": version}
    return Call("PATCH", f"/v1/jobs/{job_id}", {"json": body, "headers": headers})


def act_on_many(action: Literal["cancel", "retry", "delete"], job_ids: Sequence[str]) -> Call:
    """Cancel, retry or delete many jobs."""
    body = {"action": action, "ids": list(job_ids)}
    return Call("POST", "/v1/bulk", {"json": body, "headers": submission_key(None)})


def validate(spec: Mapping[str, Any]) -> Call:
    """Check a spec without queueing it."""
    return Call("POST", "/v1/validate", {"json": dict(spec)})


def job_filters(labels: Mapping[str, str | None] | None, filters: Mapping[str, Any]) -> Json:
    """Return the query of a list of jobs."""
    wanted = [key if value is None else f"{key}={value}" for key, value in (labels or {}).items()]
    return given(**filters, label=wanted or None)


def page(path: str, params: Mapping[str, Any], cursor: str | None) -> Call:
    """Read a page of a list."""
    return Call("GET", path, {"params": given(**params, cursor=cursor, limit=100)})


def download_url(artifact_id: str, expires_in_s: int) -> Call:
    """Ask for an address at which whoever has it can read an artifact."""
    return Call("POST", f"/v1/artifacts/{artifact_id}/download-url", {"json": {"expires_in_s": expires_in_s}})


def predict(job_id: str, image: bytes, confidence: float) -> Call:
    """Find boxes on an image."""
    headers = {"Content-Type": "application/octet-stream"}
    options = {"content": image, "params": {"confidence": confidence}, "headers": headers, "timeout": _PREDICTION_S}
    return Call("POST", f"/v1/jobs/{job_id}/predict", options)
