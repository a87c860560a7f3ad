"""Render jobs, queue and workers at a glance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from retort.cli.render.figures import clock, duration, score, share, short
from retort.cli.render.jobs import waiting_text
from retort.cli.render.tables import Column, FittedTable, figure, state_text
from retort.cli.render.terminal import paragraph
from retort.cli.render.workers import devices_text
from retort.constants import MAP

_BESIDE = 8
"""Lines of the picture beside those of jobs and workers."""


def overview(found: Mapping[str, Any], height: int | None) -> RenderableType:
    """Return jobs, queue and workers; as many jobs as a terminal of this *height* has lines for."""
    jobs, ended, workers = found["jobs"], found["ended"], found["workers"]
    head: list[RenderableType] = [paragraph(_headline(found), "bold")]
    if found["trouble"]:
        head.append(paragraph(f"no news: {found['trouble']}; trying again", "yellow"))
    room = len(jobs) if height is None else max(3, height - _BESIDE - len(workers or ()) - len(ended))
    parts: list[RenderableType] = [*head, "", _jobs([*jobs[:room], *ended])]
    if len(jobs) > room:
        parts.append(Text(f"and {len(jobs) - room} more: retort ls", style="dim"))
    return Group(*parts, "", *_workers(workers))


def _headline(found: Mapping[str, Any]) -> str:
    counts = Counter(job["state"] for job in found["jobs"])
    states = ", ".join(f"{number} {state.replace('_', ' ')}" for state, number in counts.items()) or "no job waits"
    return f"{found['url']}  {states}"


def _jobs(jobs: Sequence[Mapping[str, Any]]) -> RenderableType:
    if not jobs:
        return paragraph("There is no job. The first one: retort init DIR writes a spec, retort submit sends it.")
    table = FittedTable(
        Column("job", rank=2), "name", "state", Column("stage", rank=5), figure("done"), figure("to go", 4),
        figure("mAP50-95", 3), Column("why", rank=1),
    )  # fmt: skip
    for job in jobs:
        table.add_row(
            short(job["id"]), job["name"], state_text(job["state"]), job.get("stage"), share(job.get("progress")),
            duration(job.get("eta_s")), score((job.get("best") or {}).get(MAP)), waiting_text(job) or _ended(job),
        )  # fmt: skip
    return table


def _ended(job: Mapping[str, Any]) -> str:
    failure = job.get("failure") or {}
    return str(failure.get("message") or "")


def _workers(workers: Sequence[Mapping[str, Any]] | None) -> list[RenderableType]:
    if workers is None:
        return [Text("workers: this key may not see them", style="dim")]
    if not workers:
        return [paragraph("no worker is running: jobs wait; start one: retort up, or the worker's container", "yellow")]
    table = FittedTable("worker", "trains on", figure("busy"), Column("seen", rank=1))
    for worker in workers:
        busy = f"{worker.get('busy', 0)} of {worker['slots']}"
        draining = " (draining)" if worker.get("drained_at") else ""
        table.add_row(worker["host"] + draining, devices_text(worker), busy, clock(worker["seen_at"]))
    return [table]
