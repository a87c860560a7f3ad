"""Show the audit log: who changed what, when, from where, and how it ended."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import Query, Request, Response
from retort.access import Scope

from retort_api.deps import Serving
from retort_api.pages.page_router import PageRouter
from retort_api.pages.rendering import render
from retort_api.routes import oversight

router = PageRouter()

_LIMIT = 100
_NAME = r"^([A-Za-z0-9][A-Za-z0-9._@-]{0,62})?$"
Filter = Annotated[str, Query(pattern=_NAME)]


@router.page("/settings/audit", scope=Scope.SERVICE_OPERATE)
def show_audit(
    *, request: Request, service: Serving, project: Filter = "", owner: Filter = "",
    action: Annotated[str, Query(pattern=r"^[A-Za-z0-9_.]{0,255}$")] = "",
    before: Annotated[int | None, Query(ge=1, le=2**53 - 1)] = None,
) -> Response:  # fmt: skip
    """Show a page of the audit log, filtered."""
    wanted = {"project": project, "owner": owner, "action": action}
    found = oversight.list_audit(
        service=service, project=project or None, owner=owner or None, action=action or None, before=before,
        limit=_LIMIT,
    )  # fmt: skip
    older = None
    if found.next_before is not None:
        older = urlencode({**{name: value for name, value in wanted.items() if value}, "before": found.next_before})
    return render(
        request, "settings_audit.html", title="Audit log", current="settings", section="audit", entries=found.data,
        older=older, wanted=wanted, filtered=any(wanted.values()),
    )  # fmt: skip
