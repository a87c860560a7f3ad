"""Keep thinned charts, and add what has come since."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

from retort.db import Session, events
from retort.db.models import JobRow

from retort_api.pages.job_curves import CurveFacts, JobChart, read_points, rows_of

_MOST_EVENTS = 2000
"""That are looked through before a chart is read anew."""


@dataclass(frozen=True, slots=True)
class _KeptRows:
    """Rows of a chart's file, and up to which event they tell."""

    seq: int
    attempt: int
    text: str
    last: int
    """Their last epoch."""
    room: int
    """How many rows may be added before the chart is thinned again."""


class ChartCache:
    """Thinned rows of the charts that were looked at last, in this process.

    What is kept counts for as long as the job's events say that all that has come lies behind it; an epoch that was
    measured again makes it void, whichever process has recorded it.
    """

    def __init__(self, most: int = 128) -> None:
        self._most, self._lock = most, Lock()
        self._kept: OrderedDict[tuple[str, ...], _KeptRows] = OrderedDict()

    def rows(self, session: Session, job: JobRow, chart: JobChart, facts: CurveFacts, points: int) -> str:
        """Return the rows of a chart, thinned."""
        key = (job.id, chart.name, chart.lines_json, repr(facts), str(points))
        with self._lock:
            kept = self._kept.get(key)
        found = None if kept is None else _gone_on(session, job, chart, facts, kept)
        if found is None:
            thin, room = max(10, points * 4 // 5), points // 5
            text = rows_of(chart, read_points(session, job, chart, facts, thin), facts)
            found = _KeptRows(job.last_seq, job.attempt, text, _last_epoch(text), room)
        with self._lock:
            self._kept[key] = found
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return found.text


def _gone_on(
    session: Session, job: JobRow, chart: JobChart, facts: CurveFacts, kept: _KeptRows
) -> _KeptRows | None:  # fmt: skip
    """Return what is kept with what has come since; None where it has to be read anew."""
    if (kept.seq, kept.attempt) == (job.last_seq, job.attempt):
        return kept
    first = _first_change(session, job, chart, kept.seq)
    if kept.attempt != job.attempt or first is None or first <= kept.last:
        return None
    fresh = rows_of(chart, read_points(session, job, chart, facts, kept.room + 1, kept.last), facts, kept.last)
    room = kept.room - fresh.count("\n")
    text = kept.text + fresh
    return None if room < 0 else _KeptRows(job.last_seq, job.attempt, text, _last_epoch(text), room)


def _first_change(session: Session, job: JobRow, chart: JobChart, seq: int) -> float | None:
    """Return the first epoch that events after *seq* tell of a chart.

    None where that is not known.
    """
    said = events.list_after(session, job.id, seq, _MOST_EVENTS + 1)
    if len(said) != job.last_seq - seq:  # too many, or retention has taken some
        return None
    wanted = {tuple(one.series) for one in chart.extents}
    told = [one.data for one in said if one.type == "metric"]
    steps = [one["step"] for one in told if any((one["role"], name) in wanted for name in one["values"])]
    return min(steps, default=float("inf"))


def _last_epoch(text: str) -> int:
    last = text.rstrip("\n").rpartition("\n")[2]
    return int(last.partition(",")[0]) if last else -(2**63)
