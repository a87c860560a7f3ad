"""Curves have every step once, however many attempts measured it."""

from __future__ import annotations

import pytest
from retort.constants import Role
from retort.db import Lease, events, metrics, transitions
from retort.protocol.events import MetricEvent, RunFailure
from sqlalchemy import Connection, event
from support.db_harness import T0, Shop


def measure(shop: Shop, lease: Lease, steps: range, value: float, *, role: Role = Role.STUDENT) -> None:
    said = [
        MetricEvent(
            n=100 * list(Role).index(role) + step, at=T0, role=role, step=step, values={"a": value, "b": -value}
        )
        for step in steps
    ]
    with shop.database.begin() as session:
        events.record(session, lease, said, now=T0, lease_s=30, journal_offset=1)


@pytest.fixture
def job_id(shop: Shop, retryable: RunFailure) -> str:
    """Three attempts at the same job: steps 1 to 6, then from the checkpoint 4 to 8, then 8 to 10."""
    job_id = shop.queued()
    for number, steps in enumerate((range(1, 7), range(4, 9), range(8, 11))):
        lease = shop.claimed(job_id, now=T0 + 100 * number)
        measure(shop, lease, steps, number + 1.0)
        with shop.database.begin() as session:
            transitions.fail(session, lease, now=T0, failure=retryable, exit_code=1)
    return job_id


def test_the_latest_attempts_value_counts_and_no_step_is_missing_or_doubled(shop: Shop, job_id: str):
    with shop.database.read() as session:
        a, b = metrics.series(session, job_id)
    assert (a.role, a.name, b.name) == ("student", "a", "b")
    assert [point.step for point in a.points] == [point.step for point in b.points] == list(range(1, 11))
    assert [point.value for point in a.points] == [1, 1, 1, 2, 2, 2, 2, 3, 3, 3]
    assert [point.attempt for point in a.points] == [1, 1, 1, 2, 2, 2, 2, 3, 3, 3]


def test_curves_are_chosen_by_role_and_name_and_read_on_from_a_step(shop: Shop, job_id: str):
    lease = shop.claimed(job_id, now=T0 + 300)
    measure(shop, lease, range(1, 3), 9.0, role=Role.CONTROL)
    with shop.database.read() as session:
        (control,) = metrics.series(session, job_id, role="control", name="a")
        assert [point.value for point in control.points] == [9, 9]
        assert [(s.role, s.name) for s in metrics.series(session, job_id, name="b")] == [
            ("control", "b"),
            ("student", "b"),
        ]
        first = metrics.series(session, job_id, role="student", limit=4)
        assert [[point.step for point in series.points] for series in first] == [[1, 2, 3, 4]] * 2
        following = metrics.series(session, job_id, role="student", name="a", after_step=4, limit=4)
        assert [point.step for point in following[0].points] == [5, 6, 7, 8]
        assert metrics.series(session, job_id, after_step=10) == []
        assert metrics.series(session, "job_0") == []


def test_the_curves_come_by_one_statement(shop: Shop, job_id: str):
    seen: list[str] = []

    def note(_c: Connection, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    with shop.database.read() as session:
        event.listen(shop.database.engine, "before_cursor_execute", note)
        metrics.series(session, job_id)
        event.remove(shop.database.engine, "before_cursor_execute", note)
    assert [statement.split()[0] for statement in seen if statement != "BEGIN"] == ["SELECT"]


def test_a_step_that_one_attempt_measured_twice_keeps_the_later_value(shop: Shop):
    lease = shop.running()
    for batch in ([(1, 0.1), (2, 0.2)], [(3, 0.3)]):
        said = [MetricEvent(n=n, at=T0, role=Role.JOB, step=0, values={"a": value}) for n, value in batch]
        with shop.database.begin() as session:
            events.record(session, lease, said, now=T0, lease_s=30, journal_offset=1)
    with shop.database.read() as session:
        (series,) = metrics.series(session, lease.job_id)
    assert [point.value for point in series.points] == [0.3]


def test_a_value_that_was_not_finite_is_a_point_without_value(shop: Shop):
    lease = shop.running()
    said = [MetricEvent(n=1, at=T0, role=Role.STUDENT, step=1, values={"a": None})]
    with shop.database.begin() as session:
        events.record(session, lease, said, now=T0, lease_s=30, journal_offset=1)
    with shop.database.read() as session:
        assert metrics.series(session, lease.job_id)[0].points == (metrics.MetricPoint(1, None, T0, 1),)


def test_the_extents_of_curves_are_found_curve_by_curve(shop: Shop, job_id: str):
    lease = shop.claimed(job_id, now=T0 + 300)
    measure(shop, lease, range(3, 5), 9.0, role=Role.CONTROL)
    with shop.database.read() as session:
        found = [(*one.series, one.first, one.last) for one in metrics.extents(session, job_id)]
        assert metrics.extents(session, "job_0") == []
        nearest = metrics.steps_from(session, job_id, metrics.SeriesName("control", "a"), [0, 4, 5])
    assert found == [("control", "a", 3, 4), ("control", "b", 3, 4), ("student", "a", 1, 10), ("student", "b", 1, 10)]
    assert nearest == [3, 4, None]


@pytest.mark.parametrize("most", [10_000, 16])
def test_the_share_of_the_gap_is_worked_out_of_what_was_measured_last(shop: Shop, job_id: str, most: int):
    lease = shop.claimed(job_id, now=T0 + 300)
    measure(shop, lease, range(2, 101), 4.0, role=Role.STUDENT)
    measure(shop, lease, range(1, 91), 2.0, role=Role.CONTROL)
    with shop.database.read() as session:
        student = next(one for one in metrics.extents(session, job_id) if one.series == ("student", "a"))
        points = metrics.thinned_share(session, job_id, student, 6.0, most=most, attempts=4)
    assert len(points) == 90 if most > 100 else len(points) <= most
    assert [point.step for point in points] == sorted({point.step for point in points})
    shares = [point.value for point in points]
    assert (min(shares), max(shares)) == (-25.0, 50.0), "1 beside 2 at the first epoch, then 4 beside 2"
