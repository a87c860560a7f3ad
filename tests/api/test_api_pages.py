"""Pages and their forms: who comes in, what is refused and how people are told, and what browsers may keep."""

from __future__ import annotations

import gzip
import hashlib
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from retort.access import ClientRole, Scope
from retort.db import Database, keys
from retort.db.session import database_now
from retort.report.samples import STYLES
from retort.settings import Settings
from retort_api import static_files
from retort_api.app import create_app
from retort_api.errors import leaves
from retort_api.pages.page_router import FormRoute
from retort_api.pages.rendering import PAGE_POLICY
from sqlalchemy import event
from support.api_harness import LOCAL, SPEC
from support.identity import HEADERS, add_key, secret_of

OWN = {"Origin": LOCAL, "Sec-Fetch-Site": "same-origin"}
BROWSER = {"Accept": "text/html,*/*;q=0.8"}
_PREFIXES = {"job_id": "job_", "sweep_id": "swp_", "webhook_id": "whk_", "key_id": "key_"}
VENDOR = static_files.ROOT / "vendor"
REPORT_CSS = Path(__file__).parents[2] / "core" / "retort" / "report" / "templates" / "report.css"


@pytest.fixture
def database(small_settings: Settings) -> Iterator[Database]:
    database = Database(small_settings.database_url)
    yield database
    database.close()


@pytest.fixture
def browser(small_settings: Settings) -> Iterator[TestClient]:
    """A browser of nobody yet."""
    with TestClient(create_app(small_settings), base_url=LOCAL, headers=BROWSER, follow_redirects=False) as browser:
        yield browser


def log_in(browser: TestClient, name: str = "operator", after: str = "/") -> Any:
    return browser.post("/login/key", data={"key": secret_of(name), "next": after}, headers=OWN)


def test_a_stranger_is_led_to_the_login_and_from_there_to_the_page_that_was_wanted(browser: TestClient):
    asked = browser.get("/?state=failed&order=name")
    assert (asked.status_code, asked.headers["Location"]) == (303, "/login?next=%2F%3Fstate%3Dfailed%26order%3Dname")
    form = browser.get(asked.headers["Location"]).text
    assert 'name="next" value="/?state=failed&amp;order=name"' in form

    entered = log_in(browser, after="/?state=failed&order=name")

    assert (entered.status_code, entered.headers["Location"]) == (303, "/?state=failed&order=name")
    assert all(word in entered.headers["Set-Cookie"] for word in ("HttpOnly", "SameSite=lax", "Path=/"))
    assert browser.get("/").status_code == 200


@pytest.mark.parametrize("wanted", ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:1", ""])
def test_a_login_leads_nowhere_else(browser: TestClient, wanted: str):
    assert log_in(browser, after=wanted).headers["Location"] == "/"
    assert browser.get("/login", params={"next": wanted}).status_code == (422 if wanted else 200)


def test_a_session_by_a_key_may_do_what_the_key_may_and_ends_with_it(browser: TestClient, database: Database):
    add_key(database, "reader", ClientRole.READER, owner="ann")
    log_in(browser, "reader")
    me = browser.get("/v1/me").json()
    with database.begin() as session:
        row = next(row for row in keys.page(session) if row.name == "reader")
        keys.revoke(session, row.id, now=database_now(session))
    browser.app.state.service.keys.forget()  # type: ignore[attr-defined]

    assert (me["owner"], me["role"]) == ("ann", "reader")
    assert browser.get("/").headers["Location"] == "/login?next=%2F"


@pytest.mark.parametrize("wrong", ["", "rtt_wrong", "never made", "'; DROP TABLE keys; --", "<b>x</b>"])
def test_a_wrong_key_opens_nothing_and_is_never_shown_again(browser: TestClient, wrong: str):
    told = browser.post("/login/key", data={"key": secret_of(wrong) if wrong == "never made" else wrong}, headers=OWN)

    assert told.status_code in {403, 422}
    assert "Set-Cookie" not in told.headers
    assert not wrong or f'value="{wrong}"' not in told.text
    assert secret_of(wrong) not in told.text


def test_keys_that_are_tried_are_counted(small_settings: Settings):
    app = create_app(small_settings.model_copy(update={"login_limit": "3/minute"}))
    with TestClient(app, base_url=LOCAL, headers=BROWSER) as browser:
        statuses = [browser.post("/login/key", data={"key": "rtt_x"}, headers=OWN).status_code for _ in range(4)]
    assert statuses == [403, 403, 403, 429]


def test_logging_out_ends_the_session(browser: TestClient):
    log_in(browser)
    cookies = dict(browser.cookies)
    assert browser.post("/logout", headers=OWN).headers["Location"] == "/login"
    browser.cookies.update(cookies)
    assert browser.get("/").status_code == 303
    assert browser.post("/logout", headers=OWN).headers["Location"] == "/login", "again is harmless"


@pytest.mark.parametrize(
    ("about", "status"),
    [
        ({}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null", "Sec-Fetch-Site": "same-origin"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": LOCAL}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 303),
        ({"Origin": LOCAL}, 303),
    ],
)
def test_a_form_is_taken_from_our_own_pages_alone(browser: TestClient, about: dict[str, str], status: int):
    log_in(browser)
    assert browser.post("/theme", data={"theme": "dark"}, headers=about).status_code == status


def test_a_form_that_is_too_large_or_no_form_is_refused(browser: TestClient):
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    large = browser.post("/theme", content=b"theme=dark&next=" + b"x" * (1 << 20), headers=OWN | kind)
    unknown = browser.post("/theme", data={"theme": "dark", "more": "1"}, headers=OWN)
    text = browser.post("/theme", content=b"{}", headers=OWN | {"Content-Type": "application/json"})

    assert [answer.status_code for answer in (large, unknown, text)] == [413, 422, 415]


def test_people_are_told_of_errors_on_a_page_and_programs_in_a_problem_document(browser: TestClient):
    log_in(browser)
    page = browser.get("/?nonsense=<b>1</b>")
    program = browser.get("/v1/jobs?nonsense=1", headers={"Accept": "*/*"})
    missing = browser.get("/nowhere/<script>alert(1)</script>")

    assert page.status_code == 422
    assert page.headers["Content-Type"].startswith("text/html")
    assert "unknown parameter" in page.text
    assert program.headers["Content-Type"] == "application/problem+json"
    assert missing.status_code == 404
    assert "<script>alert" not in missing.text


def test_a_browser_that_opens_a_link_to_a_report_is_led_to_the_login_and_a_program_is_not(browser: TestClient):
    report = f"/v1/jobs/job_{'0' * 32}/artifacts/report.html"
    opened = browser.get(report, headers={"Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "navigate"})
    fetched = browser.get(report, headers={"Sec-Fetch-Dest": "empty", "Sec-Fetch-Mode": "cors"})

    assert (opened.status_code, opened.headers["Location"]) == (303, f"/login?next={quote(report, safe='')}")
    assert (fetched.status_code, fetched.json()["code"]) == (401, "unauthorized")


def test_what_a_page_says_once_it_says_once_and_nobody_else_can_have_it_said(browser: TestClient):
    log_in(browser)
    browser.post("/jobs/bulk", data={"action": "cancel"}, headers=OWN)
    assert "no job was ticked" in browser.get("/").text
    assert "no job was ticked" not in browser.get("/").text
    browser.cookies.set("retort_flash", "Send your key to evil.example")
    assert "evil.example" not in browser.get("/").text


def test_a_form_whose_session_has_ended_is_kept_on_the_page_that_says_so_and_a_file_is_not(browser: TestClient):
    typed = {"name": '"><script>alert(1)</script>', "labels": "a=1\r\nb=2", "key": ""}
    told = browser.post("/jobs/bulk?x=1", data=typed, headers=OWN)
    kept = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', told.text)
    sent = browser.post("/data", data={"name": "a"}, files={"archive": ("a.zip", b"PK")}, headers=OWN)
    large = browser.post("/jobs/bulk", data={"name": "x" * (1 << 20)}, headers=OWN)
    alien = browser.post("/jobs/bulk", data=typed, headers={"Origin": "http://evil.example"})

    assert (told.status_code, sent.status_code, large.status_code, alien.status_code) == (401, 401, 413, 403)
    assert [(name, html.unescape(value)) for name, value in kept[2:]] == [
        ("name", typed["name"]), ("labels", "a=1\nb=2"), ("key", ""),
    ]  # fmt: skip
    assert '<form method="post" action="/jobs/bulk?x=1">' in told.text
    assert not any("Send it again" in answer.text for answer in (sent, large, alien))


def test_a_reader_is_refused_on_a_page_by_every_form_that_asks_for_more(browser: TestClient, database: Database):
    add_key(database, "reader", ClientRole.READER)
    log_in(browser, "reader")
    app: Any = browser.app
    forms = [one for one in leaves(app.routes) if isinstance(one, FormRoute) and isinstance(one.demanded, Scope)]
    assert len(forms) > 30
    for route in forms:
        path = re.sub(r"\{(\w+)\}", lambda place: f"{_PREFIXES.get(place[1], '')}{32 * '0'}", route.path)
        told = browser.post(path, data={}, headers=OWN)
        assert (told.status_code, "<h1>" in told.text) == (403, True), path
    job_id = browser.post("/v1/jobs", json=SPEC, headers=HEADERS).json()["id"]
    pages = (
        "/",
        f"/jobs/{job_id}",
        f"/jobs/{job_id}/files",
        "/data",
        "/models",
        "/workers",
        "/settings",
        "/settings/webhooks",
        "/settings/quotas",
    )
    offered = {
        action for path in pages for action in re.findall(r'method="post" action="([^"]+)"', browser.get(path).text)
    }
    assert offered == {"/theme", "/logout", "/settings/sessions/end"}


def test_a_theme_is_kept_and_no_other_than_ours(browser: TestClient):
    browser.post("/theme", data={"theme": "dark"}, headers=OWN)
    assert '<html lang="en" data-theme="dark">' in browser.get("/login").text
    browser.cookies.clear()
    browser.cookies.set("retort_theme", '"><script>')
    assert '<html lang="en" data-theme="auto">' in browser.get("/login").text


def test_who_may_only_read_is_offered_no_action(browser: TestClient, database: Database):
    assert browser.post("/v1/jobs", json=SPEC, headers=HEADERS).status_code == 202
    add_key(database, "reader", ClientRole.READER)
    log_in(browser, "reader")
    assert 'action="/jobs/bulk"' in browser.get("/", headers=HEADERS).text
    assert 'name="ids"' not in browser.get("/").text
    refused = browser.post("/jobs/bulk", data={"action": "cancel"}, headers=OWN)
    assert (refused.status_code, "jobs:write" in refused.text) == (403, True)


def test_ticked_jobs_are_acted_on_and_the_rest_is_told(browser: TestClient):
    log_in(browser)
    made = [browser.post("/v1/jobs", json={**SPEC, "name": f"job-{number}"}).json()["id"] for number in range(3)]
    browser.post("/jobs/bulk", data={"action": "cancel", "ids": made[0]}, headers=OWN)
    told = browser.post("/jobs/bulk", data={"action": "retry", "ids": made, "next": "/?order=name"}, headers=OWN)

    assert (told.status_code, told.headers["Location"]) == (303, "/?order=name")
    assert "1 job queued again. 2 jobs not:" in browser.get("/").text.replace("\N{NARROW NO-BREAK SPACE}", " ")


def test_a_search_keeps_the_filters_that_it_has_no_field_for(browser: TestClient):
    log_in(browser)
    asked = "/?state=failed&label=a%3D1&label=b&dataset=%22bccd%22&q=night&cursor="
    hidden = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', browser.get(asked).text)
    assert hidden[-3:] == [("label", "b"), ("state", "failed"), ("dataset", "&#34;bccd&#34;")]


def test_the_list_asks_the_database_as_often_for_a_hundred_jobs_as_for_one(browser: TestClient):
    log_in(browser)
    service: Any = browser.app.state.service  # type: ignore[attr-defined]
    asked: list[str] = []
    event.listen(service.database.engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
    numbers = []
    for wanted in (1, 100):
        while len(browser.get("/v1/jobs?limit=100").json()["data"]) < wanted:
            browser.post("/v1/jobs", json=SPEC)
        tries = []
        for _ in range(5):  # the snapshot of the queue is renewed now and then: the fewest are the list's own
            asked.clear()
            assert browser.get("/?limit=100").text.count('name="ids"') == wanted
            tries.append(len([one for one in asked if one.startswith("SELECT")]))
        numbers.append(min(tries))
    assert numbers[0] == numbers[1] <= 8


def test_the_files_of_the_pages_are_public_small_and_kept_for_ever_under_their_version(browser: TestClient):
    for name, file in static_files.files().items():
        answer = browser.get(static_files.address(name), headers={"Accept-Encoding": "gzip"})
        plain = browser.get(static_files.address(name), headers={"Accept-Encoding": "identity"})

        assert answer.status_code == plain.status_code == 200
        assert answer.content == plain.content == file.content
        assert "immutable" in answer.headers["Cache-Control"]
        assert int(answer.headers["Content-Length"]) == len(gzip.compress(file.content, 9, mtime=0))
    old = browser.get("/static/000000000000/retort.css")
    assert (old.status_code, old.headers["Cache-Control"]) == (200, "no-cache")
    assert browser.get(f"/static/{static_files.version()}/../../app.py").status_code == 404
    assert browser.get(f"/static/{static_files.version()}/vendor/vendored.json").status_code == 404


def test_every_page_has_the_one_policy_and_no_script_or_style_of_its_own(browser: TestClient):
    assert "unsafe" not in PAGE_POLICY
    templates = [
        path for path in (static_files.ROOT.parent / "templates").rglob("*.html") if path.name != "upload.html"
    ]
    for path in templates:
        text = path.read_text()
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|hx-on|javascript:", text), path.name
    assert browser.get("/login").headers["Content-Security-Policy"] == PAGE_POLICY


def test_our_scripts_make_elements_of_text_in_one_place_alone():
    sinks = re.compile(
        r"DOMParser|parseHTMLUnsafe|(inner|outer)HTML\s*\+?=[^=]|insertAdjacentHTML|srcdoc|\beval\(|new Function"
    )
    found = {path.name for path in static_files.ROOT.glob("*.js") if sinks.search(path.read_text())}
    assert found == {"markup.js"}, "browsers refuse it elsewhere: use parsed() of markup.js"


def test_third_party_files_are_those_of_the_table_to_the_byte():
    table = json.loads((VENDOR / "vendored.json").read_text())
    listed = {file["to"]: file["sha256"] for package in table["packages"] for file in package["files"]}
    there = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.iterdir()}
    there.pop("vendored.json")

    assert there == listed
    assert all(package["licence"] and re.fullmatch(r"[\d.]+", package["version"]) for package in table["packages"])


def test_pages_and_report_have_the_same_colours():
    def tokens(css: str, number: int) -> dict[str, str]:
        blocks = re.findall(r":root[^{]*\{([^{}]*)\}", css)
        return dict(re.findall(r"(--[\w-]+): ([^;]+);", blocks[number]))

    report, pages = REPORT_CSS.read_text(), (static_files.ROOT / "retort.css").read_text()
    for of_report, of_pages in ((0, 0), (1, 1), (1, 2)):
        wanted = tokens(report, of_report)
        assert {name: value for name, value in tokens(pages, of_pages).items() if name in wanted} == wanted
    fonts = [re.search(r"body \{[^}]*font: ([^;]+);", css) for css in (report, pages)]
    assert fonts[0] is not None
    assert fonts[1] is not None
    assert fonts[0][1] == fonts[1][1]


def test_the_dark_colours_of_the_switch_are_those_of_the_system_and_none_is_printed():
    css = (static_files.ROOT / "retort.css").read_text()
    light, by_system, by_switch = (
        dict(re.findall(r"(--[\w-]+): ([^;]+);", block)) for block in re.findall(r":root[^{]*\{([^{}]*)\}", css)
    )

    assert by_system == by_switch
    assert by_system.keys() < light.keys()
    assert "@media (prefers-color-scheme" not in css, "paper is light"


def test_what_was_found_wrong_and_missed_looks_alike_in_pages_and_in_the_reports_pictures():
    light = dict(re.findall(r"(--[\w-]+): ([^;]+);", (static_files.ROOT / "retort.css").read_text()))

    for outcome, style in STYLES.items():
        assert light[f"--{outcome}"] == style.color.lower()
        assert light.get(f"--dash-{outcome}", "0 0") == f"{style.stroke} {style.gap}"
    drawn = "".join(path.read_text() for path in static_files.ROOT.glob("*.css") if path.name != "retort.css")
    assert not [style.color for style in STYLES.values() if style.color.lower() in drawn.lower()], "use the names"
