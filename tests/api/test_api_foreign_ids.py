"""Every route with an id answers for another project's exactly as for one that never was; nothing else tells of it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from results import RESULT
from retort.access import PUBLIC, ClientRole, Scope
from retort.db import Database, datasets, transitions
from retort.db.datasets import DatasetFile
from retort.db.models import ArtifactRow
from retort.db.session import database_now
from retort.settings import Settings
from retort.storage import Store
from retort_api.deps import guarded
from retort_api.pages.page_router import FormRoute
from sqlalchemy import select
from support.api_harness import LOCAL, SPEC, SWEEP, Worker, serving
from support.checkpoints import checkpoint
from support.curve_filling import curves, publish_curves
from support.identity import add_key
from support.sample_filling import publish_samples, samples

MARK = "veiled"
"""In everything that the other project names: nobody else may read it anywhere."""
BINARY = {"Content-Type": "application/octet-stream"}
NEVER = {
    "job_id": f"job_{0:032x}", "sweep_id": f"swp_{0:032x}", "upload_id": f"upl_{0:032x}", "tus_id": f"upl_{0:032x}",
    "key_id": f"key_{0:032x}",
    "webhook_id": f"whk_{0:032x}", "delivery_id": f"msg_{0:032x}", "artifact_id": f"art_{0:032x}",
    "sha256": "0" * 64, "version": "0" * 64, "project": "nowhere-visible", "image": "a", "worker": "absent:1:a",
}  # fmt: skip
NAMES = {"/v1/models/": (f"{MARK}-model", "absent-model"), "/v1/datasets/": (f"{MARK}-set", "absent-set")}
"""What `name` in an address is, theirs and one that never was, where it is no file of a job."""
BODIES: Mapping[str, tuple[Any, dict[str, str], dict[str, str]]] = {
    "predict": (b"image", BINARY, {}),
    "import_review": (b"{}", BINARY, {"format": "coco"}),
    "put_part": (
        b"part", {**BINARY, "Repr-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(b'part').digest()).decode()}:"},
        {},
    ),
    "append_to_tus_upload": (
        b"more", {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0", "Tus-Resumable": "1.0.0"}, {}
    ),
    "export_review": (None, {}, {"format": "coco"}),
    "change_sweep": ({"keep": True}, {}, {}),
    "change_webhook": ({"enabled": False}, {}, {}),
    "put_quota": ({"queued_jobs": 5}, {}, {}),
    "rotate_key": ({}, {}, {}),
}  # fmt: skip
"""What the OpenAPI document has no example of: body, headers and query, by operation."""
FORMS: Mapping[str, dict[str, str]] = {
    "delete_dataset_by_form": {"version": f"dst_{0:032x}"}, "restore_dataset_by_form": {"version": f"dst_{0:032x}"},
    "delete_model_by_form": {"sha256": "{sha256}"}, "restore_model_by_form": {"sha256": "{sha256}"},
    "change_webhook_by_form": {"url": "https://1.1.1.1/", "events": "job.failed"},
    "redeliver_by_form": {"delivery": "{delivery_id}"},
    "extend": {"epochs": "9"},
}  # fmt: skip
"""What the forms of pages send, by operation; what is not named here sends nothing."""
ALIKE = {
    "delete_dataset_by_form", "restore_dataset_by_form", "delete_webhook_by_form", "decide_on_page", "export_more",
    "send_csv", "send_picture",
}  # fmt: skip
"""Pages and forms that name a second thing, which is not there (any more): their owner is answered as everybody is."""
OPEN_TO_ALL = {
    "/login/{name}", "/static/{name}", "/static/{version}/{name:path}", "/docs/{name}", "/v1/downloads/{token}",
}  # fmt: skip
"""No id of a project: files of the service, and addresses that are keys themselves."""
SPELLINGS = ("{}/", "/{}", "{}.", "{}%2f", "{}..;/", "{};x=1", "{}%00")
Ids = dict[str, str]


@dataclass(frozen=True)
class Houses:
    """A service with two projects: one that has everything, and a stranger's."""

    client: TestClient
    database: Database
    owner: dict[str, str]
    stranger: dict[str, str]
    theirs: Ids

    def ask(self, method: str, path: str, who: dict[str, str], operation: str = "", **more: Any) -> Any:
        if more.pop("is_form", False):
            sent_by = {**who, "Origin": LOCAL}
            ids = more["ids"]
            data = {name: value.format_map(ids) for name, value in FORMS.get(operation, {}).items()}
            return self.client.request(method, path, headers=sent_by, data=data, follow_redirects=False)
        body, headers, query = BODIES.get(operation, (more.pop("json", None), {}, {}))
        sent = {"content": body} if isinstance(body, bytes) else {"json": body} if body is not None else {}
        heads = {**who, **headers, "Tus-Resumable": "1.0.0"}
        return self.client.request(method, path, params=query or None, headers=heads, follow_redirects=False, **sent)


def publish_dataset(client: TestClient, database: Database, store: Store, headers: dict[str, str], name: str) -> str:
    upload = client.post("/v1/uploads", json={"size_bytes": 4}, headers=headers).json()["id"]
    digest = f"sha-256=:{base64.b64encode(hashlib.sha256(b'data').digest()).decode()}:"
    about = {**headers, **BINARY, "Repr-Digest": digest}
    assert client.put(f"/v1/uploads/{upload}/parts/1", content=b"data", headers=about).status_code < 300
    assert client.post(f"/v1/uploads/{upload}/complete", headers=headers).status_code == 200
    client.post("/v1/datasets", json={"name": name, "upload": upload}, headers=headers)
    path = store_file(store, b"content of a dataset")
    with database.begin() as session:
        claimed = datasets.claim(session, worker="w", now=database_now(session), lease_s=60)
        assert claimed is not None
        assert datasets.finish(session, claimed, {}, path, (path,), now=database_now(session))
    return path.sha256


def store_file(store: Store, content: bytes) -> DatasetFile:
    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder) / "file").write_bytes(content)
        stored = store.put(path)
    return DatasetFile(stored.key, stored.sha256, stored.size_bytes)


def furnish(client: TestClient, database: Database, worker: Worker, headers: dict[str, str]) -> Ids:
    """Make one of everything that a project can have; return the ids."""
    spec = {**SPEC, "name": f"{MARK}-job"}
    job = client.post("/v1/jobs", json=spec, headers=headers).json()["id"]
    assert client.patch(f"/v1/jobs/{job}", json={"labels": {MARK: MARK}}, headers=headers).status_code == 200
    lease = worker.claim(job)
    proposals = {"mode": "sample", "classes": ["a"], "pictures": [
        {"image": "a", "file": "a.png", "width": 9, "height": 9, "kept": [], "left_out": None, "doubtful": [],
         "like": None},
    ]}  # fmt: skip
    worker.publish(lease, "report.html", b"<p>report", media_type="text/html")
    worker.publish(lease, "student.pt", b"student")
    worker.publish(lease, "review.json", json.dumps(proposals).encode(), media_type="application/json")
    worker.publish(lease, "review/a.jpg", b"\xff\xd8picture", media_type="image/jpeg")
    publish_curves(worker, lease, curves([MARK]))
    publish_samples(worker, lease, samples((MARK, MARK), (1,)))
    with database.begin() as session:
        transitions.await_review(session, lease, now=database_now(session), exit_code=3)
    ended = client.post("/v1/jobs", json={**spec, "name": f"{MARK}-ended"}, headers=headers).json()["id"]
    last = worker.claim(ended)
    worker.publish(last, f"{MARK}.txt", b"x")
    worker.succeed(last, RESULT)
    sweep = client.post("/v1/sweeps", json={**SWEEP, "name": f"{MARK}-sweep"}, headers=headers).json()["id"]
    model = client.post(
        "/v1/models", params={"name": f"{MARK}-model"}, content=checkpoint({0: "eye"}), headers={**headers, **BINARY}
    ).json()
    digest = publish_dataset(client, database, worker.store, headers, f"{MARK}-set")
    upload, tus = (
        client.post("/v1/uploads", json={"size_bytes": size, "name": f"{MARK}.zip"}, headers=headers).json()["id"]
        for size in (4, 5)
    )
    hook = {"url": f"https://{MARK}.example/x", "events": ["job.failed"]}
    webhook = client.post("/v1/webhooks", json=hook, headers=headers).json()["id"]
    delivery = client.post(f"/v1/webhooks/{webhook}/test", headers=headers).json()["id"]
    client.post("/v1/jobs", json={**spec, "name": f"{MARK}-waits"}, headers=headers)
    with database.read() as session:
        artifact = session.scalar(select(ArtifactRow.id).where(ArtifactRow.job_id == job))
    assert artifact is not None
    return {
        **NEVER, "job_id": job, "sweep_id": sweep, "upload_id": upload, "tus_id": tus, "webhook_id": webhook,
        "delivery_id": delivery, "artifact_id": artifact, "sha256": model["sha256"], "version": digest,
        "project": f"{MARK}-project",
    }  # fmt: skip


@pytest.fixture
def empty(small_settings: Settings) -> Iterator[Houses]:
    settings = small_settings.model_copy(update={"rate_limit": "", "max_predictions": 0})
    with serving(settings) as client:
        database = client.app.state.service.database  # type: ignore[attr-defined]
        owner = add_key(database, "owner", ClientRole.SUBMITTER, project=f"{MARK}-project", owner=f"{MARK}-owner")
        stranger = add_key(database, "stranger", ClientRole.SUBMITTER, project="visible-project", owner="eve")
        yield Houses(client, database, owner, stranger, {})


@pytest.fixture
def houses(empty: Houses, small_settings: Settings) -> Houses:
    worker = Worker(empty.database, Store(small_settings.store_url), small_settings.home)
    theirs = furnish(empty.client, empty.database, worker, empty.owner)
    return Houses(empty.client, empty.database, empty.owner, empty.stranger, theirs)


@dataclass(frozen=True)
class Case:
    """One method of one route with an id."""

    method: str
    template: str
    operation: str
    scope: Any
    example: Any
    is_form: bool
    """Whether a form of a page is sent there."""

    @property
    def path_of_page(self) -> str:
        """Path without what the addresses of pages lack."""
        return self.template.removeprefix("/v1").replace("/data/", "/datasets/")

    def path(self, ids: Ids, *, theirs: bool) -> str:
        kind = next((names for prefix, names in NAMES.items() if f"/v1{self.path_of_page}".startswith(prefix)), None)
        of_job = "loss" if self.template.endswith(".csv") else "report.html"
        name = of_job if kind is None else kind[0 if theirs else 1]
        values = {**ids, "name": name, "number": "1"}
        if self.template.startswith("/v1/tus/"):
            values["upload_id"] = ids["tus_id"]
        return re.sub(r"\{(\w+)(:path)?\}", lambda found: values[found[1]], self.template)


def cases(houses: Houses) -> list[Case]:
    document = houses.client.app.openapi()  # type: ignore[attr-defined]
    found = []
    for route in guarded(houses.client.app.routes):  # type: ignore[attr-defined]
        if "{" not in route.path or route.path in OPEN_TO_ALL:
            continue
        assert route.demanded is not PUBLIC, f"{route.path} has an id and lets everybody in: is it one of a project?"
        unknown = set(re.findall(r"\{(\w+)", route.path)) - NEVER.keys() - {"name", "number"}
        assert not unknown, f"say what {unknown} of {route.path} is, of another project and of nobody"
        for method in sorted(route.methods):
            described = document["paths"].get(route.path_format, {}).get(method.lower(), {})
            media = described.get("requestBody", {}).get("content", {}).get("application/json", {})
            is_form = isinstance(route, FormRoute)
            found.append(Case(method, route.path, route.name, route.demanded, media.get("example"), is_form))
    return found


def plain(answer: Any, ids: Ids, path: str) -> tuple[int, str, dict[str, str]]:
    """Everything of an answer but what was asked for, and when."""
    body = re.sub(r'"(request_id|instance)": ?"[^"]*"|request <code>\w+</code>', "", answer.text)
    headers = {name: value for name, value in answer.headers.items() if name not in {"date", "x-request-id"}}
    told = sorted({*ids.values(), *(one for names in NAMES.values() for one in names), path}, key=len, reverse=True)
    for value in told:
        if len(value) > 3:
            body = body.replace(value, "ID")
            headers = {name: text.replace(value, "ID") for name, text in headers.items()}
    headers.pop("content-length", None)  # of the name that was asked for
    return answer.status_code, body, headers


def test_every_id_of_another_project_is_answered_as_one_that_never_was(houses: Houses):
    """A route that is added is in the walk; one whose body or id nobody has described fails it."""
    told_apart = []
    walked = cases(houses)
    for case in walked:
        answers = []
        for ids, theirs in ((houses.theirs, True), (NEVER, False)):
            path = case.path(ids, theirs=theirs)
            answer = houses.ask(
                case.method, path, houses.stranger, case.operation, json=case.example, is_form=case.is_form, ids=ids
            )
            answers.append(plain(answer, ids, path))
        refusals = {403, 404, 422} if case.operation in ALIKE else {403, 404}
        if answers[0] != answers[1] or answers[0][0] not in refusals or MARK in answers[0][1]:
            told_apart.append((case.method, case.template, *answers))
    assert told_apart == []
    assert len(walked) > 70


def code_of(answer: Any) -> Any:
    return answer.json().get("code") if answer.text.startswith("{") else answer.status_code


def test_the_walk_asks_what_its_owner_is_answered_otherwise(houses: Houses):
    """Else it would find nothing: the same request of the owner reaches what is there."""
    order = {"GET": 0, "HEAD": 1, "OPTIONS": 2, "PUT": 3, "PATCH": 4, "POST": 5, "DELETE": 6}

    def turn(case: Case) -> tuple[int, int]:
        late = {"/restore": 8, "/delete": 7}
        last = next((late[end] for end in late if case.template.endswith(end)), order[case.method])
        return last, -len(case.template)

    silent = []
    for case in sorted(cases(houses), key=turn):
        if case.scope is Scope.SERVICE_OPERATE or case.template.endswith("/stream") or case.operation in ALIKE:
            continue
        answers = []
        for ids, theirs in ((NEVER, False), (houses.theirs, True)):
            path = case.path(ids, theirs=theirs)
            answers.append(houses.ask(
                case.method, path, houses.owner, case.operation, json=case.example, is_form=case.is_form, ids=ids
            ))  # fmt: skip
        never, there = answers
        same = never.status_code == there.status_code and (case.method == "HEAD" or never.text == there.text)
        unread = there.status_code in {400, 404, 412, 415, 422} and code_of(there) == code_of(never)
        if same or unread:
            silent.append((case.method, case.template, there.status_code, there.text[:200]))
    assert silent == []


def spelt(variant: str) -> Callable[[str], str]:
    return variant.format


def encoded(path: str) -> str:
    return "".join(f"%{ord(one):02x}" if one != "/" else one for one in path)


def test_no_spelling_of_an_address_tells_of_another_project(houses: Houses):
    wrong = []
    paths = {case.template: case for case in cases(houses) if case.method == "GET" and "stream" not in case.template}
    for case in paths.values():
        pair = [(case.path(ids, theirs=theirs), ids) for ids, theirs in ((houses.theirs, True), (NEVER, False))]
        for spelling in (*map(spelt, SPELLINGS), encoded, str.upper, lambda path: path.replace("/v1/", "/v1//")):
            theirs, never = ((spelling(path), ids) for path, ids in pair)
            answers = [plain(houses.ask("GET", path, houses.stranger), ids, path) for path, ids in (theirs, never)]
            if answers[0][:2] != answers[1][:2] or answers[0][0] < 400:
                wrong.append((theirs[0], *answers))
    assert wrong == []


def seen(houses: Houses) -> dict[str, str]:
    """All that a stranger is shown without naming an id."""
    found = {}
    for route in guarded(houses.client.app.routes):  # type: ignore[attr-defined]
        if "{" in route.path or "GET" not in route.methods:
            continue
        answer = houses.ask("GET", route.path, houses.stranger)
        text = re.sub(
            r'"(request_id|instance|at|now|last_used_at|oldest_queued_age_s)": ?("[^"]*"|[\d.]+)'
            r'|request <code>\w+|name="token" value="\w+"', "", answer.text,
        )  # fmt: skip
        found[route.path] = f"{answer.status_code} {text}"
    return found


TOLD_TO_ALL = {"/readyz", "/livez"}
"""State of the service itself, which is told without names."""


def test_lists_counts_usage_and_the_queue_of_a_stranger_do_not_change_with_what_others_have(
    empty: Houses, small_settings: Settings
):
    before = seen(empty)
    worker = Worker(empty.database, Store(small_settings.store_url), small_settings.home)
    theirs = furnish(empty.client, empty.database, worker, empty.owner)
    after = seen(empty)

    assert [path for path in before if before[path] != after[path] and path not in TOLD_TO_ALL] == []
    told = {path for path, text in after.items() for name in (MARK, *theirs.values()) if len(name) > 3 and name in text}
    assert told - {path for path, text in before.items() for name in theirs.values() if name in text} == set()
    mine = empty.client.post("/v1/jobs", json=SPEC, headers=empty.stranger).json()["id"]
    waiting = empty.ask("GET", f"/v1/jobs/{mine}/waiting", empty.stranger).text
    assert MARK not in waiting + empty.ask("GET", f"/v1/jobs/{mine}", empty.stranger).text


def test_what_a_body_names_of_another_project_is_answered_as_what_never_was(houses: Houses):
    """References inside specs and bodies, to data, models, uploads and jobs."""
    theirs = houses.theirs

    def bodies(ids: Ids, names: int) -> Iterator[tuple[str, Any]]:
        model, dataset = (pair[names] for pair in NAMES.values())
        for change in (
            {"teacher": {"weights": f"model:{model}@sha256:{ids['sha256']}"}},
            {"teacher": {"weights": f"model:{model}"}},
            {"data": {"dataset": f"dataset:{dataset}@sha256:{ids['version']}"}},
            {"data": {"dataset": f"dataset:{dataset}"}},
        ):
            yield from (("/v1/jobs", {**SPEC, **change}), ("/v1/validate", {**SPEC, **change}))
            if "sha256" in str(change):  # else a sweep tells nobody what there is
                yield "/v1/sweeps", {**SWEEP, "base": {**SWEEP["base"], **change}}
        networks = [f"model:{model}@sha256:{ids['sha256']}"]
        yield "/v1/jobs", {"task": "evaluate", "data": {"dataset": f"dataset:{dataset}"}, "networks": networks}
        yield "/v1/advise", {"data": {"dataset": f"dataset:{dataset}"}, "candidates": networks}
        for action in ("cancel", "retry", "delete"):
            yield "/v1/bulk", {"action": action, "ids": [ids["job_id"]]}
        yield "/v1/datasets", {"name": "mine", "upload": ids["upload_id"]}

    wrong = []
    for (path, body), (_, other) in zip(bodies(theirs, 0), bodies(NEVER, 1), strict=True):
        answers = [
            plain(houses.ask("POST", path, houses.stranger, json=one), ids, path)
            for one, ids in ((body, theirs), (other, NEVER))
        ]
        if answers[0] != answers[1]:
            wrong.append((path, body, *answers))
        own, absent = (
            plain(houses.ask("POST", path, houses.owner, json=one), ids, path)[:2]
            for one, ids in ((body, theirs), (other, NEVER))
        )
        if own == absent:
            wrong.append((path, body, own))
    assert wrong == [], "told apart, or not even its owner is let to use it"
