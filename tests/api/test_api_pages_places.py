"""The pages of workers, queue and settings: what they show, and their forms."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from results import RESULT
from retort.access import ClientRole
from retort.db import Database, Lease, jobs, keys, trash, webhooks
from retort.db.session import database_now
from retort.db.webhooks import Answer
from retort.spec import parse_spec
from retort_api.pages import rendering, settings_trash
from support import places
from support.api_harness import LOCAL, SPEC, SWEEP, Worker
from support.identity import add_key

TEMPLATES = Path(rendering.__file__).parent.parent / "templates"
TRASH = "/settings/trash"
FORM: dict[str, Any] = {"headers": {"Origin": LOCAL}, "follow_redirects": False}
PLACES = (
    "/data", "/models", "/workers", "/settings", "/settings/keys", "/settings/webhooks", "/settings/quotas",
    "/settings/retention", "/settings/trash", "/settings/audit",
)  # fmt: skip


def test_a_worker_shows_its_devices_and_what_it_does_and_is_drained_by_a_form(
    client: TestClient, worker: Worker, lease: Lease
):
    places.worker(worker.database, "w1", refused="the driver is too old")
    places.worker(worker.database, "w2", gpus=2)
    page = client.get("/workers").text
    for told in ("NVIDIA RTX A5000", "25.8 GB", "the driver is too old", f'href="/jobs/{lease.job_id}"'):
        assert told in page, told

    assert client.post("/workers/drain", data={"worker": "w2", "wanted": "drain"}, **FORM).status_code == 303
    assert "drained" in client.get("/workers").text
    assert client.post("/workers/drain", data={"worker": "w2", "wanted": "resume"}, **FORM).status_code == 303
    assert [one["drained_at"] for one in client.get("/v1/workers").json()["data"]] == [None, None]


def test_the_queue_stands_in_the_order_of_claims_with_why_each_job_waits(client: TestClient, database: Database):
    places.worker(database, "w", gpus=1)
    names = {"first": {}, "large": {"resources": {"gpus": 4}}}
    for name, more in names.items():
        client.post("/v1/jobs", json={**SPEC, "name": name, **more})
    client.post("/v1/jobs?priority=5", json={**SPEC, "name": "urgent"})
    page = client.get("/workers").text

    assert re.findall(r'<th scope="row"><a href="/jobs/\w+">(\w+)</a>', page) == ["urgent", "first", "large"]
    assert "asks for 4 GPUs" in page


def test_a_reader_is_offered_nothing_that_a_reader_may_not_do(client: TestClient, database: Database, worker: Worker):
    reader = add_key(database, "reader", ClientRole.READER, owner="rita")
    places.ready_dataset(database, worker.store, worker.folder, "street")
    places.model(database, worker.store, worker.folder, "teacher")
    places.worker(database, "w")
    for path in (*PLACES, "/data/street", "/models/teacher"):
        answer = client.get(path, headers=reader)
        if path in {"/settings/keys", "/settings/audit"}:
            assert answer.status_code == 403, path
            continue
        assert answer.status_code == 200, (path, answer.text)
        forms = set(re.findall(r'<form[^>]*action="([^"]*)"', answer.text)) - {"/theme", "/logout"}
        assert forms == set(), path
        assert "/new?" not in answer.text, path


def test_a_key_is_shown_once_and_replaced_and_revoked(client: TestClient):
    made = client.post("/settings/keys", data={"name": "ci", "role": "submitter", "days": "", "owner": ""}, **FORM)
    assert (made.status_code, made.headers["Cache-Control"]) == (201, "no-store")
    [secret] = set(re.findall(r"rtt_\w{49}", made.text))
    assert client.get("/v1/me", headers={"Authorization": f"Bearer {secret}"}).json()["role"] == "submitter"
    assert f"export RETORT_KEY={secret}" in made.text  # what the command line reads
    assert secret not in client.get("/settings/keys").text

    key_id = client.get("/v1/keys").json()["data"][0]["id"]
    assert len(re.findall(r"rtt_\w{49}", client.post(f"/settings/keys/{key_id}/rotate", **FORM).text)) > 0
    assert client.post(f"/settings/keys/{key_id}/revoke", **FORM).status_code == 303
    assert client.get("/v1/me", headers={"Authorization": f"Bearer {secret}"}).status_code == 401
    narrow = {"name": "narrow", "role": "submitter", "scopes": ["jobs:read", "data:read"], "days": "2"}
    assert client.post("/settings/keys", data=narrow, **FORM).status_code == 201
    assert client.get("/v1/keys").json()["data"][0]["scopes"] == ["data:read", "jobs:read"]


@pytest.mark.parametrize("wrong", [{"name": "\x1b"}, {"role": "king"}, {"days": "-1"}, {"days": "x"}, {"more": "1"}])
def test_a_form_that_is_wrong_is_answered_by_a_page_that_names_the_field(client: TestClient, wrong: dict[str, str]):
    refused = client.post("/settings/keys", data={"name": "ci", "role": "reader", **wrong}, **FORM)
    assert refused.status_code == 422
    assert next(iter(wrong)) in refused.text
    assert "<h1>" in refused.text


def session_of(database: Database, owner: str) -> str:
    with database.begin() as session:
        now = database_now(session)
        wanted = keys.NewKey(name="b", role=ClientRole.SUBMITTER, owner=owner, kind="session", expires_at=now + 900)
        return keys.create(session, wanted, now=now)[0].id


def test_everybody_ends_their_own_sessions_and_nobody_else_s(client: TestClient, database: Database):
    ann = add_key(database, "ann", ClientRole.SUBMITTER, owner="ann")
    own, other = session_of(database, "ann"), session_of(database, "bob")
    page = client.get("/settings", headers=ann).text
    assert (own in page, other in page) == (True, False)
    mine = {"headers": {**ann, "Origin": LOCAL}, "follow_redirects": False}
    assert client.post("/settings/sessions/end", data={"session": other}, **mine).status_code == 404
    assert client.post("/settings/sessions/end", data={"session": own}, **mine).status_code == 303
    assert own not in client.get("/settings", headers=ann).text
    key = client.get("/v1/keys").json()["data"][0]["id"]
    assert client.post("/settings/sessions/end", data={"session": key}, **FORM).status_code == 404, "no key"


def test_a_webhook_is_made_tried_answered_and_sent_again(client: TestClient, database: Database):
    wanted = {"url": "https://1.1.1.1/hook", "events": ["job.failed", "job.succeeded"], "description": "ops"}
    made = client.post("/settings/webhooks", data=wanted, **FORM)
    assert (made.status_code, "whsec_" in made.text) == (201, True), made.text
    home = "/settings/webhooks/" + client.get("/v1/webhooks").json()["data"][0]["id"]
    assert "whsec_" not in client.get(home).text
    assert client.post(f"{home}/test", **FORM).headers["Location"] == home
    for _ in range(2):
        with database.begin() as session:
            [due] = webhooks.take(session, now=database_now(session), hold_s=9.0, limit=9)
            webhooks.record(session, due, Answer(200, None, 12.0), now=database_now(session))
        assert "✓ delivered" in client.get(home).text
        assert client.post(f"{home}/redeliver", data={"delivery": due.id}, **FORM).status_code == 303
        assert "◌ pending" in client.get(home).text
    assert client.post(f"{home}/redeliver", data={"delivery": "msg_" + 32 * "0"}, **FORM).status_code == 404
    assert client.post(home, data={**wanted, "events": "job.failed"}, **FORM).status_code == 303
    assert client.get("/v1/webhooks").json()["data"][0]["enabled"] is False, "the box was not ticked"
    assert client.post(f"{home}/delete", **FORM).status_code == 303
    assert client.get(home).status_code == 404


def test_every_field_with_a_pattern_says_what_is_allowed_before_and_after_it_is_filled(client: TestClient):
    written = sum(path.read_text().count("pattern=") for path in TEMPLATES.glob("**/*.html"))
    found = 0
    for path in (*PLACES, "/new", "/"):
        page = client.get(path).text
        for field in re.findall(r"<(?:input|textarea)\b[^>]*\bpattern=[^>]*>", page):
            found += 1
            assert re.search(r' title="[^"]{20,}"', field), field
            described = re.search(r' aria-describedby="([^" ]+)', field)
            assert described, field
            assert re.search(rf'id="{described[1]}"[^>]*>[^<]*etters', page), (described[1], "is shown, too")
    assert found == written >= 5


REFUSED = {
    "a webhook at an address that is not public": (
        "/settings/webhooks", {"url": "https://127.0.0.1/x", "description": "typed", "events": "job.failed"}, "url"
    ),
    "a webhook at no address": (
        "/settings/webhooks", {"url": "ftp://nowhere.example", "description": "typed", "events": "job.failed"}, "url"
    ),
    "a webhook of no event": (
        "/settings/webhooks", {"url": "https://typed.example/", "description": "typed"}, "events"
    ),
    "a key of an odd name": ("/settings/keys", {"name": "typed/<b>", "role": "reader", "days": "7"}, "name"),
    "a key for no time": ("/settings/keys", {"name": "typed", "role": "reader", "days": "0"}, "days"),
    "a key for a project that is not there": (
        "/settings/keys", {"name": "typed", "role": "reader", "project": "typed"}, "project"
    ),
    "a project of an odd name": ("/settings/projects", {"name": "typed name"}, "project-name"),
    "a quota that is no number": ("/settings/quotas", {"project": "default", "gpu_hours": "typed"}, "gpu_hours"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_form_that_is_refused_is_shown_again_with_what_was_typed_and_the_mistake_at_its_field(
    client: TestClient, name: str
):
    path, fields, wrong = REFUSED[name]
    answer = client.post(path, data=fields, **FORM)
    shown = answer.text.partition(f'action="{path}"')[2].partition("</form>")[0]

    assert answer.status_code == (404 if wrong == "project" else 422)
    assert "typed" in shown, "the form is there, with its fields"
    assert 'role="alert"' in shown
    assert f'id="wrong-{wrong}"' in shown
    assert "String should match" not in shown
    assert "<b>" not in shown
    for field, value in fields.items():
        said = html.escape(value)
        assert f'value="{said}"' in shown or f">{said}<" in shown or field == "project", (field, value)
    if wrong != "project":
        assert re.search(rf'aria-describedby="[^"]*wrong-{wrong}"[^>]*aria-invalid', shown) or wrong == "events"
    assert client.get(path if path != "/settings/projects" else "/settings/keys").text.count('role="alert"') == 0


def test_a_webhook_that_is_changed_to_a_bad_address_keeps_what_was_typed_and_what_it_was(client: TestClient):
    client.post("/settings/webhooks", data={"url": "https://good.example/", "events": "job.failed"}, **FORM)
    home = "/settings/webhooks/" + client.get("/v1/webhooks").json()["data"][0]["id"]
    fields = {"url": "https://10.0.0.1/typed", "events": "job.succeeded", "enabled": "true"}
    answer = client.post(home, data=fields, **FORM)
    assert answer.status_code == 422
    assert 'value="https://10.0.0.1/typed"' in answer.text
    assert 'value="https://good.example/"' in client.get(home).text
    gone = client.post("/settings/webhooks/whk_" + "0" * 32, data=fields, **FORM)
    assert gone.status_code in {404, 422}


def test_quotas_are_set_by_a_form_and_left_to_the_settings_where_it_is_empty(client: TestClient):
    form = {
        "project": "default",
        "gpu_hours": "12.5",
        "stored_gb": "2",
        "queued_jobs": "",
        "running_jobs": "",
        "uploads": "",
    }
    assert client.post("/settings/quotas", data=form, **FORM).status_code == 303
    limits = client.get("/v1/projects/default/quota").json()["limits"]
    assert (limits["gpu_hours"], limits["stored_bytes"], limits["queued_jobs"]) == (12.5, 2_000_000_000, None)
    assert 'value="12.5"' in client.get("/settings/quotas?project=default").text


def test_the_trash_holds_every_kind_and_gives_each_back(client: TestClient, worker: Worker, tmp_path: Path):
    lease = worker.claim(client.post("/v1/jobs", json=SPEC).json()["id"])
    worker.publish(lease, "notes.txt", b"x")
    client.post(f"/v1/jobs/{lease.job_id}/cancel")
    gone = client.post("/v1/jobs", json={**SPEC, "name": "gone"}).json()["id"]
    client.post(f"/v1/jobs/{gone}/cancel")
    client.delete(f"/v1/jobs/{gone}")
    places.ready_dataset(worker.database, worker.store, tmp_path, "street")
    client.delete(f"/v1/datasets/street/{client.get('/v1/datasets').json()['data'][0]['id']}")
    client.delete(f"/v1/models/old/{places.model(worker.database, worker.store, tmp_path, 'old')}")

    forms: Callable[[], list[str]] = lambda: [  # noqa: E731 - looked at twice
        path for path in re.findall(r'<form method="post" action="([^"]*)"', client.get("/settings/trash").text)
        if path != f"{TRASH}/restore" and ("restore" in path or "trash" in path)
    ]  # fmt: skip
    assert forms() == [f"/settings/trash/jobs/{gone}", "/models/old/restore", "/data/street/restore"]
    assert client.post(f"/settings/trash/jobs/{gone}", **FORM).status_code == 303
    assert forms() == ["/models/old/restore", "/data/street/restore"]


def test_the_trash_is_turned_over_in_pages_and_many_come_back_at_once(client: TestClient, worker: Worker):
    spec = parse_spec({**SPEC, "name": "thrown"})
    with worker.database.begin() as session:
        wanted = [jobs.Submission(spec=spec, retries=0) for _ in range(settings_trash.PAGE + 2)]
        made = [one.job_id for one in jobs.submit_all(session, wanted, now=1) if isinstance(one, jobs.SubmittedJob)]
        for job_id in made:
            jobs.cancel(session, job_id, now=2, actor="client")
        trash.move_jobs(session, made, now=3)
    sweep = client.post("/v1/sweeps", json={**SWEEP, "name": "swept"}).json()["id"]
    client.post(f"/v1/sweeps/{sweep}/cancel")
    worker.sweep(sweep)
    assert client.delete(f"/v1/sweeps/{sweep}").status_code == 204

    first = client.get(TRASH).text
    ids = re.compile(r'name="ids" value="(job_[0-9a-f]{32})"')
    assert ids.findall(first) == made[:1:-1], "the newest fifty, without the trials of a sweep, which come with it"
    [more] = re.findall(r'rel="next" href="([^"]*)"', first)
    second = client.get(more.replace("&amp;", "&")).text
    assert ids.findall(second) == made[1::-1]
    assert "swept" in first
    assert "swept" not in second

    form = {"kind": "jobs", "wanted": "ticked", "ids": [made[0], made[1], "job_" + 32 * "0"]}
    answer = client.post(f"{TRASH}/restore", data=form, **FORM)
    assert answer.status_code == 303
    assert client.get(f"/v1/jobs/{made[0]}").json()["deleted_at"] is None
    assert "2 jobs restored. 1 job not: there is no job" in client.get(TRASH).text
    shown = {"kind": "jobs", "wanted": "shown", "shown": ids.findall(first)}
    assert client.post(f"{TRASH}/restore", data=shown, **FORM).status_code == 303
    assert client.post(
        f"{TRASH}/restore", data={"kind": "sweeps", "wanted": "shown", "shown": sweep}, **FORM
    ).is_redirect
    assert "The trash is empty." in client.get(TRASH).text


@pytest.mark.parametrize("kind", ["artifacts", "models", "data"])
def test_each_kind_comes_back_by_what_its_page_sends(client: TestClient, worker: Worker, tmp_path: Path, kind: str):
    lease = worker.claim(client.post("/v1/jobs", json=SPEC).json()["id"])
    worker.publish(lease, "notes of <b>.txt", b"x")
    worker.succeed(lease, RESULT)
    client.delete(f"/v1/jobs/{lease.job_id}/artifacts/notes of <b>.txt")
    places.ready_dataset(worker.database, worker.store, tmp_path, "street")
    client.delete(f"/v1/datasets/street/{client.get('/v1/datasets').json()['data'][0]['id']}")
    client.delete(f"/v1/models/old/{places.model(worker.database, worker.store, tmp_path, 'old')}")
    part = client.get(f"{TRASH}?kind={kind}").text
    marks = [html.unescape(one) for one in re.findall(r'name="ids" value="([^"]*)"', part)]
    assert len(marks) == 1
    client.post(f"{TRASH}/restore", data={"kind": kind, "wanted": "ticked", "ids": marks}, **FORM)
    assert "The trash is empty." in client.get(f"{TRASH}?kind={kind}").text


def test_who_may_only_read_takes_nothing_out_of_the_trash(client: TestClient, worker: Worker):
    reader = add_key(worker.database, "reader", ClientRole.READER)
    job_id = client.post("/v1/jobs", json=SPEC).json()["id"]
    client.post(f"/v1/jobs/{job_id}/cancel")
    client.delete(f"/v1/jobs/{job_id}")
    assert f"{TRASH}/restore" in client.get(TRASH).text
    assert f"{TRASH}/restore" not in client.get(TRASH, headers=reader).text
    form = {"kind": "jobs", "wanted": "shown", "shown": "job_" + 32 * "0"}
    assert client.post(f"{TRASH}/restore", data=form, headers={**reader, **FORM["headers"]}).status_code == 403


def test_retention_says_what_would_go_and_applies_it(client: TestClient):
    assert "RETORT_KEEP_TRASH_S" in client.get("/settings/retention").text
    assert client.post("/settings/retention/apply", **FORM).status_code == 303


def test_the_audit_log_is_filtered_and_paged(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("retort_api.pages.settings_audit._LIMIT", 2)
    for name in ("a", "b", "c"):
        client.post("/v1/projects", json={"name": name})
    client.post("/v1/jobs", json=SPEC)
    page = client.get("/settings/audit?action=create_project").text
    assert page.count(">create_project</code>") == 2
    assert "create_job" not in re.findall(r">(\w+)</code>", page)
    [older] = re.findall(r'href="(/settings/audit\?[^"]*before=[^"]*)"', page)
    rest = client.get(older.replace("&amp;", "&")).text
    assert rest.count(">create_project</code>") == 1
    assert client.get("/settings/audit?owner=nobody").text.count("<tr>") == 0


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/workers/drain", {"worker": "\x00", "wanted": "drain"}),
        ("/models/published", {"name": "a", "job": "job_" + 32 * "0", "artifact": "\x00"}),
        ("/settings/keys/%00/revoke", {}),
        ("/settings/keys/key_" + 32 * "0" + "/rotate", {}),
        ("/settings/trash/artifacts", {"job": "job_" + 32 * "0", "name": "\x00"}),
        ("/data/%00/delete", {"version": "dst_" + 32 * "0"}),
        ("/models/%00/delete", {"sha256": 64 * "0"}),
    ],
)
def test_what_is_not_there_or_no_name_at_all_is_refused_by_a_page(client: TestClient, path: str, sent: dict[str, str]):
    refused = client.post(path, data=sent, **FORM)
    assert refused.status_code in {404, 422}, refused.text
    assert "<h1>" in refused.text
