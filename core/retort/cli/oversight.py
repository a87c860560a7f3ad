"""``retort audit`` and ``retort quota``: what operators look at and set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from retort.cli import render
from retort.cli.options import AsJson, Url, connect, emit


def audit(  # noqa: PLR0917 - typer gives each by name
    project: Annotated[str | None, typer.Option(help="Only changes in this project.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only changes by this owner.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this operation, such as submit_job.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show who changed what, when, from where, and with which outcome; the latest first."""
    with connect(url) as client:
        found = client.audit(project=project, owner=owner, action=action, limit=limit)
    if as_json:
        emit(list(found))
    else:
        render.console().print(_audit_table(found))


def _audit_table(entries: Iterable[Mapping[str, Any]]) -> render.FittedTable:
    """Return a table with one line per change."""
    column = render.Column
    table = render.FittedTable(
        "at", column("project", rank=2), "owner", "action", "target", "outcome", column("from", rank=1)
    )
    for one in entries:
        found = (str(one[name]) for name in ("project", "owner", "action", "target", "outcome", "address"))
        table.add_row(render.clock(one["at"], "%Y-%m-%d %H:%M:%S"), *found)
    return table


def quota(  # noqa: PLR0917 - typer gives each by name
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    queued_jobs: Annotated[int | None, typer.Option(min=0, help="Most jobs that wait.")] = None,
    running_jobs: Annotated[int | None, typer.Option(min=0, help="Most jobs that run.")] = None,
    gpu_hours: Annotated[float | None, typer.Option(min=0, help="Most GPU hours in a month.")] = None,
    stored_bytes: Annotated[int | None, typer.Option(min=0, help="Most bytes in the store.")] = None,
    uploads: Annotated[int | None, typer.Option(min=0, help="Most uploads at a time.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show a project's quota and use; with options, set it."""
    wanted = {
        "queued_jobs": queued_jobs, "running_jobs": running_jobs, "gpu_hours": gpu_hours,
        "stored_bytes": stored_bytes, "uploads": uploads,
    }  # fmt: skip
    given = {name: value for name, value in wanted.items() if value is not None}
    with connect(url) as client:
        found = client.set_quota(project, **given) if given else client.quota(project)
    if as_json:
        emit(found)
        return
    table = render.FittedTable("limit", render.figure("most"), render.figure("used"))
    used = {"gpu_hours": f"{found['gpu_hours']:.1f}", "stored_bytes": f"{found['stored_bytes']:,}"}
    for name, most in found["limits"].items():
        table.add_row(name, "none" if most is None else f"{most:,}", used.get(name))
    render.console().print(table)
