"""People log in at an OpenID provider: with a browser by a code and PKCE, without one by a device code."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from httpx2 import URL
from retort.access import LINK_PREFIX, is_secret, new_secret
from retort.db import Database, audit, keys
from retort.db.identity_models import AuditRow, KeyRow
from retort.db.session import database_now
from retort.errors import UserError
from retort.settings import Settings
from retort_api.app import create_app
from retort_api.id_tokens import LoginRefused
from retort_api.people import admit
from retort_api.provider import Provider, ProviderAway
from servers import free_port
from sqlalchemy import select, update
from support.api_harness import LOCAL, eventually
from support.identity import HEADERS
from support.openid_provider import (
    BROWSER,
    CONFIDENTIAL,
    DEVICE,
    OTHER,
    SECRET,
    ProviderProcess,
    Visitor,
    query_of,
)

Serve = Callable[..., TestClient]
ROLES = "ml-admins=operator,ml-team=submitter"


@pytest.fixture(scope="module")
def running(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory, openid: ProviderProcess
) -> Iterator[Serve]:
    """Start the service with the provider and what else is set, once for all tests of the same settings."""
    home = tmp_path_factory.mktemp("login")
    database = f"sqlite:///{shutil.copy(sqlite_template, home / 'retort.db')}"
    known: dict[str, TestClient] = {}
    with ExitStack() as stack:

        def start(**chosen: Any) -> TestClient:
            if (name := repr(sorted(chosen.items()))) not in known:
                given = {
                    "oidc_issuer": openid.issuer, "oidc_client_id": BROWSER, "oidc_device_client_id": DEVICE,
                    "oidc_roles": ROLES, "login_limit": "", **chosen,
                }  # fmt: skip
                app = create_app(Settings(home=home, database_url=database, **given))
                client = TestClient(app, base_url=LOCAL, follow_redirects=False)
                known[name] = stack.enter_context(client)
            return known[name]

        yield start


@pytest.fixture
def serve(running: Serve) -> Serve:
    """Start the service; a browser that has not logged in comes back."""

    def start(**chosen: Any) -> TestClient:
        client = running(**chosen)
        client.cookies.clear()
        return client

    return start


def begin(browser: TestClient, query: str = "") -> str:
    """Return the address at the provider that a browser is sent to."""
    answer = browser.get(f"/login/oidc{query}")
    assert answer.status_code == 303, answer.text
    return str(answer.headers["Location"])


def come_back(browser: TestClient, address: str) -> Any:
    """Follow the provider's redirect to the service."""
    assert address.startswith(f"{LOCAL}/login/oidc/callback?")
    return browser.get(address.removeprefix(LOCAL))


def log_in(browser: TestClient, name: str, query: str = "") -> Any:
    return come_back(browser, Visitor(name).authorize(begin(browser, query)))


def refused(answer: Any, *words: str) -> None:
    """The answer is a page that says why, and gives no session."""
    assert (answer.status_code, answer.headers["Content-Type"]) == (403, "text/html; charset=utf-8"), answer.text
    assert "retort_session" not in answer.headers.get("Set-Cookie", "")
    assert all(word in answer.text for word in words), answer.text


def entries(browser: TestClient) -> list[AuditRow]:
    """Return who has done what, the latest first."""
    service = browser.app.state.service  # type: ignore[attr-defined]
    service.refusals.flush()
    with service.database.read() as session:
        return audit.entries(session)


def ids(browser: TestClient) -> set[str]:
    """Return the ids of all keys and sessions."""
    with browser.app.state.service.database.read() as session:  # type: ignore[attr-defined]
        return set(session.scalars(select(KeyRow.id)))


def test_a_person_logs_in_at_the_provider_and_the_cookie_opens_their_projects_pages_until_they_log_out(serve: Serve):
    browser = serve()
    assert 'href="/login/oidc?next=%2F"' in browser.get("/login").text
    assert browser.get("/v1/jobs").status_code == 401

    answer = log_in(browser, "ann", "?next=/v1/jobs")

    assert (answer.status_code, answer.headers["Location"]) == (303, "/v1/jobs")
    cookies = answer.headers.get_list("Set-Cookie")
    session = next(one for one in cookies if one.startswith("retort_session="))
    assert all(word in session for word in ("HttpOnly", "SameSite=lax", "Path=/", "Max-Age=432"))
    assert "retort_login" not in browser.cookies
    assert browser.get("/v1/jobs").status_code == 200
    me = browser.get("/v1/me").json()
    assert (me["owner"], me["project"], me["role"]) == ("ann@example.org", "default", "submitter")
    entry = entries(browser)[0]
    assert (entry.owner, entry.action, entry.outcome) == ("ann@example.org", "finish_login", "done")
    assert entry.key_id == me["key_id"]
    kept = browser.cookies["retort_session"]
    assert browser.post("/v1/logout").status_code == 204
    browser.cookies.set("retort_session", kept)
    assert browser.get("/v1/me").status_code == 401


def test_the_highest_role_counts_and_a_claim_names_the_project(serve: Serve):
    browser = serve(oidc_project_claim="team")
    database: Database = browser.app.state.service.database  # type: ignore[attr-defined]

    refused(log_in(browser, "boss"), "vision", "does not exist")
    refused(log_in(browser, "ann"), "team", "names no project")
    with database.begin() as session:
        keys.create_project(session, "vision", now=database_now(session))
    assert log_in(browser, "boss").status_code == 303
    me = browser.get("/v1/me").json()
    assert (me["project"], me["role"]) == ("vision", "operator")


@pytest.mark.parametrize(
    ("name", "chosen", "word"),
    [
        ("eve", {}, "gives you a role"),
        ("ned", {}, "verified"),
        ("out", {"oidc_domains": "example.org"}, "elsewhere.example"),
        ("ann", {"oidc_role_claim": "realm_access.roles"}, "gives you a role"),
        ("ann", {"oidc_name_claim": "preferred_username"}, "preferred_username"),
    ],
)
def test_whom_nothing_lets_in_gets_a_page_that_says_so_and_nothing_else(
    serve: Serve, name: str, chosen: dict[str, Any], word: str
):
    browser = serve(**chosen)
    before = ids(browser)

    refused(log_in(browser, name), word)
    assert browser.get("/v1/me").status_code == 401
    entry = entries(browser)[0]
    assert (entry.action, entry.outcome, entry.owner.partition("@")[0].lower()) == (
        "finish_login",
        "login_refused",
        name,
    )
    assert ids(browser) == before


@pytest.mark.parametrize(
    "changed",
    [
        {"email": None}, {"email": ["ann@example.org"]}, {"email": "ann@x@example.org"}, {"email": "ann example.org"},
        {"email": "an\u212a@example.org"}, {"email": "\u0430nn@example.org"}, {"email": "ann@example.org\n"},
        {"email": "a" * 60 + "@example.org"}, {"email": "<b>@example.org"}, {"email": "ann@example.org.x.example"},
        {"email": "ann@notexample.org"}, {"email_verified": None}, {"email_verified": "false"}, {"email_verified": [1]},
        {"groups": None}, {"groups": []}, {"groups": "ml-team,ml-admins"}, {"groups": [["ml-team"]]},
        {"groups": {"ml-team": 1}}, {"groups": ["ML-TEAM", "ml-team "]}, {"groups": 5},
    ],
)  # fmt: skip
def test_no_shape_of_claims_lets_in_whom_nothing_names(changed: dict[str, Any]):
    settings = Settings(
        oidc_issuer="https://id.example.org", oidc_client_id=BROWSER, oidc_roles=ROLES, oidc_domains="example.org"
    )  # fmt: skip
    right = {"sub": "1", "email": "Ann@Example.org", "email_verified": True, "groups": ["ml-team"]}

    assert admit(right, settings).owner == "ann@example.org"
    assert admit({**right, "groups": "ml-admins"}, settings).role == "operator"
    with pytest.raises(LoginRefused):
        admit({name: value for name, value in {**right, **changed}.items() if value is not None}, settings)


def test_the_name_of_the_services_own_owner_is_nobodys():
    settings = Settings(
        oidc_issuer="https://id.example.org", oidc_client_id=BROWSER, oidc_roles=ROLES, oidc_name_claim="nick",
        oidc_role_claim="realm_access.roles",
    )  # fmt: skip
    claims = {"sub": "1", "nick": "ann", "realm_access": {"roles": ["ml-team"]}}
    assert admit(claims, settings).owner == "ann"
    with pytest.raises(LoginRefused, match="cannot be a name"):
        admit({**claims, "nick": "default"}, settings)


def test_without_roles_people_of_the_domains_are_readers(serve: Serve):
    browser = serve(oidc_roles={}, oidc_domains="example.org")
    assert log_in(browser, "eve").status_code == 303
    assert browser.get("/v1/me").json()["role"] == "reader"
    refused(log_in(browser, "out"))


def test_a_login_belongs_to_the_browser_that_has_begun_it(serve: Serve):
    browser = serve()
    back = Visitor("ann").authorize(begin(browser))
    stranger = TestClient(browser.app, base_url=LOCAL, follow_redirects=False)

    refused(come_back(stranger, back), "begun no login")
    begin(stranger)
    refused(come_back(stranger, back), "begun last")
    altered = re.sub("state=[^&]+", "state=x", back)
    refused(come_back(browser, altered), "begun last")
    refused(come_back(browser, back), "begun no login")  # the cookie goes with the first try


def test_a_cookie_of_a_login_cannot_be_made_up_or_kept(serve: Serve, monkeypatch: pytest.MonkeyPatch):
    browser = serve()
    back = Visitor("ann").authorize(begin(browser))
    signed = browser.cookies["retort_login"]
    service = browser.app.state.service  # type: ignore[attr-defined]
    attempt = service.links.stamper("retort.login").loads(signed)
    for forged in (
        signed[:-9] + ("A" if signed[-9] != "A" else "B") + signed[-8:],  # the last has bits that say nothing
        service.links.stamper("retort.download").dumps(attempt),
        service.links.stamper("retort.login").dumps(attempt[:3]),
    ):
        stranger = TestClient(browser.app, base_url=LOCAL, follow_redirects=False)
        stranger.cookies.set("retort_login", forged)
        refused(come_back(stranger, back), "begun no login")
    monkeypatch.setattr("retort_api.routes.sign_in.ATTEMPT_S", -1)
    refused(come_back(browser, back), "too long ago")


def test_by_https_no_neighbouring_host_can_set_the_cookie_of_a_login(serve: Serve):
    browser = serve(url="https://retort.example/")
    answer = browser.get("/login/oidc")
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-retort_login=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=lax"} <= set(cookie.split("; "))
    asked = query_of(answer.headers["Location"])
    assert asked["redirect_uri"] == "https://retort.example/login/oidc/callback"
    value = cookie.partition("=")[2].partition(";")[0]
    tossed = browser.get(
        f"/login/oidc/callback?code=x&state={asked['state']}", headers={"Cookie": f"retort_login={value}"}
    )
    refused(tossed, "begun no login")


def test_a_code_works_once(serve: Serve):
    browser = serve()
    back = Visitor("ann").authorize(begin(browser))
    cookie = browser.cookies["retort_login"]
    assert come_back(browser, back).status_code == 303

    again = TestClient(browser.app, base_url=LOCAL, follow_redirects=False)
    again.cookies.set("retort_login", cookie)
    refused(come_back(again, back), "invalid_grant")


@pytest.mark.parametrize(("field", "value"), [("nonce", None), ("nonce", "another"), ("code_challenge", "A" * 43)])
def test_a_code_that_was_asked_for_with_another_nonce_or_challenge_opens_nothing(
    serve: Serve, field: str, value: str | None
):
    """Somebody has changed the address on its way to the provider."""
    browser = serve()
    address = URL(begin(browser))
    changed = address.copy_remove_param(field) if value is None else address.copy_set_param(field, value)
    refused(come_back(browser, Visitor("ann").authorize(str(changed))), "not valid" if field == "nonce" else "refuses")


def test_the_provider_is_always_asked_for_a_code_with_pkce(serve: Serve):
    browser = serve()
    first, second = (query_of(begin(browser)) for _ in range(2))

    assert (first["response_type"], first["code_challenge_method"]) == ("code", "S256")
    for field in ("state", "nonce", "code_challenge"):
        assert len(first[field]) >= 43
        assert first[field] != second[field]
    address = URL(begin(browser)).copy_remove_param("code_challenge").copy_remove_param("code_challenge_method")
    back = Visitor("ann").authorize(str(address))
    assert query_of(back)["error"] == "invalid_request"
    refused(come_back(browser, back))


def test_a_code_for_another_client_and_an_answer_of_another_issuer_are_refused(serve: Serve, openid: ProviderProcess):
    browser = serve()
    address = URL(begin(browser)).copy_set_param("client_id", OTHER)
    refused(come_back(browser, Visitor("ann").authorize(str(address))), "invalid_grant")
    back = URL(Visitor("ann").authorize(begin(browser)))
    assert query_of(str(back))["iss"] == openid.issuer
    refused(come_back(browser, str(back.copy_set_param("iss", "https://elsewhere.example"))))


def test_who_does_not_consent_is_not_logged_in(serve: Serve):
    browser = serve()
    back = Visitor("ann").authorize(begin(browser), allow=False)
    assert query_of(back)["error"] == "access_denied"
    refused(come_back(browser, back), "have refused it")


def test_a_client_with_a_secret_proves_it_and_nobody_sees_it(serve: Serve):
    browser = serve(oidc_client_id=CONFIDENTIAL, oidc_client_secret=SECRET)
    assert log_in(browser, "ann").status_code == 303
    assert SECRET not in repr(browser.app.state.service.settings)  # type: ignore[attr-defined]
    wrong = serve(oidc_client_id=CONFIDENTIAL, oidc_client_secret=SECRET[1:])
    answer = log_in(wrong, "ann")
    assert answer.status_code == 503
    assert "invalid_client" in answer.text


def test_a_login_leads_to_no_other_site(serve: Serve):
    browser = serve()
    slashes = (
        "//x.example",
        "https://x.example",
        "/\\x.example",
        "\\\\x.example",
        "/\t/x.example",
        "javascript:alert(1)",
    )
    for path in (*slashes, "x", " /x", "/x y", "", "/x\r\nSet-Cookie: a=b"):
        answer = browser.get("/login/oidc", params={"next": path})
        assert (answer.status_code, "Set-Cookie" in answer.headers) == (422, False), path
    assert log_in(browser, "ann", "?next=/v1/jobs%3Fstate=queued").headers["Location"] == "/v1/jobs?state=queued"


def test_while_the_provider_is_away_a_page_says_so_and_keys_work_on(serve: Serve):
    browser = serve(oidc_issuer=f"http://127.0.0.1:{free_port()}/o")

    for _ in range(2):
        answer = browser.get("/login/oidc")
        assert (answer.status_code, answer.headers["Content-Type"]) == (503, "text/html; charset=utf-8")
        assert "at the moment" in answer.text
    assert browser.post("/v1/login/device").json()["code"] == "login_unavailable"
    assert browser.get("/login").status_code == browser.get("/v1/me", headers=HEADERS).status_code == 200


class Misbehaving:
    """A server at the address of a provider that sends one answer to everything, or none."""

    def __init__(self, answer: Callable[[str], bytes | None]) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.issuer = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._answer = answer(self.issuer)
        self.asked = 0
        self._held: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self._held.append(connection)
                self.asked += 1
                if self._answer is not None:
                    connection.recv(65_536)
                    with suppress(OSError):
                        connection.sendall(self._answer)
                    connection.close()

    def hang_up(self) -> None:
        """End the connections that wait for an answer."""
        for connection in self._held:
            connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for connection in (self._socket, *self._held):
            connection.close()


def said(document: Any, status: str = "200 OK", more: str = "") -> bytes:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


def metadata(issuer: str, /, **changed: Any) -> dict[str, Any]:
    names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
    return {"issuer": issuer, **{name: f"{issuer}/{name}" for name in names}, **changed}


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: b"",
        lambda _: b"SSH-2.0\r\n",
        lambda issuer: said(metadata(issuer), "500 Broken"),
        lambda issuer: said(metadata(issuer), "302 Found", "Location: https://elsewhere.example\r\n"),
        lambda _: said([1]),
        lambda _: said(b"[" * 100_000),
        lambda _: said(b"\xff"),
        lambda issuer: said({**metadata(issuer), "x": "x" * (1 << 20)}),
        lambda issuer: said(metadata(issuer, token_endpoint="http://elsewhere.example")),  # noqa: S106
        lambda issuer: said(metadata(issuer, jwks_uri="file:///etc/passwd")),
        lambda issuer: said(metadata(issuer, authorization_endpoint="javascript:alert(1)")),
        lambda issuer: said(metadata(issuer, token_endpoint=["x"])),
        lambda issuer: said(metadata(issuer, issuer="https://elsewhere.example")),
    ],
)
def test_a_provider_that_does_not_answer_as_one_does_is_not_used(answer: Any, tmp_path: Path, sqlite_url: str):
    with closing(Misbehaving(answer)) as server:
        given = {"oidc_issuer": server.issuer, "oidc_client_id": BROWSER, "oidc_domains": "*"}
        provider = Provider(Settings(home=tmp_path, database_url=sqlite_url, **given))
        with pytest.raises(ProviderAway):
            asyncio.run(provider.metadata())


def test_a_provider_that_never_answers_holds_up_nobody_else(serve: Serve, monkeypatch: pytest.MonkeyPatch):
    for name in ("_PATIENCE_S", "_PAUSE_S"):  # however slow this machine is
        monkeypatch.setattr(f"retort_api.provider.{name}", 300.0)
    with closing(Misbehaving(lambda _: None)) as server:
        browser = serve(oidc_issuer=server.issuer)
        with ThreadPoolExecutor(60) as pool:
            logins = [pool.submit(browser.get, "/login/oidc") for _ in range(60)]  # more than there are threads
            assert browser.get("/v1/jobs", headers=HEADERS).status_code == 200
            assert not any(login.done() for login in logins)
            eventually(lambda: server.asked or None, within_s=60)
            server.hang_up()
            assert {login.result().status_code for login in logins} == {503}
        assert server.asked == 1, "who waits for the same answer is told with the first"


def test_a_provider_that_is_another_than_it_should_be_is_not_used(serve: Serve, openid: ProviderProcess):
    browser = serve(oidc_issuer=f"{openid.issuer}/")
    answer = browser.get("/login/oidc")
    assert answer.status_code == 503
    assert openid.issuer in answer.text


def test_logins_are_counted_by_address(serve: Serve):
    browser = serve(login_limit="3/minute")
    assert [browser.get("/login/oidc").status_code for _ in range(4)] == [303, 303, 303, 429]
    limited = browser.post("/v1/login/device")
    assert (limited.status_code, limited.json()["code"]) == (429, "rate_limited")
    assert int(limited.headers["Retry-After"]) > 0
    link = browser.post("/login", json={"token": new_secret(LINK_PREFIX)})
    assert link.status_code == 429, "links that are tried count, too"


def test_a_device_is_approved_in_any_browser_and_gets_a_key_that_ends(serve: Serve):
    client = serve(session_s=3600.0)
    assert client.get("/v1/login").json()["device"] == "/v1/login/device"
    login = client.post("/v1/login/device").json()
    asked = {"device_code": login["device_code"], "name": "laptop"}

    waiting = client.post("/v1/login/device/key", json=asked)
    assert (waiting.status_code, waiting.json()) == (202, {"state": "pending"})
    hurried = client.post("/v1/login/device/key", json=asked)
    assert (hurried.status_code, hurried.json()) == (202, {"state": "slow_down"})
    Visitor("ann").decide(login["verification_uri_complete"])
    made = client.post("/v1/login/device/key", json=asked)

    assert made.status_code == 201
    key = made.json()
    assert is_secret(key["secret"])
    assert (key["name"], key["owner"], key["role"]) == ("laptop", "ann@example.org", "submitter")
    mine = {"Authorization": f"Bearer {key['secret']}"}
    assert client.get("/v1/me", headers=mine).json()["key_id"] == key["id"]
    assert key["id"] in [one["id"] for one in client.get("/v1/keys", headers=HEADERS).json()["data"]]
    assert client.post("/v1/me/rotate", json={}, headers=mine).status_code == 404
    assert client.post(f"/v1/keys/{key['id']}/rotate", json={}, headers=HEADERS).json()["code"] == "key_ended"
    assert client.post("/v1/login/device/key", json=asked).status_code == 202  # asked too soon
    assert client.post("/v1/login/device/key", json=asked).status_code == 403, "a code works once"
    assert client.post("/v1/logout", headers=mine).status_code == 204
    assert client.get("/v1/me", headers=mine).status_code == 401
    assert {one.outcome for one in entries(client) if one.action == "finish_device_login"} == {"done", "login_refused"}


def test_logging_out_with_a_key_of_another_kind_ends_nothing(serve: Serve):
    client = serve()
    assert client.post("/v1/logout", headers=HEADERS).status_code == 204
    assert client.get("/v1/me", headers=HEADERS).status_code == 200


def test_a_device_that_is_denied_or_whose_person_may_not_come_in_gets_nothing(serve: Serve):
    client = serve()
    for name, action in (("ann", "deny"), ("eve", "accept")):
        login = client.post("/v1/login/device").json()
        Visitor(name).decide(login["verification_uri_complete"], action)
        answer = client.post("/v1/login/device/key", json={"device_code": login["device_code"]})
        assert (answer.status_code, answer.json()["code"]) == (403, "login_refused")


def test_a_device_code_that_nobody_has_approved_in_time_is_void(serve: Serve, openid: ProviderProcess):
    client = serve()
    login = client.post("/v1/login/device").json()
    openid.expire(login["device_code"])
    answer = client.post("/v1/login/device/key", json={"device_code": login["device_code"]})
    assert (answer.status_code, answer.json()["code"]) == (410, "login_expired")


def test_a_browsers_client_cannot_redeem_a_devices_code(serve: Serve, openid: ProviderProcess):
    """An ID token counts for the client that asked for it alone."""
    client = serve(oidc_device_client_id="")
    login = httpx2.post(f"{openid.issuer}/device-authorization/", data={"client_id": DEVICE, "scope": "openid"}).json()
    Visitor("ann").decide(login["verification_uri_complete"])
    answer = client.post("/v1/login/device/key", json={"device_code": login["device_code"]})
    assert answer.status_code in {403, 410, 503}
    assert "secret" not in answer.json()


def test_keys_of_logins_that_have_ended_are_forgotten_and_others_kept(serve: Serve):
    client = serve()
    database: Database = client.app.state.service.database  # type: ignore[attr-defined]
    login = client.post("/v1/login/device").json()
    Visitor("ann").decide(login["verification_uri_complete"])
    made = client.post("/v1/login/device/key", json={"device_code": login["device_code"]}).json()
    with database.begin() as session:
        session.execute(update(KeyRow).where(KeyRow.id == made["id"]).values(expires_at=5.0))
        assert keys.forget(session, before=10.0) == 1
        assert session.get(KeyRow, made["id"]) is None


def test_without_a_provider_nothing_of_it_is_there(small_client: TestClient):
    assert small_client.get("/v1/login").json() == {"issuer": None, "browser": None, "device": None}
    assert "/login/oidc" not in small_client.get("/login").text
    for method, path in (("GET", "/login/oidc"), ("GET", "/login/oidc/callback"), ("POST", "/v1/login/device")):
        assert small_client.request(method, path).json()["code"] == "not_found"


@pytest.mark.parametrize(
    ("chosen", "word"),
    [
        ({"oidc_issuer": "http://id.example.org"}, "https"),
        ({"oidc_issuer": "https://id.example.org?x=1"}, "https"),
        ({"oidc_client_id": ""}, "RETORT_OIDC_CLIENT_ID"),
        ({"oidc_roles": ""}, "RETORT_OIDC_DOMAINS"),
        ({"oidc_roles": "ml-team=owner"}, "owner"),
        ({"oidc_scopes": "email"}, "openid"),
    ],
)
def test_settings_by_which_nobody_or_everybody_could_come_in_are_refused(chosen: dict[str, Any], word: str):
    from retort.settings import explain_settings

    given = {"oidc_issuer": "https://id.example.org", "oidc_client_id": "retort", "oidc_roles": ROLES, **chosen}
    with pytest.raises(ValueError, match=r"RETORT|oidc") as caught:
        Settings(**given)
    told = explain_settings(caught.value)
    assert isinstance(told, UserError)
    assert word in told.message
