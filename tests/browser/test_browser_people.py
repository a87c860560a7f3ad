"""What people do to pages: two tabs, a double click, an old session, a browser offline, a service that starts anew."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from browser.pages_walk import Filled, PageWatch, logged_in
from playwright.sync_api import Browser, Page, Route, expect
from results import RESULT
from retort.access import ClientRole
from retort.constants import Role
from retort.protocol.events import ProgressEvent, StageEvent
from retort.settings import Settings
from servers import free_port
from support.api_harness import listening_as
from support.identity import OPERATOR
from support.job_pages import epoch
from support.registered import put_dataset

TELL = """() => new MutationObserver(() => {
  window.said(document.querySelector('[aria-busy]').textContent, document.getElementById('trouble').textContent);
}).observe(document.getElementById('trouble'), {childList: true})"""


def log_in(page: Page) -> None:
    page.fill("#key", OPERATOR)
    page.get_by_role("button", name="Log in").click()


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "plain"])
def test_what_was_typed_before_a_session_ended_is_sent_after_the_login(
    service: Filled, browser: Browser, scripts: bool
):
    put_dataset(service.database, service.worker.store, service.folder, f"street-{scripts}")
    with logged_in(browser, service, ClientRole.OPERATOR) as context:
        state = context.storage_state()
    context = browser.new_context(java_script_enabled=scripts, storage_state=state)
    page = context.new_page()
    page.goto(f"{service.url}/new")
    page.fill("#f-spec", page.input_value("#f-spec").replace("\ntraining:", '\n# it\'s "mine" <b>\ntraining:'))
    page.fill("#f-labels", "line=7\ncamera=north")
    context.clear_cookies()
    page.get_by_role("button", name="Submit job").click()
    expect(page.locator("h1")).to_have_text("Nothing was sent yet: your session has ended")
    with context.expect_page() as opened:
        page.get_by_role("link", name="Log in, in a new tab").click()
    log_in(opened.value)
    expect(opened.value.locator("h1")).to_have_text("Jobs")
    page.get_by_role("button", name="Send it again").click()
    expect(page.locator(".badge.queued")).to_be_visible()
    made = service.client.get(f"/v1{page.url.removeprefix(service.url)}").json()
    assert made["labels"] == {"line": "7", "camera": "north"}
    context.close()


def test_a_double_click_sends_a_form_once_and_the_button_works_again_on_the_way_back(service: Filled, browser: Browser):
    with logged_in(browser, service, ClientRole.OPERATOR) as context:
        page = context.new_page()
        page.goto(f"{service.url}/settings/keys")
        for name in ("once", "again"):
            page.fill("#name", name)
            page.get_by_role("button", name="Make the key").dblclick()
            expect(page.locator("#secret")).to_be_visible()
            page.go_back()
            expect(page.locator("h1")).to_have_text("API keys")
        made = [one["name"] for one in service.client.get("/v1/keys").json()["data"]]
        assert [made.count(name) for name in ("once", "again")] == [1, 1]


def test_a_late_answer_is_said_and_a_browser_that_is_offline_sends_nothing_and_keeps_what_was_typed(
    service: Filled, browser: Browser
):
    with logged_in(browser, service, ClientRole.OPERATOR) as context:
        page = context.new_page()
        page.goto(f"{service.url}/settings/keys")
        page.fill("#project-name", "not-yet")
        context.set_offline(True)
        page.get_by_role("button", name="Make the project").click()
        expect(page.locator("#trouble")).to_contain_text("This browser is offline: nothing was sent")
        assert page.input_value("#project-name") == "not-yet"
        context.set_offline(False)
        expect(page.locator("#trouble")).to_be_hidden()
        held: list[Route] = []
        said: list[tuple[str, ...]] = []

        def hold(route: Route) -> None:
            held.append(route)

        def note(*told: str) -> None:
            said.append(told)
            held[0].continue_()

        page.expose_function("said", note)
        page.route("**/settings/projects", hold)
        page.evaluate(TELL)
        page.get_by_role("button", name="Make the project").click()
        expect(page.locator(".flash")).to_contain_text("There is a project not-yet now", timeout=15_000)
        assert said == [("Make the project", "It is sent. The service has not answered yet.")]


def test_in_an_old_tab_an_action_that_is_no_more_possible_is_refused_with_a_way_back(service: Filled, browser: Browser):
    job_id = service.submit("in-two-tabs")
    with logged_in(browser, service, ClientRole.OPERATOR) as context:
        first, second = context.new_page(), context.new_page()
        for page in (first, second):
            page.goto(f"{service.url}/jobs/{job_id}")
        service.worker.succeed(service.worker.claim(job_id), RESULT)
        second.route("**/jobs/*", lambda route: route.abort())  # it does not hear of it
        first.reload()
        first.locator("main summary").get_by_text("Delete", exact=True).click()
        first.get_by_role("button", name="Delete the job").click()
        expect(first.locator(".flash")).to_contain_text("in the trash")
        second.unroute("**/jobs/*")
        second.get_by_role("button", name="Pause").click()
        expect(second.locator(".notice.bad")).to_contain_text("job")
        second.get_by_role("link", name="Back").click()
        expect(second.locator("h1")).to_have_text("in-two-tabs")
        expect(second.get_by_role("button", name="Restore")).to_be_visible()


def test_open_pages_say_that_the_service_is_away_and_go_on_when_it_is_back_and_when_the_session_has_ended(
    service: Filled, browser: Browser, tmp_path: Path
):
    """The job page follows a stream, the list asks every few seconds."""
    job_id = service.submit("outlives-a-restart", training={"epochs": 40})
    lease = service.worker.claim(job_id)
    service.worker.record(lease, StageEvent(n=1, at=1, stage="distill"), epoch(2, 1, Role.STUDENT, 40))
    database = f"sqlite:///{service.folder / 'retort.db'}"
    settings = Settings(home=tmp_path, database_url=database, port=free_port(), rate_limit="")
    with listening_as(settings) as url:
        with logged_in(browser, service, ClientRole.OPERATOR) as context:
            state = context.storage_state()
        context = browser.new_context(storage_state=state)
        job, listed = context.new_page(), context.new_page()
        watch = PageWatch(job)
        job.goto(f"{url}/jobs/{job_id}")
        expect(job.locator(".job-now")).to_contain_text("epoch 2 of 40")
        listed.clock.install()
        listed.goto(url)
    expect(job.locator("#trouble")).to_have_text(re.compile("^The connection is lost"), timeout=15_000)
    listed.bring_to_front()
    listed.clock.run_for(5500)
    expect(listed.locator("#trouble")).to_contain_text("The service does not answer")
    assert listed.locator(f"#{job_id}").is_visible(), "what was there stays"

    service.worker.record(lease, epoch(3, 2, Role.STUDENT, 40), ProgressEvent(n=4, at=3, progress=0.2, eta_s=250))
    with listening_as(settings):
        expect(job.locator("#trouble")).to_be_hidden(timeout=15_000)
        expect(job.locator(".job-now")).to_contain_text("epoch 3 of 40")
        listed.clock.run_for(5500)
        expect(listed.locator("#trouble")).to_be_hidden()
        context.clear_cookies()
        listed.clock.run_for(5500)
        expect(listed.locator("#trouble")).to_contain_text("Your session has ended")
        listed.get_by_role("link", name="Log in again").click()
        log_in(listed)
        expect(listed.locator("h1")).to_have_text("Jobs")
        assert [one for one in watch.complaints if "Failed to load" not in one and "ERR_" not in one] == []
    context.close()
