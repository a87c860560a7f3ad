"""Write events of jobs down for webhooks, and hand them to workers."""

from __future__ import annotations

import base64
import json
import random
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import bindparam, delete, false, func, or_, select, true, update
from sqlalchemy.orm import Session

from retort.db.identity_models import ProjectRow
from retort.db.models import JobRow, new_id
from retort.db.session import NO_SYNC, add, table
from retort.db.webhook_models import DELIVERY_PREFIX, WEBHOOK_PREFIX, DeliveryRow, WebhookRow
from retort.errors import UserError
from retort.states import JobState


class WebhookEvent(StrEnum):
    """Kinds of events that webhooks may be sent."""

    STARTED = "job.started"
    AWAITING_REVIEW = "job.awaiting_review"
    SUCCEEDED = "job.succeeded"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"
    EXPIRED = "job.expired"


TEST_EVENT = "webhook.test"
BACKOFF_S = (5.0, 60.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 36_000.0)
"""Pauses before the attempts after the first: it is given up after a day and a quarter."""
_EVENT_OF = {
    JobState.AWAITING_REVIEW: WebhookEvent.AWAITING_REVIEW, JobState.SUCCEEDED: WebhookEvent.SUCCEEDED,
    JobState.FAILED: WebhookEvent.FAILED, JobState.CANCELLED: WebhookEvent.CANCELLED,
    JobState.EXPIRED: WebhookEvent.EXPIRED,
}  # fmt: skip
MOST_WEBHOOKS = 20
"""Of a project."""
_OLD_SECRET_S = 86_400.0
_GONE = 410


class WebhookNotFound(UserError):
    """There is no such webhook."""

    code = "webhook_not_found"


class DeliveryNotFound(UserError):
    """The webhook has no such delivery, or none any more."""

    code = "delivery_not_found"


class TooManyWebhooks(UserError):
    """The project has as many webhooks as it may have."""

    code = "too_many_webhooks"


def _event(entered: Mapping[str, Any]) -> WebhookEvent | None:
    """Return which event a transition is; a later attempt is no second start."""
    if entered["name"] == JobState.RUNNING:
        return WebhookEvent.STARTED if entered["attempt"] == 1 and entered["actor"].startswith("worker:") else None
    return _EVENT_OF.get(JobState(entered["name"]))


_HOOKS, _JOBS = table(WebhookRow).c, table(JobRow).c
_CONCERNED = (
    select(
        _HOOKS.id.label("webhook_id"), _HOOKS.events, _HOOKS.owner.label("webhook_owner"), _JOBS.id.label("job_id"),
        _JOBS.name, _JOBS.owner, _JOBS.project, _JOBS.labels, _JOBS.sweep_id,
    )
    .join(table(JobRow), _JOBS.project == _HOOKS.project)
    .where(_JOBS.id.in_(bindparam("ids", expanding=True)), _HOOKS.enabled == true())
)  # fmt: skip


def announce(session: Session, entered: Sequence[Mapping[str, Any]]) -> None:
    """Write down for the webhooks of their projects that jobs have *entered* states.

    It is part of the transaction that changes the states: either both are written, or nothing is.
    """
    events = {row["job_id"]: (row, event) for row in entered if (event := _event(row)) is not None}
    if not events:
        return
    concerned = session.connection().execute(_CONCERNED, {"ids": list(events)}).all()
    rows = []
    for hook in concerned:
        row, event = events[hook.job_id]
        if event not in hook.events:
            continue
        about = {
            "job_id": hook.job_id, "name": hook.name, "state": row["name"], "project": hook.project,
            "owner": hook.owner, "labels": hook.labels, "sweep_id": hook.sweep_id, "attempt": row["attempt"],
            "reason": row["reason"],
        }  # fmt: skip
        rows.append(
            _delivery(hook.webhook_id, event, about, now=row["at"], project=hook.project, owner=hook.webhook_owner)
        )
    add(session, DeliveryRow, rows)


def _delivery(
    webhook_id: str, event: str, data: Mapping[str, Any], *, now: float, project: str, owner: str
) -> dict[str, Any]:
    at = datetime.fromtimestamp(now, UTC).isoformat().replace("+00:00", "Z")
    return {
        "id": new_id(DELIVERY_PREFIX), "webhook_id": webhook_id, "event": event, "job_id": data.get("job_id"),
        "payload": json.dumps({"type": event, "timestamp": at, "data": data}, separators=(",", ":")),
        "state": "pending", "attempts": 0, "next_at": now, "status": None, "error": None, "duration_ms": None,
        "created_at": now, "ended_at": None, "project": project, "owner": owner,
    }  # fmt: skip


def new_secret() -> str:
    """Make a signing secret as Standard Webhooks spells it."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


def create(
    session: Session, *, url: str, events: Sequence[str], description: str, project: str, owner: str, now: float
) -> WebhookRow:
    """Register a webhook of a project.

    Raises:
        TooManyWebhooks: the project has as many as it may have.

    """
    # Those who come at a time count one after the other.
    session.execute(select(ProjectRow.name).where(ProjectRow.name == project).with_for_update())
    number = session.scalar(select(func.count()).select_from(WebhookRow).where(WebhookRow.project == project)) or 0
    if number >= MOST_WEBHOOKS:
        raise TooManyWebhooks(f"a project has at most {MOST_WEBHOOKS} webhooks", hint="delete one that is not needed")
    row = WebhookRow(
        id=new_id(WEBHOOK_PREFIX), url=url, events=sorted(set(events)), description=description, secret=new_secret(),
        old_secret=None, old_secret_until=None, enabled=True, disabled_reason=None, created_at=now, project=project,
        owner=owner,
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row


def get(session: Session, webhook_id: str) -> WebhookRow:
    """Return the webhook.

    Raises:
        WebhookNotFound: there is no such webhook.

    """
    found = session.scalar(select(WebhookRow).where(WebhookRow.id == webhook_id))
    if found is None:
        raise WebhookNotFound(f"there is no webhook {webhook_id}")
    return found


def of_project(session: Session) -> list[WebhookRow]:
    """Return the webhooks that the session may see, oldest first."""
    return list(session.scalars(select(WebhookRow).order_by(WebhookRow.id).limit(1000)))


def change(session: Session, webhook_id: str, **values: Any) -> WebhookRow:
    """Change columns of a webhook; enabling it forgets why it was disabled."""
    row = get(session, webhook_id)
    if values.get("enabled"):
        values["disabled_reason"] = None
    for name, value in values.items():
        setattr(row, name, value)
    session.flush()
    return row


def rotate(session: Session, webhook_id: str, *, now: float) -> WebhookRow:
    """Give a webhook a new secret beside the old one."""
    row = get(session, webhook_id)
    return change(
        session, webhook_id, old_secret=row.secret, old_secret_until=now + _OLD_SECRET_S, secret=new_secret()
    )  # fmt: skip


def remove(session: Session, webhook_id: str) -> None:
    """Delete a webhook with its deliveries, also those that are still to be sent."""
    row = get(session, webhook_id)
    session.execute(delete(DeliveryRow).where(DeliveryRow.webhook_id == row.id), execution_options=NO_SYNC)
    session.execute(delete(WebhookRow).where(WebhookRow.id == row.id), execution_options=NO_SYNC)


def test(session: Session, webhook_id: str, *, now: float) -> str:
    """Have an event sent that means nothing; return the delivery's id."""
    row = get(session, webhook_id)
    delivery = _delivery(row.id, TEST_EVENT, {"webhook_id": row.id}, now=now, project=row.project, owner=row.owner)
    add(session, DeliveryRow, [delivery])
    return str(delivery["id"])


def redeliver(session: Session, webhook_id: str, delivery_id: str, *, now: float) -> DeliveryRow:
    """Send an ended delivery again, with all attempts; leave a pending one.

    Raises:
        WebhookNotFound: there is no such webhook.
        DeliveryNotFound: it has no such delivery.

    """
    row = get(session, webhook_id)
    theirs = (DeliveryRow.id == delivery_id, DeliveryRow.webhook_id == row.id)
    values = {"state": "pending", "attempts": 0, "next_at": now, "ended_at": None}
    over = update(DeliveryRow).where(*theirs, DeliveryRow.next_at.is_(None))
    session.execute(over.values(**values), execution_options=NO_SYNC)
    found = session.scalar(select(DeliveryRow).where(*theirs))
    if found is None:
        hint = "it may be forgotten by now; its deliveries are listed below the webhook"
        raise DeliveryNotFound(f"webhook {webhook_id} has no delivery {delivery_id}", hint=hint)
    return found


def deliveries(session: Session, webhook_id: str, *, after: str | None = None, limit: int = 50) -> list[DeliveryRow]:
    """Return a page of a webhook's deliveries, newest first, older than the delivery *after*."""
    row = get(session, webhook_id)
    query = select(DeliveryRow).where(DeliveryRow.webhook_id == row.id).order_by(DeliveryRow.id.desc()).limit(limit)
    return list(session.scalars(query if after is None else query.where(DeliveryRow.id < after)))


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """A delivery to be sent now, and the secrets to sign it with."""

    id: str
    url: str
    payload: str
    attempt: int
    secrets: tuple[str, ...]


def any_due(session: Session, *, now: float) -> bool:
    """Return True if a delivery is due."""
    return session.scalar(select(DeliveryRow.id).where(DeliveryRow.next_at <= now).limit(1)) is not None


def take(session: Session, *, now: float, hold_s: float, limit: int) -> list[DueDelivery]:
    """Take deliveries that are due, for *hold_s* seconds."""
    due = (
        select(DeliveryRow.id)
        .join(WebhookRow, WebhookRow.id == DeliveryRow.webhook_id)
        .where(DeliveryRow.next_at <= now, WebhookRow.enabled == true())
        .order_by(DeliveryRow.next_at)
        .limit(limit)
        .with_for_update(skip_locked=True, of=DeliveryRow)
    )
    ids = list(session.scalars(due))
    if not ids:
        return []
    held = update(DeliveryRow).where(DeliveryRow.id.in_(ids))
    session.execute(
        held.values(next_at=now + hold_s, attempts=DeliveryRow.attempts + 1), execution_options=NO_SYNC
    )  # fmt: skip
    taken = select(DeliveryRow, WebhookRow).join(WebhookRow, WebhookRow.id == DeliveryRow.webhook_id)
    return [
        DueDelivery(row.id, hook.url, row.payload, row.attempts, tuple(_secrets(hook, now)))
        for row, hook in session.execute(taken.where(DeliveryRow.id.in_(ids)).order_by(DeliveryRow.id)).all()
    ]


def _secrets(hook: WebhookRow, now: float) -> Iterator[str]:
    yield hook.secret
    if hook.old_secret is not None and (hook.old_secret_until or 0.0) > now:
        yield hook.old_secret


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer of a webhook's address to one attempt."""

    status: int | None
    """None where no answer came."""
    error: str | None
    duration_ms: float


def record(session: Session, delivery: DueDelivery, answer: Answer, *, now: float) -> None:
    """Record the answer: delivered, to be sent again after a pause, or given up.

    An address that answers 410 is gone: its webhook is disabled, and what it was still to be sent is given up.
    """
    values: dict[str, Any] = {"status": answer.status, "error": answer.error, "duration_ms": answer.duration_ms}
    ended = {"next_at": None, "ended_at": now}
    if answer.status is not None and 200 <= answer.status < 300:
        values |= {"state": "delivered", "error": None, **ended}
    elif answer.status == _GONE or delivery.attempt > len(BACKOFF_S):
        values |= {"state": "failed", **ended}
    else:
        pause_s = BACKOFF_S[delivery.attempt - 1] * random.uniform(0.9, 1.2)  # noqa: S311 - spreads the load
        values["next_at"] = now + pause_s
    one = update(DeliveryRow).where(DeliveryRow.id == delivery.id)
    session.execute(one.values(**values), execution_options=NO_SYNC)
    if answer.status == _GONE:
        _disable(session, delivery, now=now)


def _disable(session: Session, delivery: DueDelivery, *, now: float) -> None:
    hook = select(DeliveryRow.webhook_id).where(DeliveryRow.id == delivery.id).scalar_subquery()
    reason = "its address has answered 410: it is gone"
    session.execute(
        update(WebhookRow).where(WebhookRow.id == hook).values(enabled=False, disabled_reason=reason),
        execution_options=NO_SYNC,
    )
    open_ones = update(DeliveryRow).where(DeliveryRow.webhook_id == hook, DeliveryRow.next_at.is_not(None))
    session.execute(
        open_ones.values(state="failed", next_at=None, ended_at=now, error=reason), execution_options=NO_SYNC
    )  # fmt: skip


def forget(session: Session, *, before: float, limit: int = 1000) -> int:
    """Forget deliveries from before *before*; return their number, at most *limit*.

    What is still to be sent goes only where its webhook is disabled.
    """
    asleep = DeliveryRow.webhook_id.in_(select(WebhookRow.id).where(WebhookRow.enabled == false()))
    over = or_(DeliveryRow.next_at.is_(None), asleep)
    old = select(DeliveryRow.id).where(DeliveryRow.created_at < before, over).limit(limit)
    ids = list(session.scalars(old))
    session.execute(delete(DeliveryRow).where(DeliveryRow.id.in_(ids)), execution_options=NO_SYNC)
    return len(ids)
