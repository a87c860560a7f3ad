"""A review over HTTP: looking, deciding, files for other tools, and the end."""

from __future__ import annotations

import html
import io
import json
import re
import zipfile
from typing import Any

import pytest
from fastapi.testclient import TestClient
from retort.db import Database, Lease, transitions
from retort.db.session import database_now
from retort.review.formats import FORMS
from retort.states import JobState
from support.api_harness import SPEC, Worker

OCTETS = {"Content-Type": "application/octet-stream"}

CLASSES = ["RBC", "WBC"]


def box(name: str, *corners: float, score: float | None = None) -> dict[str, Any]:
    found = dict(zip(("x1", "y1", "x2", "y2"), corners, strict=True), name=name)
    return found if score is None else {**found, "score": score}


def picture(image: str, *boxes: dict[str, Any]) -> dict[str, Any]:
    return {
        "image": image, "file": f"new/{image}.png", "width": 200, "height": 100, "kept": boxes, "left_out": None,
        "doubtful": [box("WBC", 0.7, 0.7, 0.9, 0.9, score=0.4)], "like": None,
    }  # fmt: skip


PROPOSALS = {
    "mode": "sample",
    "classes": CLASSES,
    "pictures": [
        picture("a", box("RBC", 0.1, 0.2, 0.3, 0.4, score=0.9), box("WBC", 0.5, 0.5, 0.7, 0.9, score=0.85)),
        picture("b", box("RBC", 0.2, 0.2, 0.4, 0.4, score=0.95)),
        picture("c.1"),
    ],
}


@pytest.fixture
def waiting(worker: Worker, lease: Lease, database: Database) -> str:
    """A job that waits for its review."""
    worker.publish(lease, "review.json", json.dumps(PROPOSALS).encode(), media_type="application/json")
    worker.publish(lease, "review/a.jpg", b"\xff\xd8picture", media_type="image/jpeg")
    with database.begin() as session:
        state = transitions.await_review(session, lease, now=database_now(session), exit_code=3)
    assert state is JobState.AWAITING_REVIEW
    return lease.job_id


def decide(client: TestClient, job_id: str, image: str, **decision: Any) -> tuple[int, Any]:
    answer = client.put(f"/v1/jobs/{job_id}/review/images/{image}", json=decision)
    return answer.status_code, answer.json()


def images(client: TestClient, job_id: str, **query: Any) -> dict[str, Any]:
    answer = client.get(f"/v1/jobs/{job_id}/review/images", params=query)
    assert answer.status_code == 200
    return {found["image"]: found for found in answer.json()["data"]}


def test_a_job_that_waits_says_so_and_shows_what_is_to_be_looked_at(client: TestClient, waiting: str) -> None:
    job = client.get(f"/v1/jobs/{waiting}")
    assert (job.json()["state"], job.headers["Retry-After"]) == ("awaiting_review", "30")
    assert [row["reason"] for row in job.json()["transitions"]][-1] == "review"
    review = client.get(job.json()["links"]["review"]).json()
    assert (review["num_images"], review["num_boxes"], review["num_open"], review["open"]) == (
        3,
        3,
        3,
        ["a", "b", "c.1"],
    )
    assert (review["state"], review["mode"], review["classes"]) == ("awaiting_review", "sample", CLASSES)
    assert f'href="/jobs/{waiting}/review"' in client.get(f"/jobs/{waiting}").text
    first = images(client, waiting)["a"]
    assert first["boxes"] == list(PROPOSALS["pictures"][0]["kept"])
    assert first["doubtful"][0]["score"] == 0.4
    assert first["decision"] is None
    assert client.get(first["links"]["picture"]).content == b"\xff\xd8picture"


def test_names_on_the_page_are_text_and_reach_its_script_whole(
    client: TestClient, worker: Worker, lease: Lease, database: Database
) -> None:
    hostile = "<img src=x onerror='hit()'>\"&\u202e"
    shown = {**picture("a", box(hostile, 0.1, 0.2, 0.3, 0.4, score=0.9)), "file": f"{hostile}.png"}
    listed = {"mode": "all", "classes": [hostile], "pictures": [shown]}
    worker.publish(lease, "review.json", json.dumps(listed).encode(), media_type="application/json")
    with database.begin() as session:
        transitions.await_review(session, lease, now=database_now(session), exit_code=3)
    page = client.get(f"/jobs/{lease.job_id}/review").text
    assert "<img src=x" not in page
    assert "\u202e" not in page
    (told,) = re.findall(r'data-classes="([^"]*)"', page)
    assert json.loads(html.unescape(told)) == [hostile]


def test_images_come_in_pages_and_may_be_narrowed_to_open_ones(client: TestClient, waiting: str) -> None:
    decide(client, waiting, "b", decision="accept")
    page = client.get(f"/v1/jobs/{waiting}/review/images?limit=2")
    assert (page.json()["next_cursor"], page.json()["has_more"]) == ("b", True)
    rest = client.get(page.links["next"]["url"]).json()
    assert ([found["image"] for found in rest["data"]], rest["next_cursor"]) == (["c.1"], None)
    assert list(images(client, waiting, decided=False)) == ["a", "c.1"]
    assert list(images(client, waiting, decided=True)) == ["b"]
    narrowed = client.get(f"/v1/jobs/{waiting}/review/images?limit=1&decided=false")
    assert [one["image"] for one in client.get(narrowed.links["next"]["url"]).json()["data"]] == ["c.1"]


def test_the_last_decision_about_an_image_counts(client: TestClient, waiting: str) -> None:
    assert decide(client, waiting, "a", decision="reject")[0] == 200
    drawn = [box("WBC", 0, 0, 0.5, 0.1234567)]
    status, shown = decide(client, waiting, "a", decision="edit", boxes=drawn, reviewer="ann@lab")
    assert status == 200
    assert shown == images(client, waiting)["a"]
    assert shown["decision"]["boxes"] == [box("WBC", 0, 0, 0.5, 0.123457)]
    assert (shown["decision"]["decision"], shown["decision"]["reviewer"]) == ("edit", "ann@lab")
    review = client.get(f"/v1/jobs/{waiting}/review").json()
    assert [review[f"num_{what}"] for what in ("accepted", "rejected", "edited", "open")] == [0, 0, 1, 2]


def seen(version: str) -> dict[str, str]:
    return {"If-Match": f'"{version}"'}


def test_a_decision_about_what_has_changed_since_is_refused_and_the_other_stands(
    client: TestClient, waiting: str
) -> None:
    address = f"/v1/jobs/{waiting}/review/images/a"
    before = client.get(address)
    assert (before.json()["version"], before.headers["ETag"]) == ("open", '"open"')
    anns = client.put(address, json={"decision": "reject", "reviewer": "ann"}, headers=seen("open"))
    assert (anns.status_code, anns.headers["ETag"]) == (200, f'"{anns.json()["version"]}"')
    late = [
        client.put(address, json={"decision": "accept", "reviewer": "bob"}, headers=seen("open")),
        client.delete(address, headers=seen("open")),
    ]
    assert [(one.status_code, one.json()["code"]) for one in late] == [(412, "version_conflict")] * 2
    assert "ann has decided: reject" in late[0].json()["detail"]
    assert client.get(address).json() == anns.json() == images(client, waiting)["a"]
    bobs = client.put(address, json={"decision": "accept", "reviewer": "bob"}, headers=seen(anns.json()["version"]))
    assert (bobs.status_code, bobs.json()["decision"]["reviewer"]) == (200, "bob")
    assert bobs.json()["version"] not in {"open", anns.json()["version"]}


def test_a_decision_that_is_withdrawn_leaves_the_image_open(client: TestClient, waiting: str) -> None:
    decide(client, waiting, "b", decision="reject")
    address = f"/v1/jobs/{waiting}/review/images/b"
    opened = client.delete(address, headers=seen(client.get(address).json()["version"]))
    assert (opened.status_code, opened.json()["version"], opened.json()["decision"]) == (200, "open", None)
    assert client.delete(address).status_code == 200, "again is harmless"
    assert client.get(f"/v1/jobs/{waiting}/review").json()["num_open"] == 3
    client.post(f"/v1/jobs/{waiting}/review/complete", json={"rest": "accept"})
    assert client.delete(address).json()["code"] == "wrong_state"


def test_what_others_have_decided_since_is_told(client: TestClient, waiting: str) -> None:
    decide(client, waiting, "a", decision="accept")
    first = images(client, waiting)["a"]["decision"]["at"]
    decide(client, waiting, "c.1", decision="reject")
    last = images(client, waiting)["c.1"]["decision"]["at"]
    assert list(images(client, waiting, decided_since=first)) == ["a", "c.1"]
    assert list(images(client, waiting, decided_since=last)) == ["c.1"]
    assert list(images(client, waiting, decided_since=last, decided=False)) == []
    page = client.get(f"/v1/jobs/{waiting}/review/images", params={"decided_since": first, "limit": 1})
    assert [one["image"] for one in client.get(page.links["next"]["url"]).json()["data"]] == ["c.1"]


@pytest.mark.parametrize(
    ("decision", "told"),
    [
        ({"decision": "maybe"}, "decision"),
        ({"decision": "edit"}, "boxes"),
        ({"decision": "accept", "boxes": []}, "boxes"),
        ({"decision": "edit", "boxes": [box("cat", 0, 0, 1, 1)]}, "boxes.0: 'cat' is no class"),
        ({"decision": "edit", "boxes": [box("RBC", 0.5, 0, 0.5, 1)]}, "boxes.0: the box has no area"),
        ({"decision": "edit", "boxes": [box("RBC", 0, 0, 1.5, 1)]}, "boxes.0.x2"),
        ({"decision": "accept", "reviewer": "a b"}, "reviewer"),
        ({"decision": "accept", "verdict": 1}, "verdict"),
        ([], "$"),
    ],
)
def test_a_decision_with_a_mistake_is_told_where_it_is_and_changes_nothing(
    client: TestClient, waiting: str, decision: Any, told: str
) -> None:
    answer = client.put(f"/v1/jobs/{waiting}/review/images/a", json=decision)
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_review")
    assert told in answer.json()["detail"]
    assert images(client, waiting)["a"]["decision"] is None


def test_what_is_not_there_is_told_apart(client: TestClient, job_id: str, waiting: str) -> None:
    assert job_id == waiting
    assert decide(client, waiting, "nowhere", decision="accept")[1]["code"] == "image_not_found"
    other = client.post("/v1/jobs", json=SPEC).json()["id"]
    for method, address in (("GET", ""), ("GET", "/images"), ("GET", "/export?format=coco"), ("POST", "/complete")):
        refused = client.request(method, f"/v1/jobs/{other}/review{address}")
        assert (refused.status_code, refused.json()["code"]) == (404, "review_not_found")
        refused = client.request(method, f"/v1/jobs/job_{'0' * 32}/review{address}")
        assert (refused.status_code, refused.json()["code"]) == (404, "job_not_found")


def test_a_review_is_complete_when_nothing_is_open_and_then_the_job_is_queued(client: TestClient, waiting: str) -> None:
    decide(client, waiting, "a", decision="accept")
    refused = client.post(f"/v1/jobs/{waiting}/review/complete")
    assert (refused.status_code, refused.json()["code"]) == (409, "review_open")
    assert refused.json()["detail"] == "2 images are open: b, c.1"
    assert client.get(f"/v1/jobs/{waiting}").json()["state"] == "awaiting_review"
    decide(client, waiting, "b", decision="reject")
    decide(client, waiting, "c.1", decision="edit", boxes=[])
    done = client.post(f"/v1/jobs/{waiting}/review/complete")
    assert (done.status_code, done.json()["state"]) == (200, "queued")


@pytest.mark.parametrize("rest", ["accept", "reject"])
def test_what_becomes_of_the_rest_may_be_said(client: TestClient, waiting: str, rest: str) -> None:
    decide(client, waiting, "b", decision="edit", boxes=[])
    done = client.post(f"/v1/jobs/{waiting}/review/complete", json={"rest": rest, "reviewer": "bob"})
    assert done.json()["state"] == "queued"
    told = {image: one["decision"] for image, one in images(client, waiting).items()}
    found = {image: (one["decision"], one["reviewer"], one["seen"]) for image, one in told.items()}
    assert found == {"a": (rest, "bob", False), "b": ("edit", "somebody", True), "c.1": (rest, "bob", False)}


@pytest.mark.parametrize("body", [{"rest": "edit"}, {"rest": 1}, {"all": "accept"}, [1]])
def test_anything_else_about_the_rest_is_refused(client: TestClient, waiting: str, body: Any) -> None:
    refused = client.post(f"/v1/jobs/{waiting}/review/complete", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_review")


def test_decisions_are_final_once_the_review_is_complete(client: TestClient, waiting: str) -> None:
    client.post(f"/v1/jobs/{waiting}/review/complete", json={"rest": "accept"})
    before = images(client, waiting)
    assert decide(client, waiting, "a", decision="reject")[1]["code"] == "wrong_state"
    exported = client.get(f"/v1/jobs/{waiting}/review/export?format=coco").content
    late = client.post(f"/v1/jobs/{waiting}/review/import?format=coco", content=exported, headers=OCTETS)
    assert (late.status_code, late.json()["code"]) == (409, "wrong_state")
    again = client.post(f"/v1/jobs/{waiting}/review/complete", json={"rest": "reject"})
    assert (again.status_code, again.json()["state"]) == (200, "queued"), "asking again is harmless"
    assert images(client, waiting) == before


def test_a_job_that_waits_is_cancelled_at_once_and_its_review_is_over(client: TestClient, waiting: str) -> None:
    answer = client.post(f"/v1/jobs/{waiting}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert decide(client, waiting, "a", decision="accept")[1]["code"] == "job_already_finished"
    assert client.get(f"/v1/jobs/{waiting}/review").json()["state"] == "cancelled"


def test_a_retry_takes_over_what_was_decided(client: TestClient, database: Database, waiting: str) -> None:
    from retort.db import reviews

    decide(client, waiting, "a", decision="edit", boxes=[box("RBC", 0, 0, 1, 1)], reviewer="ann")
    client.post(f"/v1/jobs/{waiting}/cancel")
    child = client.post(f"/v1/jobs/{waiting}/retry").json()["id"]
    clone = client.post(f"/v1/jobs/{waiting}/clone").json()["id"]
    with database.read() as session:
        assert reviews.of_job(session, child) == reviews.of_job(session, waiting) != []
        assert reviews.of_job(session, clone) == []


@pytest.mark.parametrize("form", sorted(FORMS))
def test_an_export_that_comes_back_unchanged_is_accepted_only_where_somebody_has_looked(
    client: TestClient, waiting: str, form: str
) -> None:
    decide(client, waiting, "b", decision="reject")
    exported = client.get(f"/v1/jobs/{waiting}/review/export?format={form}")
    assert exported.headers["Content-Disposition"] == f'attachment; filename="{waiting}-{form}{FORMS[form].suffix}"'
    assert exported.headers["Content-Type"] == FORMS[form].media_type
    address = f"/v1/jobs/{waiting}/review/import?format={form}&reviewer=ann"
    untouched = client.post(address, content=exported.content, headers=OCTETS).json()
    assert (untouched["num_open"], untouched["num_looked_at"]) == (2, 1), "nobody says that it was looked at"
    assert "0 accepted, 0 corrected, 2 not looked at" in untouched["notes"][0]
    answer = client.post(f"{address}&looked_at=all", content=exported.content, headers=OCTETS)
    assert answer.status_code == 200
    found = {image: (one["decision"] or {}).get("decision") for image, one in images(client, waiting).items()}
    expected = None if form == "label_studio" else "accept"  # whose file says that nobody has answered
    assert found == {"a": expected, "b": "reject", "c.1": expected}


def test_boxes_in_a_file_replace_those_of_its_images_alone(client: TestClient, waiting: str) -> None:
    lines = {"labels/a.txt": "1 0.5 0.5 0.5 0.5\n", "data.yaml": "names: [RBC, WBC]\n"}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name, content in lines.items():
            target.writestr(name, content)
    answer = client.post(f"/v1/jobs/{waiting}/review/import?format=yolo", content=buffer.getvalue(), headers=OCTETS)
    assert (answer.json()["num_edited"], answer.json()["num_open"]) == (1, 2)
    assert images(client, waiting)["a"]["decision"]["boxes"] == [box("WBC", 0.25, 0.25, 0.75, 0.75)]
    again = client.get(f"/v1/jobs/{waiting}/review/export?format=yolo").content
    with zipfile.ZipFile(io.BytesIO(again)) as source:
        assert source.read("labels/a.txt") == b"1 0.5000000 0.5000000 0.500000 0.500000\n"


def test_a_file_that_speaks_of_other_images_changes_nothing(client: TestClient, waiting: str) -> None:
    tasks = [{"data": {"image": f"{name}.jpg"}, "annotations": []} for name in ("a", "z")]
    refused = client.post(f"/v1/jobs/{waiting}/review/import?format=label_studio", json=tasks)
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_review")
    assert "'z' is no image of this review" in refused.json()["detail"]
    assert images(client, waiting)["a"]["decision"] is None


def test_files_and_decisions_of_any_size_are_not_read(client: TestClient, waiting: str) -> None:
    huge = client.put(
        f"/v1/jobs/{waiting}/review/images/a", content=b"[" * (2 << 20), headers={"Content-Type": "application/json"}
    )
    assert (huge.status_code, huge.json()["code"]) == (413, "body_too_large")
    huge = client.post(f"/v1/jobs/{waiting}/review/import?format=coco", content=b" " * ((32 << 20) + 1), headers=OCTETS)
    assert (huge.status_code, huge.json()["code"]) == (413, "body_too_large")


def test_a_form_that_nobody_knows_is_refused(client: TestClient, waiting: str) -> None:
    refused = client.get(f"/v1/jobs/{waiting}/review/export?format=voc")
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_parameter")


def test_decisions_race_and_the_completion_wins_or_loses_whole(client: TestClient, waiting: str) -> None:
    from support.db_harness import at_once

    def work(number: int) -> int:
        if number == 0:
            return client.post(f"/v1/jobs/{waiting}/review/complete", json={"rest": "accept"}).status_code
        return decide(client, waiting, "a", decision="reject")[0]

    codes = at_once(work, 8)
    assert codes[0] == 200
    assert set(codes[1:]) <= {200, 409}
    decided = images(client, waiting)["a"]["decision"]["decision"]
    assert decided == ("reject" if 200 in codes[1:] else "accept")
