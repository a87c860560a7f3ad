"""Jobs beside each other in a real browser: chosen in the list, drawn over each other, trials chosen along an axis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser.pages_walk import Filled, PageWatch, compared_jobs, filled_service, logged_in
from browser.test_browser_report import CHROMIUM
from playwright.sync_api import Browser, expect, sync_playwright
from retort.access import ClientRole
from support.api_harness import SWEEP

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")


@pytest.fixture(scope="module")
def service(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    with filled_service(sqlite_template, tmp_path_factory.mktemp("compare")) as filled:
        yield filled


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


def test_ticked_jobs_are_laid_over_each_other_and_every_number_stands_in_a_table(service: Filled, browser: Browser):
    ids = compared_jobs(service)
    with logged_in(browser, service, ClientRole.SUBMITTER) as context:
        page = context.new_page()
        watch = PageWatch(page)
        page.goto(service.url)
        for job_id in ids[:3]:
            page.check(f"#tick-{job_id}")
        page.get_by_role("group").get_by_role("button", name="Compare").click()
        expect(page.locator("h1")).to_have_text("Compare 3 jobs")
        expect(page.locator("#chart canvas")).to_be_visible()
        over = page.locator("#chart .u-over")
        box = over.bounding_box()
        assert box is not None
        over.hover(position={"x": box["width"] - 2, "y": 40})
        expect(page.locator("#curves .reading").first).to_have_text(
            f"{0.41 * (1 - 0.8**12):.4g} at 12"
        )  # the newest comes first
        page.locator("#curves").get_by_text("Numbers", exact=True).click()
        expect(page.locator("#curves tbody tr")).to_have_count(12)
        page.get_by_role("link", name="Loss of the task").click()
        expect(page.locator("#curves tbody td").first).to_have_text("5")
        assert watch.complaints == []


def test_trials_of_a_sweep_are_chosen_by_dragging_along_an_axis(service: Filled, browser: Browser):
    sweep_id = service.client.post("/v1/sweeps", json=SWEEP).json()["id"]
    service.worker.try_all(sweep_id, lambda one: 1 / one["distillation.losses.0.temperature"])
    with logged_in(browser, service, ClientRole.READER) as context:
        page = context.new_page()
        page.goto(f"{service.url}/compare?sweep={sweep_id}")
        axis = page.locator("#plot-parallel .axis").first.locator("line").first.bounding_box()
        assert axis is not None
        middle = axis["y"] + axis["height"] / 2
        page.mouse.move(axis["x"], axis["y"] - 4)
        page.mouse.down()
        page.mouse.move(axis["x"], middle)  # of 2, 4 and 7, the first two lie below
        page.mouse.up()
        expect(page.locator("#kept")).to_have_text("2 of 6 trials pass through what is marked.")
        assert page.locator("#plot-parallel .trial.out").count() == 4
        page.mouse.click(axis["x"], middle)
        expect(page.locator("#plot-parallel .trial.out")).to_have_count(0)
