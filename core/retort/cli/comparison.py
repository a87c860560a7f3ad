"""``retort compare JOB JOB``: figures, differing fields and classes of jobs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from retort.cli import pages, render
from retort.cli.options import connect, emit, find
from retort.errors import UserError
from retort.report.comparison import MOST, JobComparison, compare


def compare_jobs(names: list[str], url: str | None, *, as_json: bool) -> None:
    """Print jobs of a service beside each other.

    Raises:
        UserError: they are fewer than two, more than can be read beside each other, or not all different.

    """
    if not 2 <= len(names) <= MOST:
        hint = f"two to {MOST} jobs; or networks, with the images to measure them on: --data DIR"
        raise UserError(f"{len(names)} cannot be compared", hint=hint, code="usage")
    with connect(url) as client:
        ids = [find(client, name) for name in names]
        if len(set(ids)) < len(ids):
            raise UserError("a job is named twice", hint="name different jobs: retort ls", code="usage")
        found = compare([client.get(one) for one in ids])
        if as_json:
            emit(_plain(found))
            return
        console = render.console()
        for part in render.comparison_parts(found):
            console.print(part)
        pages.tell(client, pages.comparison(ids))


def _plain(found: JobComparison) -> dict[str, Any]:
    jobs = [
        {**asdict(job), "verdict": job.verdict and job.verdict.model_dump(mode="json")} for job in found.jobs
    ]  # fmt: skip
    plain = asdict(found)
    return {"same_images": found.same_images, "jobs": jobs, "fields": plain["fields"], "classes": plain["classes"]}
