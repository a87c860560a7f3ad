"""Render events as lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retort.cli.render.figures import clock, score, short
from retort.constants import MAP, MAP50, Role

SHOWN_METRICS = {MAP50: "mAP50", MAP: "mAP50-95", "train/loss": "loss", "train/kd_loss": "distillation"}


_UNTOLD = frozenset({"progress", "saved"})
"""Events that say nothing to people."""


def epochs_of(job: Mapping[str, Any]) -> int | None:
    """Return how many epochs the student of *job* is trained for; None where that is not known."""
    training = (job.get("spec") or {}).get("training") or {}
    return training.get("epochs")


def event_line(event: Mapping[str, Any], of: int | None = None, job_id: str | None = None) -> str | None:
    """Render one event as a line; None for one that says nothing to people.

    *of* is the number of planned epochs, *job_id* the job that commands in the line name.
    """
    kind, data = event["type"], event.get("data") or {}
    if kind in _UNTOLD:
        return None
    if kind == "metric":
        text = metric_text(data.get("role", ""), data.get("step", 0), data.get("values") or {}, of)
    elif kind == "health":
        advice = "" if data.get("verdict") == "healthy" else f". {data.get('cause')} {data.get('advice')}"
        text = f"{data.get('rule')}, epoch {data.get('epoch')}: {event.get('message')}{advice}"
    elif kind == "awaiting_review":
        command = f": retort review show {short(job_id)}" if job_id else ""
        text = f"{data.get('num_images')} images wait to be looked at{command}"
    elif kind == "failed" and (failure := data.get("failure")):
        text = f"{failure.get('message')} [{failure.get('code')}]"
    elif event.get("message"):
        text = event["message"]
    else:
        told = [str(data[key]) for key in ("state", "stage", "name", "role", "epoch", "reason") if data.get(key)]
        text = " ".join(dict.fromkeys(told))
    level = event.get("level") or "info"
    mark = f"{level}: " if level in {"warning", "error"} else ""
    return f"{clock(event['at'])}  {kind:<10}  {mark}{text}"


def metric_text(role: str, step: int, values: Mapping[str, Any], of: int | None = None) -> str:
    """Render the figures of one epoch that people look at.

    *of* is the number of planned epochs, which a teacher's own training does not share, nor does each further arm.
    """
    planned = f" of {of}" if of and role not in {Role.TEACHER, Role.JOB} else ""
    shown = [f"{label} {score(values[name])}" for name, label in SHOWN_METRICS.items() if values.get(name) is not None]
    shown = shown or [f"{name} {score(value)}" for name, value in values.items()]
    return f"{role} epoch {step}{planned}  " + "  ".join(shown)
