"""Jobs beside each other: what the page says of them, and the numbers of all of it as CSV."""

from __future__ import annotations

import base64
import csv
import html
import io
import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from retort.constants import MAP, Role
from retort.db import Database
from retort.db.models import JobRow
from retort.protocol.events import MetricEvent
from retort.settings import Settings
from retort.spec.result import parse_result
from retort.storage import Store
from sqlalchemy import update
from stored_results import VERDICT, stored
from support.api_harness import SPEC, SWEEP, Worker

PICTURE = b"\xff\xd8\xff\xd9"
NAMELESS = "=cmd()"
"""A class whose name a spreadsheet would take for a formula."""


@pytest.fixture
def small_worker(small_settings: Settings) -> Iterator[Worker]:
    database = Database(small_settings.database_url)
    yield Worker(database, Store(small_settings.store_url), small_settings.home)
    database.close()


def ended(client: TestClient, worker: Worker, name: str, student: float, **spec: Any) -> str:
    """Queue a job and end it with this mAP; return its id."""
    job_id: str = client.post("/v1/jobs", json={**SPEC, "name": name, **spec}).json()["id"]
    lease = worker.claim(job_id)
    worker.record(lease, *(
        MetricEvent(n=epoch, at=epoch, role=Role.STUDENT, step=epoch, values={MAP: student * epoch / 3})
        for epoch in (1, 2, 3)
    ))  # fmt: skip
    result = stored(student=student, verdict={**VERDICT, "difference": student - 0.4})
    own = result["roles"]["student"]
    own["last"] = {"map50": 0.1, "map": student - 0.02}
    own["per_class"] = {NAMELESS: {"ap50": student, "ap": student}, "<i>b</i>": {"ap50": 0.5, "ap": 0.5}}
    worker.succeed(lease, parse_result(result))
    return job_id


def rows_of(client: TestClient, query: str) -> list[dict[str, str]]:
    answer = client.get(f"/compare.csv?{query}")
    assert answer.status_code == 200
    return list(csv.DictReader(io.StringIO(answer.text)))


def test_two_jobs_stand_beside_each_other_with_what_differs_and_all_numbers_as_csv(
    small_client: TestClient, small_worker: Worker
):
    one = ended(small_client, small_worker, "one", 0.45, training={"batch": 8})
    two = ended(small_client, small_worker, "two", 0.52, training={"batch": 16})
    query = f"job={one}&job={two}"

    page = small_client.get(f"/compare?{query}").text

    for part in (
        "training.batch",
        "★</span> 52.0",
        "43.0",
        "+7.0",
        "&lt;i&gt;b&lt;/i&gt;",
        "+12.0 (\N{MINUS SIGN}1.0 to +11.0)",
    ):
        assert part in page, part
    gains = page.partition('id="gains"')[2].partition("</section>")[0]
    assert re.findall(r"one: \+5\.0 \(.{4} to \+11\.0\), no difference shown", gains)
    assert 'class="series-2"><title>' in gains
    assert "training.epochs" not in page, "fields that are the same are not shown"
    assert "<i>b</i>" not in page
    assert page.index("&lt;i&gt;b") > page.index("=cmd()"), "the largest difference comes first"
    rows = rows_of(small_client, query)
    of_two = {(row["part"], row["what"], row["epoch"]): row["value"] for row in rows if row["job"] == two}
    assert float(of_two["figure", "mAP50-95, last epoch", ""]) == pytest.approx(0.5)
    assert float(of_two["curve", MAP, "3"]) == pytest.approx(0.52)
    assert of_two["field", "training.batch", ""] == "16"
    assert float(of_two["class", f"'{NAMELESS}", ""]) == 0.52, "no cell is a formula"


@pytest.mark.parametrize(
    ("p90", "device", "said"),
    [(9.5, "cpu", ""), (40.0, "cpu", "the machine was busy"), (9.5, "an H200", "timed on different devices")],
)
def test_the_lowest_latency_is_starred_only_where_latencies_can_be_compared(
    small_client: TestClient, small_worker: Worker, p90: float, device: str, said: str
):
    ids = []
    for name, p50 in (("one", 8.25), ("two", 7.0)):
        job_id: str = small_client.post("/v1/jobs", json={**SPEC, "name": name}).json()["id"]
        found = stored()
        speed = {"latency_ms": {"p50": p50, "p90": p90}, "device": device}
        found["roles"]["student"] |= speed if name == "two" else {}
        small_worker.succeed(small_worker.claim(job_id), parse_result(found))
        ids.append(job_id)

    page = small_client.get(f"/compare?job={ids[0]}&job={ids[1]}").text

    row = re.search(r"<th scope=\"row\">Latency.*?</tr>", page, re.DOTALL)
    assert row is not None
    assert ("★" in row[0], "do not compare" in row[0], said in row[0]) == (not said, bool(said), True)


def test_one_job_or_none_lets_people_choose_and_too_many_are_refused(small_client: TestClient, small_worker: Worker):
    ids = [ended(small_client, small_worker, f"job-{place}", 0.3) for place in range(7)]
    chosen = small_client.get(f"/compare?job={ids[0]}").text
    assert f'value="{ids[0]}" aria-label="Compare job-0" checked' in chosen
    assert small_client.get("/compare?" + "&".join(f"job={one}" for one in ids[:6])).status_code == 200
    accept = {"Accept": "text/html"}
    for wrong, status in (
        ("&".join(f"job={one}" for one in ids), 422), (f"job={ids[0]}&job=job_{'0' * 32}", 404), ("job=x", 422),
        (f"job={ids[0]}&job={ids[1]}&metric=none", 422), (f"sweep=swp_{'0' * 32}", 404), ("colour=red", 422),
    ):  # fmt: skip
        assert small_client.get(f"/compare?{wrong}", headers=accept).status_code == status, wrong


def test_a_sweep_shows_its_best_trials_and_all_of_them_along_the_axes_of_its_parameters(
    small_client: TestClient, small_worker: Worker
):
    sweep_id = small_client.post("/v1/sweeps", json=SWEEP).json()["id"]
    assert "No trial of this sweep has succeeded yet" in small_client.get(f"/compare?sweep={sweep_id}").text
    small_worker.try_all(sweep_id, lambda one: 1 / one["distillation.losses.0.temperature"])

    page = small_client.get(f"/compare?sweep={sweep_id}").text

    assert page.count('class="trial shade-') == 6
    assert "distillation.losses.0.temperature" in page
    ids = {row["job"] for row in rows_of(small_client, f"sweep={sweep_id}")}
    assert len(ids) == 6
    with small_worker.database.begin() as session:  # as retention does
        session.execute(update(JobRow).where(JobRow.id == min(ids)).values(purged_at=1.0))
    assert {row["job"] for row in rows_of(small_client, f"sweep={sweep_id}")} == ids - {min(ids)}


def test_jobs_without_a_result_are_compared_by_what_they_have_reached(small_client: TestClient, small_worker: Worker):
    ids = [small_client.post("/v1/jobs", json={**SPEC, "name": name}).json()["id"] for name in ("a", "b")]
    page = small_client.get(f"/compare?job={ids[0]}&job={ids[1]}")
    assert page.status_code == 200
    assert "None of these jobs has this curve" in page.text
    lease = small_worker.claim(ids[1])
    small_worker.record(lease, MetricEvent(n=1, at=0, role=Role.STUDENT, step=1, values={MAP: 0.25}))
    assert "25.0" in small_client.get(f"/compare?job={ids[0]}&job={ids[1]}").text


def test_jobs_measured_on_other_images_are_not_taken_for_comparable(small_client: TestClient, small_worker: Worker):
    one = ended(small_client, small_worker, "one", 0.45)
    other = small_client.post("/v1/jobs", json=SPEC).json()["id"]
    result = stored()
    result["dataset"]["digest"] = "e" * 64
    small_worker.succeed(small_worker.claim(other), parse_result(result))
    assert "different images" in small_client.get(f"/compare?job={one}&job={other}").text


def test_the_same_images_stand_side_by_side_where_the_reports_of_several_jobs_have_them(
    small_client: TestClient, small_worker: Worker
):
    ids = []
    for name, files in (("one", ("a.jpg", "<b>.jpg")), ("two", ("<b>.jpg", "c.jpg")), ("none", ())):
        job_id = small_client.post("/v1/jobs", json={**SPEC, "name": name}).json()["id"]
        lease = small_worker.claim(job_id)
        if files:
            small_worker.publish(lease, "report.html", report_with(files), media_type="text/html")
        small_worker.succeed(lease, parse_result(stored()))
        ids.append(job_id)
    page = small_client.get("/compare/images?" + "&".join(f"job={one}" for one in ids)).text
    assert re.findall(r"<h3 class=\"wrap\">(.*?)</h3>", page) == ["&lt;b&gt;.jpg"]
    shown = re.findall(r'<img src="(/jobs/[^"]+)"', page)
    assert [address.split("/")[2] for address in shown] == [ids[0], ids[0], ids[1]], "the truth, and two students"
    for address in shown:
        assert small_client.get(address).headers["Content-Type"] == "image/jpeg"
    assert "No image stands in" in small_client.get(f"/compare/images?job={ids[0]}&job={ids[2]}").text


def report_with(files: tuple[str, ...]) -> bytes:
    """Return a report with the pictures of these images."""
    uri = f"data:image/jpeg;base64,{base64.b64encode(PICTURE).decode()}"
    parts = [
        f'<p class="file">{html.escape(file)}</p>'
        + "".join(
            f'<img src="{uri}" alt="{html.escape(file)}: {title}, 2 boxes">'
            for title in ("ground truth", "teacher", "control", "student")
        )
        for file in files
    ]
    return f"<h2>Samples</h2><h3>Spread</h3>{''.join(parts)}".encode()
