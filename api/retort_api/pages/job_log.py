"""Show a job's log and events, newest last."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import Query, Request
from fastapi.responses import HTMLResponse
from retort.access import Scope
from retort.db import events, jobs
from retort.db.events import EventFilter
from retort.db.models import EventRow

from retort_api.deps import Caller, JobId, Serving
from retort_api.pages import words
from retort_api.pages.job_head import show
from retort_api.pages.page_router import PageRouter

router = PageRouter()

PAGE = 200
REACH = 50_000
"""Events, from the newest back, among which one request looks for what is wanted."""
_LARGEST = 2**53 - 1
_LEVELS = ("debug", "info", "warning", "error")
Kind = Literal["log", "all"]
Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class LogLine:
    """One event in words."""

    seq: int
    at: float
    kind: str
    level: str
    attempt: int
    text: str

    @property
    def clock(self) -> str:
        """Its time in UTC, to the second."""
        return datetime.fromtimestamp(self.at, UTC).strftime("%m-%d %H:%M:%S")


@router.page("/jobs/{job_id}/log", scope=Scope.JOBS_READ)
def show_log(
    *,
    request: Request,
    service: Serving,
    caller: Caller,
    job_id: JobId,
    kind: Annotated[Kind, Query()] = "log",
    level: Annotated[Level, Query()] = "debug",
    q: Annotated[str, Query(pattern=r"^[^\x00-\x1f\x7f]{0,200}$")] = "",
    before: Annotated[int | None, Query(ge=1, le=_LARGEST)] = None,
) -> HTMLResponse:
    """Show what the run and the service said; *level* is the lowest one."""
    with service.read(caller) as session:
        top = jobs.get(session, job_id).last_seq + 1 if before is None else before
        bottom = max(1, top - REACH)
        wanted = EventFilter(
            types=("log", "health") if kind == "log" else (),
            levels=() if level == "debug" else _LEVELS[_LEVELS.index(level) :],
            words=q, before=before, since=bottom,
        )  # fmt: skip
        rows = events.latest(session, job_id, wanted, PAGE + 1)
        lines = tuple(line(row) for row in rows[-PAGE:])
    full = len(rows) > PAGE
    older = None
    if full or bottom > 1:
        asked = {"kind": kind, "level": level, "q": q, "before": lines[0].seq if full else bottom}
        older = f"/jobs/{job_id}/log?{urlencode(asked)}"
    return show(
        request, service, caller, job_id, "log", "job_log.html", lines=lines, older=older, levels=_LEVELS,
        chosen={"kind": kind, "level": level, "q": q}, at_end=before is None, looked_at=None if full else top - bottom,
    )  # fmt: skip


def line(row: EventRow) -> LogLine:
    """Say an event in one line."""
    text = row.message or _in_words(row.type, row.data)
    return LogLine(row.seq, row.at, row.type, row.level or "", row.attempt, text)


def _in_words(kind: str, data: Mapping[str, Any]) -> str:
    if kind in _SAID:
        return _SAID[kind](data)
    return json.dumps(dict(data), ensure_ascii=False) if data else ""


def _state(data: Mapping[str, Any]) -> str:
    reason = f": {data['reason']}" if data.get("reason") else ""
    return f"{words.stage(str(data.get('state', '')))}, by {data.get('actor', 'the service')}{reason}"


def _figures(values: Mapping[str, Any]) -> str:
    shown = list(values.items())[:6]
    more = f", and {len(values) - 6} more" if len(values) > 6 else ""
    return ", ".join(f"{name} {words.number(value)}" for name, value in shown) + more


_SAID: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "state": _state,
    "stage": lambda data: words.stage(str(data.get("stage", ""))),
    "progress": lambda data: f"{words.share(data.get('progress'))}, {words.duration(data.get('eta_s'))} to go",
    "metric": lambda data: f"{data.get('role')} at epoch {data.get('step')}: {_figures(data.get('values') or {})}",
    "artifact": lambda data: f"published {data.get('name')}",
    "checkpoint": lambda data: f"checkpoint of the {data.get('role')} at epoch {data.get('epoch')}",
}
"""By type of event."""
