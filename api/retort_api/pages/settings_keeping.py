"""Show quotas and retention; set quotas, apply retention."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Form, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from retort.access import ANY_KEY, NAME, Principal, Scope
from retort.db import keys, quotas
from retort.db.quotas import Limits
from retort.settings import Settings

from retort_api.deps import AppState, Caller, Serving
from retort_api.pages.page_router import REFUSED, PageRouter
from retort_api.pages.refused_form import RefusedForm
from retort_api.pages.rendering import render, see_other
from retort_api.pages.settings import OrNothing
from retort_api.routes import oversight
from retort_api.routes.oversight import QuotaChange, QuotaUse
from retort_api.routes.usage import prune

router = PageRouter()

_MOST_PROJECTS = 100
_GB = 1e9
Whole = Annotated[int | None, OrNothing, Field(ge=0, le=2**53 - 1)]
Amount = Annotated[float | None, OrNothing, Field(ge=0, le=1e12, allow_inf_nan=False)]


class QuotaForm(BaseModel):
    """The form that sets a project's quota.

    An empty field is as in the settings.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    project: Annotated[str, Field(pattern=rf"^{NAME}$")]
    queued_jobs: Whole = None
    running_jobs: Whole = None
    gpu_hours: Amount = None
    stored_gb: Amount = None
    uploads: Whole = None


@router.page("/settings/quotas", scope=ANY_KEY)
def show_quotas(
    request: Request, service: Serving, caller: Caller,
    project: Annotated[str | None, Query(pattern=rf"^{NAME}$", description="Whose quota is to be set.")] = None,
) -> Response:  # fmt: skip
    """Show what each project may have, and uses; operators set it."""
    refused: RefusedForm | None = getattr(request.state, REFUSED, None)
    if refused is not None and re.fullmatch(NAME, refused.value("project")):
        project = refused.value("project")
    chosen = project if project is not None and caller.is_operator else caller.project
    return render(
        request, "settings_quotas.html", title="Quotas", current="settings", section="quotas", chosen=chosen,
        quotas=_quotas(service, caller), own=_set_for(service, caller, chosen), gb=_GB,
    )  # fmt: skip


def _set_for(service: AppState, caller: Principal, project: str) -> Limits:
    with service.read(caller) as session:
        return quotas.set_for(session, project)


def _quotas(service: AppState, caller: Principal) -> list[QuotaUse]:
    """Return the quotas of the projects that the caller may see, their own first."""
    names = [caller.project]
    if caller.is_operator:
        with service.read(caller) as session:
            names += [row.name for row in keys.projects(session) if row.name != caller.project][:_MOST_PROJECTS]
    return [oversight.get_quota(service, caller, name) for name in names]


@router.form("/settings/quotas", scope=Scope.SERVICE_OPERATE, shown_on="/settings/quotas")
def set_quota_by_form(request: Request, service: Serving, asked: Annotated[QuotaForm, Form()]) -> Response:
    """Set the quota of a project."""
    stored = None if asked.stored_gb is None else round(asked.stored_gb * _GB)
    change = QuotaChange(
        queued_jobs=asked.queued_jobs, running_jobs=asked.running_jobs, gpu_hours=asked.gpu_hours,
        stored_bytes=stored, uploads=asked.uploads,
    )  # fmt: skip
    oversight.put_quota(service, asked.project, change)
    return see_other(request, f"/settings/quotas?project={asked.project}", f"The quota of {asked.project} is set")


@router.page("/settings/retention", scope=ANY_KEY)
def show_retention(request: Request, service: Serving, caller: Caller) -> Response:
    """Show for how long what is kept, and what would go now."""
    may = Scope.SERVICE_OPERATE in caller.scopes
    return render(
        request, "settings_retention.html", title="Retention", current="settings", section="retention",
        kept=kept(service.settings), plan=prune(service, dry_run=True) if may else None,
    )  # fmt: skip


def kept(settings: Settings) -> list[tuple[str, str, float | None]]:
    """Return what is kept, by which setting, and for how many seconds.

    None is for ever.
    """
    by_state = sorted(settings.keep_jobs_s.items())
    ended = [(f"Jobs and sweeps that have {state}", seconds) for state, seconds in by_state]
    return [
        *((what, "RETORT_KEEP_JOBS_S", seconds) for what, seconds in ended),
        ("Other jobs and sweeps" if ended else "Jobs and sweeps", "RETORT_KEEP_JOBS_S", None),
        ("What is in the trash", "RETORT_KEEP_TRASH_S", settings.keep_trash_s),
        ("Checkpoints but the best and the last", "RETORT_KEEP_CHECKPOINTS_S", settings.keep_checkpoints_s),
        ("Saved states of jobs that failed or were cancelled", "RETORT_KEEP_SAVED_S", settings.keep_saved_s),
        ("Last states of jobs that succeeded", "RETORT_KEEP_LAST_STATE_S", settings.keep_last_state_s),
        ("Events", "RETORT_KEEP_EVENTS_S", settings.keep_events_s),
        ("Curves", "RETORT_KEEP_METRICS_S", settings.keep_metrics_s),
        ("Uploads to which nothing is added", "RETORT_KEEP_UPLOADS_S", settings.keep_uploads_s),
        ("Deliveries of webhooks", "RETORT_KEEP_DELIVERIES_S", settings.keep_deliveries_s),
        ("The audit log", "RETORT_KEEP_AUDIT_S", settings.keep_audit_s),
        ("Ended keys and sessions", "RETORT_KEEP_ENDED_KEYS_S", settings.keep_ended_keys_s),
        ("Idempotency keys", "RETORT_KEEP_KEYS_S", settings.keep_keys_s),
        ("Bytes that nothing needs any more", "RETORT_KEEP_UNREFERENCED_S", settings.keep_unreferenced_s),
    ]


@router.form("/settings/retention/apply", scope=Scope.SERVICE_OPERATE)
def apply_retention_by_form(request: Request, service: Serving) -> Response:
    """Apply retention now, for some seconds."""
    taken = prune(service)
    number = sum(one.number for one in taken.shares)
    more = "" if taken.done else "; there is more, apply it again"
    return see_other(request, "/settings/retention", f"{number} taken, {taken.freed_bytes:,} bytes freed{more}")
