"""Write down who changes what through the API, and who is refused."""

from __future__ import annotations

from retort.access import Principal
from retort.db import Database, DatabaseUnavailable, audit
from retort.db.audit import Act
from retort.db.session import database_now
from starlette.concurrency import run_in_threadpool
from starlette.types import Message, Scope, Send

_REFUSED = 400
_FAILED = 500
_TOO_MANY = 429


def address_of(scope: Scope) -> str:
    """Return the client's address."""
    client = scope.get("client")
    return client[0] if client else ""


def act_of(caller: Principal, action: str, scope: Scope) -> Act:
    """Return what *caller* is about to do, for the audit log."""
    target = "/".join(str(value) for value in scope.get("path_params", {}).values())
    return Act(
        project=caller.project, owner=caller.owner, key_id=caller.key_id, action=action, target=target,
        address=address_of(scope), request_id=scope.get("state", {}).get("request_id", ""),
    )  # fmt: skip


def keep_outcome(send: Send, database: Database, act: Act) -> Send:
    """Return *send* that writes each refusal down before it is sent."""

    async def kept(message: Message) -> None:
        status = message["status"] if message["type"] == "http.response.start" else 0
        if _REFUSED <= status < _FAILED and status != _TOO_MANY:
            await run_in_threadpool(write_refusal, database, act, f"refused_{status}")
        await send(message)

    return kept


def write_refusal(database: Database, act: Act, outcome: str) -> None:
    """Write down that somebody was refused."""
    try:
        with audit.acting(None), database.begin() as session:
            audit.write(session, act, now=database_now(session), outcome=outcome)
    except DatabaseUnavailable:
        return  # the request was refused all the same, and the log has it
