"""Read what the rules say of a distillation's health."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from retort.db import Session, events
from retort.db.events import EventFilter
from retort.db.models import EventRow
from retort.protocol.events import HealthEvent

MOST_VERDICTS = 500
_ORDER = {"critical": 0, "warning": 1, "healthy": 2}


@dataclass(frozen=True, slots=True)
class HealthState:
    """Latest verdicts of the health rules, and their history."""

    standing: tuple[HealthEvent, ...]
    """The last verdict of each rule that has something to say, the worst first."""
    healthy: tuple[HealthEvent, ...]
    """The last verdict of each rule that is content."""
    history: tuple[HealthEvent, ...]
    """Every change of a verdict, the latest first."""

    @property
    def worst(self) -> str:
        """The worst verdict that stands."""
        return self.standing[0].verdict if self.standing else "healthy"


def read_health(session: Session, job_id: str) -> HealthState:
    """Return the verdicts of the job's latest attempt of a training."""
    rows = events.latest(session, job_id, EventFilter(types=("health",)), MOST_VERDICTS)
    found = [_event(row) for row in rows]
    last = {one.rule: one for one in found}
    ordered = sorted(last.values(), key=lambda one: (_ORDER[one.verdict], -one.epoch))
    return HealthState(
        standing=tuple(one for one in ordered if one.verdict != "healthy"),
        healthy=tuple(one for one in ordered if one.verdict == "healthy"),
        history=tuple(reversed(found)),
    )


def _event(row: EventRow) -> HealthEvent:
    """Read a verdict again as its run said it; a row from before may lack what is told today."""
    data = {"rule": "", "verdict": "healthy", "epoch": 0, "cause": "", "advice": "", "values": {}, **row.data}
    told = {name: data[name] for name in ("rule", "verdict", "epoch", "cause", "advice", "values")}
    return HealthEvent(n=row.n or 1, at=_seconds(row.at), message=row.message or "", **told)


def _seconds(at: float | datetime) -> float:
    return at.timestamp() if isinstance(at, datetime) else at
