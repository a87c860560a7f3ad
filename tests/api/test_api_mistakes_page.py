"""The page of a job's mistakes: by class and size, worst first, and honest where nothing is kept."""

from __future__ import annotations

import re

import pytest
from fastapi.testclient import TestClient
from results import RESULT
from retort.db import Lease
from support.api_harness import SPEC, Worker
from support.mistake_filling import publish_mistakes

HOSTILE = "<b onclick=x>\u202eblue"


def files_on(client: TestClient, address: str) -> list[str]:
    answer = client.get(address)
    assert answer.status_code == 200
    return re.findall(r'alt="(street-\d+.png):', answer.text)


@pytest.fixture
def kept(worker: Worker, lease: Lease) -> str:
    publish_mistakes(worker, lease, ("red", HOSTILE))
    return f"/jobs/{lease.job_id}/mistakes"


def test_the_worst_images_come_first_and_are_narrowed_by_kind_class_and_size(client: TestClient, kept: str) -> None:
    whole = files_on(client, kept)
    assert whole == [f"street-{number:03d}.png" for number in range(15, 3, -1)], "the most certain wrong box first"
    assert files_on(client, f"{kept}?page=2") == [f"street-{number:03d}.png" for number in range(3, -1, -1)]
    assert len(files_on(client, f"{kept}?kind=missed&class=red")) == 8
    assert files_on(client, f"{kept}?kind=missed&size=large") == []
    assert files_on(client, f"{kept}?kind=wrong&class=red")[0] == "street-015.png"


def test_counts_of_every_network_stand_there_and_names_are_text(client: TestClient, kept: str) -> None:
    page = client.get(kept).text
    assert "16 validation images; the student is wrong or misses something on 16 of them" in page
    for network, counts in (("student", (16, 16, 16)), ("control", (0, 16, 32)), ("teacher", (32, 0, 0))):
        cells = "".join(f'<td class="n">{number}</td>' for number in counts)
        assert f"</span>{network}</th>{cells}</tr>" in page
    assert HOSTILE not in page
    assert "&lt;b onclick=x&gt;\\u202eblue" in page


def test_a_job_that_keeps_no_mistakes_says_so_and_shows_what_there_is(
    client: TestClient, worker: Worker, lease: Lease
) -> None:
    page = f"/jobs/{lease.job_id}/mistakes"
    assert "There are no mistakes yet" in client.get(page).text
    worker.succeed(lease, RESULT)
    told = client.get(page).text
    assert "This job has kept no mistakes" in told
    assert '<td class="n">45.0</td>' in told
    assert f'href="{page}"' in client.get(f"/jobs/{lease.job_id}").text
    assert client.get(f"/jobs/job_{'0' * 32}/mistakes").status_code == 404
    assert client.get(f"{page}?sort=worst").status_code == 422
    other = client.post("/v1/jobs", json=SPEC).json()["id"]
    assert "queued" in client.get(f"/jobs/{other}/mistakes").text


def test_networks_alone_have_their_mistakes_under_their_names(client: TestClient, worker: Worker, lease: Lease) -> None:
    publish_mistakes(worker, lease, ("red", "blue"), networks=("<i>weak.pt", "b.pt", "c.pt"))
    page = client.get(f"/jobs/{lease.job_id}/mistakes").text
    assert "&lt;i&gt;weak.pt is wrong or misses something on 16 of them" in page
    assert "&lt;i&gt;weak.pt by class, the worst first" in page
    assert re.findall(r"</span>([^<]*)</th><td", page)[:3] == ["&lt;i&gt;weak.pt", "b.pt", "c.pt"]
    assert "student" not in page.split("<h1>")[1].lower()
