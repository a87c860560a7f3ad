"""Keys over the API: made once, replaced, revoked; and browsers that log in by a link."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from retort.access import ClientRole, is_secret
from retort.db import Database, keys
from retort.db.session import database_now
from retort.settings import Settings
from retort_api.app import create_app
from support.api_harness import LOCAL
from support.api_harness import SPEC as LOCAL_SPEC
from support.identity import add_key

SPEC = {**LOCAL_SPEC, "data": {"dataset": "VisDrone"}}


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def create(client: TestClient, **about: Any) -> dict[str, Any]:
    answer = client.post("/v1/keys", json={"name": "ci", "role": "submitter", **about})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_new_key_works_at_once_and_its_secret_is_shown_once_and_kept_nowhere(client: TestClient, database: Database):
    made = create(client, owner="ann")

    assert is_secret(made["secret"])
    mine = client.get("/v1/me", headers=bearer(made["secret"])).json()
    assert (mine["owner"], mine["project"], mine["role"]) == ("ann", "default", "submitter")
    assert "service:read" not in mine["scopes"]
    listed = client.get("/v1/keys")
    assert made["id"] in [one["id"] for one in listed.json()["data"]]
    assert made["secret"] not in listed.text
    with database.read() as session:
        assert made["secret"] not in str(vars(keys.get(session, made["id"])))


def test_what_is_submitted_with_a_key_belongs_to_its_owner(client: TestClient):
    ann = bearer(create(client, owner="ann")["secret"])

    assert client.post("/v1/jobs", json=SPEC, headers=ann).json()["owner"] == "ann"
    for query in ("owner=bob", "priority=1", "project=other"):
        refused = client.post(f"/v1/jobs?{query}", json=SPEC, headers=ann)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden"), query
    job = client.post("/v1/jobs?owner=ann&priority=-5", json=SPEC, headers=ann).json()
    raised = client.patch(f"/v1/jobs/{job['id']}", json={"priority": 50}, headers=ann)
    assert (raised.status_code, raised.json()["code"]) == (403, "forbidden")


def test_a_rerun_belongs_to_who_asks_and_is_no_more_urgent_than_they_may_ask_for(client: TestClient):
    job = client.post("/v1/jobs?owner=boss&priority=90", json=SPEC).json()
    ann = bearer(create(client, owner="ann")["secret"])

    again = client.post(f"/v1/jobs/{job['id']}/clone", headers=ann).json()
    by_operator = client.post(f"/v1/jobs/{job['id']}/clone").json()

    assert (again["owner"], again["priority"]) == ("ann", 0)
    assert (by_operator["owner"], by_operator["priority"]) == ("boss", 90)


def test_an_idempotency_key_is_one_owners_and_counts_the_whole_request(client: TestClient):
    ann, bob = (bearer(create(client, owner=owner)["secret"]) for owner in ("ann", "bob"))
    key = {"Idempotency-Key": "k"}

    first = client.post("/v1/jobs", json=SPEC, headers={**ann, **key})
    again = client.post("/v1/jobs", json=SPEC, headers={**ann, **key})
    others = client.post("/v1/jobs", json=SPEC, headers={**bob, **key})
    urgent = client.post("/v1/jobs?priority=-1", json=SPEC, headers={**ann, **key})

    assert again.json()["id"] == first.json()["id"] != others.json()["id"]
    assert others.json()["owner"] == "bob"
    assert (urgent.status_code, urgent.json()["code"]) == (422, "idempotency_key_reused")


def test_an_idempotency_key_that_has_expired_makes_something_new(settings: Settings, client: TestClient):
    key = {"Idempotency-Key": "k"}
    first = client.post("/v1/jobs", json=SPEC, headers=key).json()["id"]

    app = create_app(settings.model_copy(update={"keep_keys_s": 0.0}))
    with TestClient(app, base_url=LOCAL, headers=client.headers) as later:
        assert later.post("/v1/jobs", json={**SPEC, "name": "other"}, headers=key).json()["id"] != first


def test_a_key_ends_when_it_is_revoked_or_expires(client: TestClient):
    made = create(client)
    assert client.get("/v1/me", headers=bearer(made["secret"])).status_code == 200

    for _ in range(2):
        assert client.post(f"/v1/keys/{made['id']}/revoke").json()["revoked_at"]
        refused = client.get("/v1/me", headers=bearer(made["secret"]))
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
    assert refused.headers["WWW-Authenticate"].startswith("Bearer ")
    short = create(client, expires_in_s=0.001)
    assert client.get("/v1/me", headers=bearer(short["secret"])).status_code == 401


def test_a_rotated_key_works_for_a_while_beside_its_successor(client: TestClient):
    old = create(client, owner="ann", scopes=["jobs:read"])
    mine = bearer(old["secret"])

    new = client.post("/v1/me/rotate", json={"grace_s": 60}, headers=mine).json()

    assert new["secret"] != old["secret"]
    assert (new["owner"], new["scopes"], new["role"]) == ("ann", ["jobs:read"], "submitter")
    assert client.get("/v1/me", headers=mine).status_code == 200
    assert client.get("/v1/me", headers=bearer(new["secret"])).status_code == 200
    assert client.post(f"/v1/keys/{new['id']}/rotate", json={"grace_s": 0}).status_code == 201
    assert client.get("/v1/me", headers=bearer(new["secret"])).status_code == 401
    ended = client.post(f"/v1/keys/{new['id']}/rotate", json={})
    assert (ended.status_code, ended.json()["code"]) == (409, "key_ended")


def test_a_key_gives_no_scope_that_it_lacks(client: TestClient):
    clerk = bearer(create(client, role="operator", scopes=["service:operate"])["secret"])

    refused = client.post("/v1/keys", json={"name": "x", "role": "operator"}, headers=clerk)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    listed = client.get("/v1/keys", headers=clerk).json()["data"]
    whole = next(one["id"] for one in listed if one["name"] == "operator")
    assert client.post(f"/v1/keys/{whole}/rotate", json={}, headers=clerk).status_code == 403
    given = client.post(
        "/v1/keys", json={"name": "x", "role": "operator", "scopes": ["service:operate"]}, headers=clerk
    )
    assert given.status_code == 201


@pytest.mark.parametrize(
    ("change", "status"),
    [({"role": "reader", "scopes": ["jobs:write"]}, 422), ({"project": "nowhere"}, 404), ({"owner": "a b"}, 422)],
)
def test_a_key_that_cannot_be_is_refused(client: TestClient, change: dict[str, Any], status: int):
    assert client.post("/v1/keys", json={"name": "x", "role": "submitter", **change}).status_code == status


def test_a_browser_logs_in_once_by_a_link_and_its_cookie_opens_pages_and_streams(client: TestClient, job_id: str):
    made = create(client, owner="ann")
    link = client.post("/v1/login-links", headers=bearer(made["secret"])).json()["path"]
    path, _, token = link.partition("#")
    browser = TestClient(client.app, base_url=LOCAL)

    assert browser.get(path).status_code == 200
    assert browser.get("/docs").status_code == 401
    answer = browser.post("/login", json={"token": token})

    assert answer.json()["next"] == "/"
    cookie = answer.headers["Set-Cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=lax", "Path=/"))
    assert browser.get("/docs").status_code == browser.get("/openapi.json").status_code == 200
    assert browser.get("/v1/me").json()["owner"] == "ann"
    client.post(f"/v1/jobs/{job_id}/cancel")
    assert "event: end" in browser.get(f"/v1/jobs/{job_id}/stream").text
    again = TestClient(client.app, base_url=LOCAL).post("/login", json={"token": token})
    assert (again.status_code, again.json()["code"]) == (403, "link_used")
    client.post(f"/v1/keys/{made['id']}/revoke")
    assert browser.get("/docs").status_code == 401, "it has ended with the key"


def test_the_sessions_that_a_session_has_opened_end_with_the_key_of_the_first(client: TestClient):
    made = create(client)
    opener, headers, browsers = client, bearer(made["secret"]), []
    for _ in range(3):
        token = opener.post("/v1/login-links", headers=headers).json()["path"].partition("#")[2]
        browsers.append(browser := TestClient(client.app, base_url=LOCAL))
        browser.post("/login", json={"token": token})
        assert browser.get("/v1/me").status_code == 200
        opener, headers = browser, {}

    client.post(f"/v1/keys/{made['id']}/revoke")
    assert [browser.get("/v1/me").status_code for browser in browsers] == [401, 401, 401]


def test_a_secret_opens_only_what_it_is_for(client: TestClient):
    made = create(client)
    token = client.post("/v1/login-links", headers=bearer(made["secret"])).json()["path"].partition("#")[2]
    browser = TestClient(client.app, base_url=LOCAL)
    browser.post("/login", json={"token": token})
    session = browser.cookies["retort_session"]

    stranger = TestClient(client.app, base_url=LOCAL)
    assert stranger.get("/v1/me", headers=bearer(token)).status_code == 401
    assert stranger.get("/v1/me", headers=bearer(session)).status_code == 401
    assert stranger.get("/v1/me", headers={"Cookie": f"retort_session={made['secret']}"}).status_code == 401
    assert stranger.post("/login", json={"token": made["secret"]}).status_code == 403
    assert browser.post("/v1/logout").status_code == 204
    browser.cookies.set("retort_session", session)
    assert browser.get("/v1/me").status_code == 401


def test_looking_a_job_up_again_asks_for_the_key_no_more_than_once(client: TestClient, job_id: str):
    service = client.app.state.service  # type: ignore[attr-defined]
    looked: list[int] = []
    work = service.keys._look._work
    service.keys._look._work = lambda digests: (looked.append(len(digests)), work(digests))[1]
    service.keys.forget()

    for _ in range(50):
        assert client.get(f"/v1/jobs/{job_id}").status_code == 200
    assert looked == [1]


def test_the_last_use_of_a_key_is_written_down(client: TestClient, database: Database):
    made = create(client)
    client.get("/v1/me", headers=bearer(made["secret"]))
    client.portal.call(client.app.state.service.keys.close)  # type: ignore[attr-defined, union-attr]

    with database.read() as session:
        row, now = keys.get(session, made["id"]), database_now(session)
    assert row.last_used_at is not None
    assert now - row.last_used_at < 60


def test_keys_sessions_and_links_that_ended_are_forgotten_and_valid_keys_are_not(database: Database):
    add_key(database, "old", ClientRole.READER, expires_at=1.0)
    add_key(database, "link", ClientRole.READER, expires_at=1.0, kind="link")
    with database.begin() as session:
        assert keys.forget(session, before=2.0) == 2
        assert {row.name for row in keys.page(session)} == {"operator"}
