"""What a page costs does not grow with what lies behind it: statements, the database's steps, and bytes are counted."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from retort.constants import MAP, Role
from retort.db import Database, Lease, audit, jobs, trash
from retort.db.audit import Act
from retort.db.models import EventRow, MetricRow
from retort.db.session import add
from retort.protocol.events import MetricEvent
from retort.settings import Settings
from retort.spec import parse_spec
from retort.storage import Store
from retort_api.app import create_app
from retort_api.pages import job_log
from support.api_harness import LOCAL, SPEC, Worker
from support.identity import HEADERS
from support.job_pages import submitted
from support.sqlite_work import SqliteWork, counted

TAUGHT = "teacher/mAP50-95"
CURVES = [
    *((Role.STUDENT, name) for name in (MAP, "train/loss", "train/box_loss", "train/kd_loss", "health/kl_all", TAUGHT)),
    *((Role.CONTROL, name) for name in (MAP, "train/loss")),
]
FEW, MANY = 2_000, 11_000
SLACK = 200
"""Steps: the counter counts by fifties, and pages with few rows differ by some."""


@pytest.fixture(scope="module")
def hands(own_settings: Settings, home: Path) -> Iterator[Worker]:
    database = Database(own_settings.database_url)
    yield Worker(database, Store(own_settings.store_url), home)
    database.close()


def value(role: Role, name: str, step: int) -> float:
    """A curve with one lowest and one highest value, apart from its ends."""
    if name == TAUGHT:
        return 0.9
    return {777: 5.0 if role is Role.STUDENT else 0.1, 1234: -5.0}.get(step, 0.2 + 1e-6 * step)


def measure(worker: Worker, job_id: str, steps: Sequence[int], *, attempt: int = 1, **changed: float) -> None:
    """Write points as if a run had measured them."""
    for first in range(0, len(steps), 5_000):
        rows = [
            {"job_id": job_id, "role": role.value, "name": name, "step": step, "attempt": attempt,
             "value": changed.get("value", value(role, name, step)), "at": float(step)}
            for step in steps[first : first + 5_000]
            for role, name in CURVES
        ]  # fmt: skip
        with worker.database.begin() as session:
            add(session, MetricRow, rows)


@pytest.fixture(scope="module")
def measured(hands: Worker) -> dict[int, Lease]:
    """Jobs that run, by the number of points of each of their curves."""
    made = {}
    for number in (FEW, MANY):
        made[number] = hands.claim(submitted(hands, f"of-{number}"))
        measure(hands, made[number].job_id, range(1, number + 1))
    return made


def ask(client: TestClient, path: str) -> tuple[SqliteWork, str]:
    """Ask for a page; return what it cost, and the page.

    What is asked once a process, or now and then for all pages (where the queue stands), is not counted.
    """
    client.get(path)
    app: Any = client.app
    found = []
    for _ in range(3):
        with counted(app.state.service.database.engine) as work:
            answer = client.get(path)
        assert answer.status_code == 200, answer.text
        found.append((work, answer.text))
    return min(found, key=lambda one: (one[0].statements, one[0].steps))


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("tab", ["", "/charts", "/health", "/log"])
def test_a_jobs_page_asks_as_much_however_many_points_its_curves_have(
    people: TestClient, measured: dict[int, Lease], tab: str
):
    (few, small), (many, large) = (ask(people, f"/jobs/{lease.job_id}{tab}") for lease in measured.values())
    assert many.statements == few.statements > 0
    assert 0 < many.steps <= 1.2 * few.steps + SLACK
    assert len(large) <= 1.1 * len(small)


@pytest.mark.parametrize("chart", ["map", "gap", "task", "pace"])
def test_what_a_chart_asks_for_after_an_event_is_what_is_new(
    people: TestClient, measured: dict[int, Lease], chart: str
):
    costs = []
    for number, lease in measured.items():
        work, text = ask(people, f"/jobs/{lease.job_id}/charts/{chart}.csv?points=1000&after={number - 2}")
        assert [row["epoch"] for row in rows_of(text)] == [str(number - 1), str(number)]
        costs.append(work)
    few, many = costs
    assert many.statements == few.statements > 0
    assert 0 < many.steps <= 1.2 * few.steps + SLACK


def share(row: dict[str, str]) -> float:
    """The share of the gap, worked out by hand."""
    return 100 * (float(row["student"]) - float(row["control"])) / (0.9 - float(row["control"]))


@pytest.mark.parametrize("chart", ["map", "gap"])
def test_a_thinned_chart_has_the_extremes_of_the_whole_file_and_its_last_epochs(
    people: TestClient, measured: dict[int, Lease], chart: str
):
    path, column = (
        f"/jobs/{measured[MANY].job_id}/charts/{chart}.csv",
        {"map": "student"}.get(chart, "share of the gap"),
    )
    whole, thin = (rows_of(people.get(path + query).text) for query in ("", "?points=1000"))
    assert [int(row["epoch"]) for row in whole] == list(range(1, MANY + 1)), "the file is complete"
    assert len(thin) <= 1000
    assert thin[-200:] == whole[-200:]
    values, kept = ([float(row[column]) for row in rows] for rows in (whole, thin))
    assert (min(values), max(values)) == (min(kept), max(kept))
    if chart == "gap":
        both = rows_of(people.get(f"/jobs/{measured[MANY].job_id}/charts/map.csv").text)
        assert values == pytest.approx([share(row) for row in both], rel=1e-3, abs=1e-3)


def test_epochs_that_a_resumed_run_measures_again_replace_what_stood_there(people: TestClient, hands: Worker):
    job_id = hands.claim(submitted(hands, "resumed")).job_id
    measure(hands, job_id, range(1, 3_001))
    measure(hands, job_id, range(1_101, 1_501), attempt=2, value=0.5)
    with hands.database.begin() as session:
        session.connection().exec_driver_sql("UPDATE jobs SET attempt = 2 WHERE id = ?", (job_id,))
    path = f"/jobs/{job_id}/charts/map.csv"
    whole = rows_of(people.get(path).text)
    assert [int(row["epoch"]) for row in whole] == list(range(1, 3_001)), "none twice, none left out"
    assert {row["student"] for row in whole[1_100:1_500]} == {"0.5"}
    for text in (people.get(f"{path}?points=1000").text, people.get(f"{path}?points=1000&after=1300").text):
        assert min(float(row["student"]) for row in rows_of(text)) > 0, "the lowest value was measured again"
    (few,) = [rows_of(people.get(f"{path}?points=10&after={after}").text) for after in (2_995,)]
    assert few == whole[2_995:]


def test_a_chart_that_is_kept_is_what_would_be_read_anew_whoever_has_recorded_since(
    people: TestClient, hands: Worker, own_settings: Settings
):
    lease = hands.claim(submitted(hands, "kept"))
    said = iter(range(1, 10_000))

    def record(step: int, score: float, role: Role = Role.STUDENT) -> None:
        values: dict[str, float | None] = {MAP: score, TAUGHT: 0.9, "train/loss": 1.0}
        hands.record(lease, MetricEvent(n=next(said), at=float(step), role=role, step=step, values=values))

    def differs() -> dict[str, list[str]]:
        """Charts of which two processes show other lowest, highest or latest values than the whole file has."""
        wrong = {}
        for chart in ("map", "gap", "task"):
            path = f"/jobs/{lease.job_id}/charts/{chart}.csv"
            whole = rows_of(people.get(path).text)
            for client in (people, other):
                thin = rows_of(client.get(f"{path}?points=100").text)
                columns = [[[row[name] for row in rows if row[name]] for name in whole[0]] for rows in (whole, thin)]
                ends = [[(min(c, key=float), max(c, key=float), c[-1]) for c in cs[2:]] for cs in columns]
                if ends[0] != ends[1] or len({row["epoch"] for row in thin}) != len(thin):
                    wrong[chart] = [str(ends), str(len(thin))]
        return wrong

    for step in range(1, 301):
        record(step, 0.001 * step)
    with TestClient(create_app(own_settings), base_url=LOCAL, headers=HEADERS, follow_redirects=False) as other:
        for step in range(1, 4):
            record(step, 0.1, Role.CONTROL)
        assert differs() == {}
        for step, score in ((301, 0.7), (302, 0.0), (150, 8.0), (303, 0.2), (150, 0.15), (302, 0.3)):
            record(step, score)
            assert differs() == {}, (step, score)
        record(4, 0.05, Role.CONTROL)
        assert differs() == {}


def test_a_chart_that_was_looked_at_costs_what_has_come_since(people: TestClient, measured: dict[int, Lease]):
    costs = [
        ask(people, f"/jobs/{lease.job_id}/charts/{chart}.csv?points=1000")[0]
        for chart in ("map", "gap")
        for lease in measured.values()
    ]
    assert max(one.steps for one in costs) < 2_000


def test_the_table_of_a_chart_has_values_of_its_file(people: TestClient, measured: dict[int, Lease]):
    job_id = measured[MANY].job_id
    page = people.get(f"/jobs/{job_id}/charts").text
    for name, title in (("map", "mAP50-95"), ("gap", "Share of the gap"), ("pace", "Training speed")):
        table = page.split(f'id="numbers-{name}"')[1].split("</table>")[0]
        assert title in table
        steps = re.findall(r'<th scope="row" class="n">(\d+)</th><td class="n">([^<]+)</td>', table)
        whole = {
            row["epoch"]: list(row.values())[2] for row in rows_of(people.get(f"/jobs/{job_id}/charts/{name}.csv").text)
        }
        assert len(steps) >= 11
        for step, shown in steps:
            assert float(shown.replace("\u2212", "-")) == pytest.approx(float(whole[step]), rel=1e-3), (name, step)


def say(worker: Worker, name: str, number: int) -> str:
    """A job that has written so many lines, with one warning at the beginning."""
    job_id = hands_of(worker, name)
    about = {"job_id": job_id, "attempt": 1, "n": None, "type": "log", "data": {}, "at": 1.0}
    rows = [{**about, "seq": 100 + at, "level": "info", "message": f"line {at}"} for at in range(1, number + 1)]
    rows[0] |= {"level": "warning", "message": "the needle"}
    with worker.database.begin() as session:
        add(session, EventRow, rows)
        session.connection().exec_driver_sql("UPDATE jobs SET last_seq = ? WHERE id = ?", (100 + number, job_id))
    return job_id


def hands_of(worker: Worker, name: str) -> str:
    return worker.claim(submitted(worker, name)).job_id


def test_a_long_log_costs_a_page_and_a_search_looks_back_a_bounded_way(
    people: TestClient, hands: Worker, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(job_log, "REACH", 1_000)
    written = [say(hands, f"says-{number}", number) for number in (2_000, 8_000)]
    for path in ("", "/log", "/log?kind=all", "/log?q=nothing", "/log?level=error", "/charts"):
        (few, small), (many, large) = (ask(people, f"/jobs/{job_id}{path}") for job_id in written)
        assert many.statements == few.statements
        assert many.steps <= 1.1 * few.steps + SLACK, path
        assert len(large) <= 1.1 * len(small) + 100, path
    assert "the needle" in people.get(f"/jobs/{written[1]}").text, "the warning stands on the page however old it is"
    path, turned = f"/jobs/{written[1]}/log?q=needle", 0
    while 'class="job-line">the needle' not in (page := people.get(path).text):
        [path] = re.findall(r'<a href="([^"]*)">Look further back', page)
        path, turned = path.replace("&amp;", "&"), turned + 1
    assert turned == 7


LISTS = (
    "/", "/?label=n%3D3&order=name", "/?q=nothing", "/?state=queued", "/workers", "/workers?live=true", "/data",
    "/models", "/compare", "/new", "/settings/trash", "/settings/audit", "/settings/audit?owner=nobody",
)  # fmt: skip
PER_ROW = 40
"""Steps of SQLite's machine for each further job, where a page counts or searches all of them: some microseconds."""


def grow(worker: Worker, number: int) -> None:
    """Queue so many jobs, move a fourth of them to the trash, and enter as much into the audit log."""
    spec = parse_spec({**SPEC, "name": "many"})
    act = Act(project="default", owner="ann", key_id="k", action="create_job")
    with worker.database.begin() as session:
        wanted = [jobs.Submission(spec=spec, retries=0, labels={"n": str(at % 7)}) for at in range(number)]
        made = [one.job_id for one in jobs.submit_all(session, wanted, now=1) if isinstance(one, jobs.SubmittedJob)]
        for job_id in made[::4]:
            jobs.cancel(session, job_id, now=2, actor="client")
        trash.move_jobs(session, made[::4], now=3)
        audit.write_all(session, [(act, "x")] * number, now=1)


def test_lists_ask_as_often_and_weigh_as_much_however_many_jobs_there_are(people: TestClient, hands: Worker):
    grow(hands, 400)
    few = {path: ask(people, path) for path in LISTS}
    grow(hands, 1_200)
    for path, (before, small) in few.items():
        after, large = ask(people, path)
        assert after.statements == before.statements > 0, path
        assert after.steps <= before.steps + 1_200 * PER_ROW, path
        assert len(large) <= 1.3 * len(small), path
