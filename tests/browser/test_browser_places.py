"""The pages of data, models, workers and settings in a browser: they follow, work by script and without, and escape."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser.pages_walk import Filled, logged_in
from playwright.sync_api import Browser, Page, expect
from retort.access import ClientRole
from retort.db import Database, datasets
from retort.db.session import database_now
from support import places

HOSTILE = "<img src=x onerror='window.hit=1'>{{7*7}}\u202e"


@pytest.fixture
def page(service: Filled, browser: Browser) -> Iterator[Page]:
    with logged_in(browser, service, ClientRole.OPERATOR, viewport={"width": 1280, "height": 900}) as context:
        yield context.new_page()


def refuse(database: Database, made: str) -> None:
    finding = {"severity": "error", "code": "no_boxes", "message": HOSTILE, "hint": HOSTILE, "places": [HOSTILE]}
    with database.begin() as session:
        now = database_now(session)
        assert datasets.refuse(session, places.claim(session, made, now=now), {"findings": [finding]}, now=now)


def test_a_dataset_that_is_being_checked_follows_by_itself_until_it_has_ended_and_shows_text_as_text(
    service: Filled, page: Page
):
    made = places.begun_dataset(service.database, "follows")
    page.clock.install()
    page.goto(f"{service.url}/data/follows")
    expect(page.locator(".badge").first).to_contain_text("being checked")
    refuse(service.database, made)
    page.clock.run_for(2500)
    expect(page.locator(".badge").first).to_contain_text("refused")
    expect(page.locator(".notice.bad")).to_contain_text("<img src=x onerror='window.hit=1'>{{7*7}}")
    assert page.evaluate("[window.hit, document.querySelectorAll('main img').length]") == [None, 0]
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.run_for(30_000)
    assert asked == [], "nothing changes any more"


def test_workers_and_queue_follow_and_a_worker_is_drained_on_the_page(service: Filled, page: Page):
    places.worker(service.database, "box:1:aa", gpus=1)
    page.clock.install()
    page.goto(f"{service.url}/workers")
    expect(page.locator("#queue")).to_contain_text("0 jobs")
    service.submit("comes-later")
    page.clock.run_for(5500)
    expect(page.locator("#queue")).to_contain_text("1 job")
    page.get_by_role("button", name="Drain box:1:aa").click()
    expect(page.locator(".flash")).to_contain_text("takes no more jobs")
    expect(page.locator("#live")).to_contain_text("every running worker is drained")
    page.get_by_role("button", name="Let box:1:aa take jobs again").click()
    expect(page.locator("#live")).to_contain_text("free")


def test_a_key_is_made_copied_and_revoked_after_a_question(service: Filled, page: Page):
    page.goto(f"{service.url}/settings/keys")
    page.fill("#name", "from the page")
    page.select_option("#role", "reader")
    page.get_by_role("button", name="Make the key").click()
    secret = page.inner_text("#secret")
    assert re.fullmatch(r"rtt_\w{49}", secret)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("button[data-copy=secret]").click()
    expect(page.locator("button[data-copy=secret]")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == secret
    page.get_by_role("link", name="I have copied it").click()
    asked: list[str] = []
    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    page.get_by_role("button", name="Revoke from the page").click()
    assert "Revoke from the page?" in asked[0]
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Revoke from the page").click()
    expect(page.locator(".flash")).to_contain_text("is revoked")


def test_without_javascript_an_archive_is_sent_and_every_place_is_read(
    service: Filled, browser: Browser, tmp_path: Path
):
    (archive := tmp_path / "plain.zip").write_bytes(b"PK")
    with logged_in(browser, service, ClientRole.SUBMITTER) as context:
        cookies = context.cookies()
    with browser.new_context(java_script_enabled=False) as context:
        context.add_cookies(cookies)
        page = context.new_page()
        page.goto(f"{service.url}/data")
        page.set_input_files("#archive", archive)
        assert page.is_hidden("#folder")
        page.fill("#name", "plain")
        page.click("#send")
        expect(page.locator(".flash")).to_contain_text("plain.zip has been sent")
        for path in ("/models", "/workers", "/settings", "/settings/webhooks", "/settings/quotas", "/settings/trash"):
            page.goto(service.url + path)
            assert page.locator("h1").count() == 1, path
