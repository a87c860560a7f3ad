"""Render jobs: lists, one in full, what it waits for and why it failed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.table import Table
from rich.text import Text

from retort.cli.render.figures import clock, duration, score, share, short
from retort.cli.render.results import result_parts
from retort.cli.render.tables import Column, FittedTable, figure, state_text
from retort.cli.render.terminal import Paragraph, paragraph
from retort.constants import MAP, MAP50
from retort.spec.result import readable_result
from retort.states import JobState

_TRACEBACK = "Traceback (most recent call last)"


class JobsTable:
    """One line per job; where the terminal is narrow, the end of each id stands for the id."""

    def __init__(self, jobs: Iterable[Mapping[str, Any]]) -> None:
        self._jobs = list(jobs)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Yield the table that there is room for."""
        whole = self._table(whole_ids=True)
        yield whole if whole.natural_width <= options.max_width else self._table(whole_ids=False)

    def _table(self, *, whole_ids: bool) -> FittedTable:
        table = FittedTable(
            "job", "name", "state", Column("stage", rank=1), figure("done", 2), figure("mAP50", 4),
            figure("mAP50-95", 3), Column("created", rank=5),
        )  # fmt: skip
        for job in self._jobs:
            best = job.get("best") or {}
            table.add_row(
                job["id"] if whole_ids else short(job["id"]), job["name"], state_text(job["state"]),
                job.get("stage") or _place(job), share(job.get("progress")), score(best.get(MAP50)),
                score(best.get(MAP)), clock(job["created_at"], "%Y-%m-%d %H:%M:%S"),
            )  # fmt: skip
        return table


def jobs_table(jobs: Iterable[Mapping[str, Any]]) -> JobsTable:
    """One line per job."""
    return JobsTable(jobs)


def _place(job: Mapping[str, Any]) -> str:
    """Return in few words for what a job waits."""
    queue = job.get("queue") or {}
    if queue.get("reason") == "turn":
        return "" if queue["ahead"] is None else f"{queue['ahead']} ahead"
    return str(queue.get("reason") or "").replace("_", " ")


def job_page(job: Mapping[str, Any]) -> RenderableType:
    """All that matters about one job."""
    head = Table.grid(padding=(0, 2))
    head.add_row("job", f"{job['id']}  {job['name']}")
    head.add_row("state", Text.assemble(state_text(job["state"]), f"  {job['stage']}" if job.get("stage") else ""))
    head.add_row("done", f"{share(job.get('progress'))}  {duration(job.get('eta_s'), 'to go')}".strip())
    if waits := waiting_text(job):
        head.add_row("waits", waits)
    for transition in job.get("transitions") or ():
        reason = f" ({transition['reason']})" if transition.get("reason") else ""
        head.add_row("", f"{clock(transition['at'])}  {transition['name']}{reason}")
    parts: list[RenderableType] = [head]
    if found := readable_result(job.get("result")):
        parts += ["", *result_parts(found)]
    if job.get("failure"):
        parts.append(failure_text(job["failure"]))
    return Group(*parts)


def waiting_text(job: Mapping[str, Any]) -> str:
    """Return for what a job waits: its turn, the end of a pause after a failure, or somebody to resume it."""
    if job["state"] == JobState.PAUSED:
        return f"it is paused, until somebody resumes it: retort resume {short(job['id'])}"
    if job["state"] != JobState.QUEUED:
        return ""
    return "; ".join([*_last_failure(job), *_turn(job.get("queue") or {})])


def _last_failure(job: Mapping[str, Any]) -> list[str]:
    """Return why the last attempt has failed, if it has."""
    failures = [(attempt["number"], attempt.get("failure")) for attempt in (job.get("attempts") or ())[-1:]]
    return [f"attempt {number} failed: {one['message']} [{one['code']}]" for number, one in failures if one]


def _turn(waiting: Mapping[str, Any]) -> list[str]:
    parts = [f"tried again at {clock(until)}"] if (until := waiting.get("until")) else []
    if waiting.get("reason") == "turn" and waiting["ahead"] is not None:
        before = waiting["ahead"]
        parts.append(f"{before} job{'' if before == 1 else 's'} before it" if before else "next in the queue")
        if start_s := waiting.get("estimated_start_s"):
            parts.append(f"starts in about {duration(start_s)}")
    elif waiting.get("message"):
        parts.append(waiting["message"])
    return parts


def failure_text(failure: Mapping[str, Any]) -> Paragraph:
    """Why work failed, what to do, and the end of the log."""
    text = Text(f"failed: {failure['message']} [{failure['code']}]", style="red")
    if failure.get("hint"):
        text.append(f"\nhint: {failure['hint']}", style="default")
    excerpt = (failure.get("log_excerpt") or "").rstrip()
    if _TRACEBACK in excerpt:
        text.append("\nthe traceback is in run.log, in the run's folder or among the job's artifacts", style="dim")
    elif excerpt:
        text.append(f"\n{excerpt}", style="dim")
    return paragraph(text)
