"""Nobody comes in without a key that allows it, by whatever road; and nobody sees another project's rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient
from retort.access import PUBLIC, SCOPES, Admission, ClientRole, Scope, new_secret
from retort.db import Database, keys
from retort.db.session import database_now
from retort.settings import Settings
from retort_api import app as app_module
from retort_api.app import create_app
from retort_api.deps import GuardedRoute, guarded
from retort_api.pages.page_router import form_paths
from support.api_harness import LOCAL, SPEC, SWEEP
from support.identity import HEADERS, add_key, secret_of

OPEN = {
    "/livez",
    "/readyz",
    "/docs/{name}",
    "/login",
    "/login/key",
    "/login/oidc",
    "/login/oidc/callback",
    "/v1/login",
    "/v1/login/device",
    "/v1/login/device/key",
    "/v1/downloads/{token}",
    "/static/{name}",
    "/static/{version}/{name:path}",
    "/theme",
    "/llms.txt",
}
"""All that strangers may see."""
FORM = {"Content-Type": "application/x-www-form-urlencoded", "Origin": LOCAL}
SILENT = {401, 403, 404, 405}
FILLED = {"job_id": "job_" + "0" * 32, "sweep_id": "swp_" + "0" * 32, "name": "x", "sha256": "0" * 64}


@dataclass(frozen=True)
class Walker:
    """An application without any lifespan, and all its routes."""

    app: FastAPI
    database: Database

    def routes(self) -> Iterator[tuple[str, str, Scope | Admission]]:
        for route in guarded(self.app.routes):
            assert route.demanded is not None
            for method in sorted(route.methods):
                yield method, route.path, route.demanded

    def ask(self, method: str, path: str, headers: dict[str, str]) -> Any:
        stranger = TestClient(self.app, base_url=LOCAL)
        if method == "POST" and form_paths(self.app.routes)(path):
            headers = {**headers, **FORM}
        return stranger.request(method, path, headers=headers, follow_redirects=False)


@pytest.fixture
def walker(small_settings: Settings) -> Iterator[Walker]:
    unlimited = {"rate_limit": "", "failed_key_limit": ""}  # that many wrong keys are refused for their number
    app = create_app(small_settings.model_copy(update=unlimited))
    yield Walker(app, app.state.service.database)
    app.state.service.database.close()


def code_of(answer: Any) -> str:
    """Return the code of a refusal, which a page tells in its last lines."""
    if answer.headers["Content-Type"].startswith("text/html"):
        return re.findall(r"Status \d+, <code>(\w+)</code>", answer.text)[0]
    return str(answer.json()["code"])


def turns_away(answer: Any) -> bool:
    """Return True if the answer to somebody unknown is a refusal, or leads a browser to the login."""
    led = answer.status_code == 303 and answer.headers["Location"].partition("?")[0] == "/login"
    return led or answer.status_code == 401


def filled(path: str) -> str:
    return re.sub(r"\{(\w+)(:path)?\}", lambda found: FILLED.get(found[1], "x" * 8), path)


def test_only_the_probes_the_login_and_the_pages_files_are_public(walker: Walker):
    assert {path for _, path, demanded in walker.routes() if demanded is PUBLIC} == OPEN


def wrong_keys(database: Database) -> dict[str, dict[str, str]]:
    add_key(database, "expired", ClientRole.OPERATOR, expires_at=1.0)
    revoked = add_key(database, "revoked", ClientRole.OPERATOR)
    with database.begin() as session:
        now = database_now(session)
        keys.revoke(session, next(row.id for row in keys.page(session) if row.name == "revoked"), now=now)
    right = secret_of("operator")
    return {
        "none": {},
        "unknown": {"Authorization": f"Bearer {new_secret()}"},
        "expired": {"Authorization": f"Bearer {secret_of('expired')}"},
        "revoked": revoked,
        "mistyped": {"Authorization": f"Bearer {right[:-1]}{'x' if right[-1] != 'x' else 'y'}"},
        "another case": {"Authorization": f"Bearer {right.swapcase()}"},
        "basic": {"Authorization": f"Basic {right}"},
        "bare": {"Authorization": right},
        "empty": {"Authorization": ""},
        "two": {"Authorization": f"Bearer {right}, Bearer {right}"},
        "hostile": {"Authorization": "Bearer rtt_' OR 1=1 --"},
        "as a cookie": {"Cookie": f"retort_session={right}"},
        "elsewhere": {"X-Api-Key": right},
    }


def test_every_route_refuses_every_wrong_key_before_it_reads_anything(walker: Walker):
    let_in = [
        (kind, method, path)
        for kind, headers in wrong_keys(walker.database).items()
        for method, path, demanded in walker.routes()
        if demanded is not PUBLIC
        and not turns_away(walker.ask(method, filled(path), {**headers, "Content-Type": "application/json"}))
    ]
    assert let_in == []


def test_a_key_in_the_query_opens_nothing(walker: Walker):
    right = secret_of("operator")
    for query in ("key", "token", "access_token", "api_key", "Authorization"):
        assert walker.ask("GET", f"/v1/jobs?{query}={right}", {}).status_code == 401


VARIANTS = (
    "{}/",
    "/{}",
    "{}//",
    "{}/.",
    "{}%2f",
    "{}%00",
    "{};x=1",
    "{}?x=1",
    "{}#x",
    "//localhost{}",
    "{}/../v1/jobs",
)


def test_no_spelling_of_an_address_and_no_method_comes_past_the_key(walker: Walker):
    """Spellings that other services were breached by: doubled and trailing slashes, escapes, other methods."""
    seen = []
    paths = {path for _, path, demanded in walker.routes() if demanded is not PUBLIC}
    for path in sorted(filled(path) for path in paths):
        spelt = [variant.format(path) for variant in VARIANTS]
        encoded = "".join(f"%{ord(letter):02x}" if letter != "/" else letter for letter in path)
        for address in (*spelt, path.upper(), encoded, path.replace("/v1/", "/v1//"), path.replace("/v1/", "/V1/")):
            answer = walker.ask("GET", address, {})
            seen += [("GET", address, 401 if turns_away(answer) else answer.status_code)]
        for method in ("HEAD", "OPTIONS", "TRACE", "PUT", "PATCH", "DELETE", "POST", "PROPFIND", "get"):
            answer = walker.ask(method, path, {"Content-Type": "application/json"})
            seen += [(method, path, 401 if turns_away(answer) else answer.status_code)]
    assert [one for one in seen if one[2] not in SILENT | {400, 421}] == []


@pytest.mark.parametrize("role", ClientRole)
def test_a_key_opens_what_its_scopes_say_and_nothing_else(walker: Walker, role: ClientRole):
    headers = add_key(walker.database, "somebody", role)
    wrong = []
    for method, path, demanded in walker.routes():
        if demanded is PUBLIC or path.endswith(("/stream", "/quota")):  # another project's quota is forbidden
            continue
        answer = walker.ask(method, filled(path), headers)
        forbidden = answer.status_code == 403 and (method == "HEAD" or code_of(answer) == "forbidden")
        if forbidden is not (isinstance(demanded, Scope) and demanded not in SCOPES[role]):
            wrong.append((method, path, demanded, answer.status_code))
        elif forbidden and method != "HEAD":
            assert str(demanded) in answer.text
    assert wrong == []


def test_a_key_with_one_scope_opens_no_other(walker: Walker):
    for number, scope in enumerate(Scope):
        headers = add_key(walker.database, f"one-{number}", ClientRole.OPERATOR, scopes=frozenset({scope}))
        for method, path, demanded in walker.routes():
            if isinstance(demanded, Scope) and demanded is not scope and method in {"GET", "DELETE"}:
                assert walker.ask(method, filled(path), headers).status_code == 403, (scope, method, path)


def test_lists_show_ones_project_alone_and_an_operator_all(client: TestClient, database: Database):
    first = client.post("/v1/jobs", json=SPEC).json()["id"]
    sweep = client.post("/v1/sweeps", json=SWEEP).json()["id"]
    foreign = add_key(database, "foreign", ClientRole.SUBMITTER, project="elsewhere")
    spec = {**SPEC, "data": {"dataset": "VisDrone"}}
    second = client.post("/v1/jobs", json=spec, headers=foreign).json()["id"]

    assert [one["id"] for one in client.get("/v1/jobs", headers=foreign).json()["data"]] == [second]
    assert {one["id"] for one in client.get("/v1/jobs", headers=HEADERS).json()["data"]} == {first, second}
    for path in ("/v1/jobs?state=queued", "/v1/jobs?q=first", "/v1/jobs?owner=default&order=name"):
        assert first not in client.get(path, headers=foreign).text
    assert sweep not in client.get("/v1/sweeps", headers=foreign).text
    every = {"action": "cancel", "filter": {"state": ["queued"]}}
    cancelled = client.post("/v1/bulk", json=every, headers=foreign).json()["data"]
    assert [one["id"] for one in cancelled] == [second]
    named = {"action": "cancel", "ids": [first]}
    assert client.post("/v1/bulk", json=named, headers=foreign).json()["data"][0]["code"] == "job_not_found"
    assert client.get(f"/v1/jobs/{first}").json()["state"] == "queued"


def test_a_route_without_a_scope_keeps_the_application_from_starting(
    small_settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    forgetful = APIRouter()
    forgetful.add_api_route("/forgotten", lambda: None)
    half = APIRouter(route_class=GuardedRoute)
    half.add_api_route("/half", lambda: None)
    for router, path in ((forgetful, "/forgotten"), (half, "/half")):
        monkeypatch.setattr(app_module, "ROUTERS", (*app_module.ROUTERS[:1], router))
        with pytest.raises(RuntimeError, match=path):
            create_app(small_settings)


def test_strangers_are_told_that_the_service_lives_and_no_more(walker: Walker):
    live, ready = (walker.ask("GET", path, {}).json() for path in ("/livez", "/readyz"))

    assert (live["status"], live["version"]) == ("ok", None)
    assert ready["status"] in {"ok", "degraded"}
    assert {one["detail"] for one in ready["checks"].values()} == {None}
    assert ready["oldest_queued_age_s"] is None
    submitter = add_key(walker.database, "ann", ClientRole.SUBMITTER)
    assert {one["duration_ms"] for one in walker.ask("GET", "/readyz", submitter).json()["checks"].values()} == {None}
    assert walker.ask("GET", "/livez", {"Authorization": "Bearer nonsense"}).status_code == 200


def test_the_contract_names_the_scope_of_every_operation(walker: Walker):
    document = walker.app.openapi()
    for method, path, demanded in walker.routes():
        operation = document["paths"].get(path.replace(":path", ""), {}).get(method.lower())
        if operation is None:
            continue
        if demanded is PUBLIC:
            assert {} in operation["security"]
        else:
            assert operation["x-required-scope"] == demanded
            assert {"401", "403"} <= set(operation["responses"])


def test_only_a_few_modules_open_sessions_that_see_every_project():
    """What a client can reach goes through service.read(caller) or service.begin(caller)."""
    root = Path(app_module.__file__).parent
    unrestricted = re.compile(r"database\.(read|begin|autocommit_read)\(\)")
    found = {path.name for path in root.rglob("*.py") if unrestricted.search(path.read_text())}
    assert found <= {
        "deps.py", "keyring.py", "queue_view.py", "workers.py", "usage.py", "metrics.py", "streams.py", "health.py",
        "login.py", "sign_in.py", "terms.py", "links.py", "disk_budget.py", "audit.py", "oversight.py",
        "predictions.py",
    }, "each of these looks at one's own row, at none, or at what the operator alone is shown"  # fmt: skip
