"""Decide owner, project and priority of a submission."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Header, Query, Request
from retort.access import Forbidden, Principal
from retort.db import keys
from retort.db.idempotency import IdempotencyKey
from retort.db.reruns import OnBehalf
from retort.settings import Settings
from retort.spec import AnySpec, SweepSpec, digest
from starlette.concurrency import run_in_threadpool

from retort_api.deps import IDEMPOTENCY_KEY, OWNER, AppState, calling, serving

_OPERATORS = "leave it out, or use a key of an operator"


@dataclass(frozen=True, slots=True)
class SubmissionTerms:
    """Owner, project, priority and idempotency key of a submission."""

    project: str
    owner: str
    priority: int
    caller: Principal
    key_text: str | None
    keep_s: float | None
    address: str

    def key(self, spec: AnySpec | SweepSpec) -> IdempotencyKey | None:
        """Return the idempotency key of a request with *spec*.

        The query counts as well.
        """
        if self.key_text is None:
            return None
        told = "\n".join((self.address, self.owner, str(self.priority), digest(spec)))
        return IdempotencyKey(
            self.key_text, self.caller.owner, hashlib.sha256(told.encode()).hexdigest(), self.keep_s
        )  # fmt: skip


def refuse_priority(caller: Principal, settings: Settings, priority: int) -> None:
    """Refuse a priority above what others than operators may give.

    Raises:
        Forbidden: it is.

    """
    if priority > settings.max_priority and not caller.is_operator:
        most = settings.max_priority
        raise Forbidden(
            f"priority {priority} is for operators: others may give at most {most}", hint=f"give {most} or less"
        )


def on_behalf(caller: Principal, settings: Settings) -> OnBehalf | None:
    """Return owner and highest priority of a rerun by *caller*.

    None leaves it with the owner of the job that is repeated.
    """
    return None if caller.is_operator else OnBehalf(caller.owner, settings.max_priority)


async def _terms(
    *,
    request: Request,
    owner: Annotated[
        str | None,
        Query(
            pattern=OWNER, description="Owners share the workers fairly. Only operators may name another than theirs."
        ),
    ] = None,
    project: Annotated[
        str | None, Query(pattern=OWNER, description="Only operators may name another than their key's.")
    ] = None,
    priority: Annotated[
        int, Query(ge=-100, le=100, description="Higher ones are claimed first; high ones are for operators.")
    ] = 0,
    idempotency_key: Annotated[str | None, Header(pattern=IDEMPOTENCY_KEY)] = None,
) -> SubmissionTerms:
    # Called here, because a dependency that several share is still solved once for each of them.
    service, caller = await serving(request), await calling(request)
    await service.disk.check_lately()
    given: dict[str, Any] = {"owner": (owner, caller.owner), "project": (project, caller.project)}
    for what, (named, own) in given.items():
        if named not in {None, own} and not caller.is_operator:
            raise Forbidden(f"this key submits for the {what} {own}, not for {named}", hint=_OPERATORS)
    refuse_priority(caller, service.settings, priority)
    if project not in {None, caller.project}:
        await run_in_threadpool(_find_project, service, str(project))
    return SubmissionTerms(
        project=project or caller.project, owner=owner or caller.owner, priority=priority, caller=caller,
        key_text=idempotency_key, keep_s=service.settings.keep_keys_s, address=request.url.path,
    )  # fmt: skip


def _find_project(service: AppState, name: str) -> None:
    with service.database.read() as session:
        keys.get_project(session, name)


Terms = Annotated[SubmissionTerms, Depends(_terms)]
