"""Precision-recall curves and confusion matrices on the page of a job, with their numbers as files."""

from __future__ import annotations

import csv
import io
import re

import pytest
from fastapi.testclient import TestClient
from results import RESULT
from retort.db import Lease
from support.api_harness import Worker
from support.curve_filling import curves, publish_curves

HOSTILE = "<b onclick=x>\u202e=1+1 & 50%"


@pytest.fixture
def kept(worker: Worker, lease: Lease) -> str:
    publish_curves(worker, lease, curves(("car", HOSTILE)))
    worker.succeed(lease, RESULT)
    return f"/jobs/{lease.job_id}/evaluation"


def read(client: TestClient, address: str) -> list[dict[str, str]]:
    answer = client.get(address)
    assert answer.status_code == 200, answer.text[:300]
    return list(csv.DictReader(io.StringIO(answer.text)))


def matrix(page: str) -> list[list[int]]:
    body = page.split('class="job-matrix"')[1].split("</table>", maxsplit=1)[0]
    rows = [re.findall(r'<td class="n shade-\d( right)?">(\d+)</td>', row) for row in body.split("<tr>")[2:]]
    return [[int(number) for _, number in row] for row in rows]


def test_every_network_has_a_curve_and_a_class_is_chosen_by_a_link(client: TestClient, kept: str) -> None:
    page = client.get(kept).text
    assert page.count('class="bar curve"') == 3
    assert "The mean over all classes that have labels, on 500 images in rectangle letterbox" in page
    links = re.findall(r'href="(\?[^"]*)#precision"', page)
    assert len(links) == 3
    chosen = client.get(kept + links[2].replace("&amp;", "&")).text
    assert "Class <span" in chosen
    assert "&lt;b onclick=x&gt;\\u202e=1+1 &amp; 50%</span>, 80 labels" in chosen
    assert HOSTILE not in chosen
    assert client.get(f"{kept}?class=unicorn").status_code == 404
    assert client.get(f"{kept}?network=unicorn").status_code == 404


def test_a_matrix_is_a_table_of_labels_by_what_is_seen(client: TestClient, kept: str) -> None:
    document = curves(("car", HOSTILE))
    for network in ("student", "teacher"):
        counts = document.networks[network].confusion.counts
        shown = matrix(client.get(f"{kept}?network={network}").text)
        assert shown == [[row[0], row[1], row[3]] for row in (counts[0], counts[1], counts[3])], network


def test_of_many_classes_the_page_shows_those_that_are_confused_most_and_loses_no_label(
    client: TestClient, worker: Worker, lease: Lease
) -> None:
    document = curves([f"class-{number}" for number in range(30)], num_classes=120)
    publish_curves(worker, lease, document)
    address = f"/jobs/{lease.job_id}/evaluation"
    page = client.get(address).text
    shown = matrix(page)
    assert {len(row) for row in shown} == {22}, "20 classes, the others, and what is not seen"
    assert "100 other classes" in page
    assert "30 of 120 classes that are found worst" in page
    assert sum(map(sum, shown)) == sum(map(sum, document.networks["student"].confusion.counts))


def test_all_numbers_are_files_and_no_name_is_a_formula(client: TestClient, kept: str) -> None:
    document = curves(("car", HOSTILE))
    rows = read(client, f"{kept}/precision.csv")
    assert len(rows) == 3 * 3 * 101
    teacher = [float(row["precision"]) for row in rows if (row["network"], row["class"]) == ("teacher", "car")]
    assert teacher == pytest.approx(document.networks["teacher"].classes[0].precision)
    confused = read(client, f"{kept}/confusion.csv")
    assert sum(int(row["number"]) for row in confused if row["network"] == "control") == sum(
        map(sum, document.networks["control"].confusion.counts)
    )
    assert {row["label"] for row in confused} == {"car", "<b onclick=x>\\u202e=1+1 & 50%", "all others", "no label"}


def test_networks_alone_have_curves_under_their_names_and_jobs_without_any_say_so(
    client: TestClient, worker: Worker, lease: Lease
) -> None:
    address = f"/jobs/{lease.job_id}/evaluation"
    assert 'id="precision"' not in client.get(address).text
    missing = client.get(f"{address}/precision.csv")
    assert (missing.status_code, "has kept no curves" in missing.text) == (404, True)
    publish_curves(worker, lease, curves(("car",), ("weak.pt", "=strong.pt")))
    page = client.get(address).text
    assert ('<g class="series-1">' in page, '<g class="series-2">' in page) == (True, True)
    assert {row["network"] for row in read(client, f"{address}/precision.csv")} == {"weak.pt", "'=strong.pt"}
