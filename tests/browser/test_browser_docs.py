"""The contract's page in a real browser, as the service sends it: it draws, and asks no other host for anything."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browser.test_browser_report import CHROMIUM, _served, log_in
from browser.test_browser_walk import complaints_of
from playwright.sync_api import sync_playwright
from retort.settings import Settings


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")
def test_the_page_of_the_contract_shows_operations_and_needs_no_other_host(sqlite_url: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, database_url=sqlite_url)
    with _served(settings) as (url, client), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        log_in(page, url, client)
        asked: list[str] = []
        complaints: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda told: complaints.append(told.text) if told.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))

        page.goto(f"{url}/docs")
        page.click("#operations-tag-jobs button.expand-operation")
        page.wait_for_selector("#operations-jobs-submit_job")
        page.click("#operations-jobs-submit_job .opblock-summary-control")
        page.wait_for_selector("#operations-jobs-submit_job .example")
        assert complaints_of(page) == []
        page.click("#operations-jobs-submit_job .try-out__btn")
        page.click("#operations-jobs-submit_job .execute")
        page.wait_for_selector("#operations-jobs-submit_job .live-responses-table")

        answer = page.locator("#operations-jobs-submit_job .live-responses-table .response-col_status").last
        page.screenshot(path=tmp_path / "docs.png", full_page=True)
        assert "street-student" in page.locator("#operations-jobs-submit_job .body-param textarea").input_value()
        assert (answer.text_content() or "").startswith("202"), "the example is a spec that the service takes"
        assert {urlsplit(one).netloc for one in asked if not one.startswith("data:")} == {urlsplit(url).netloc}
        assert complaints == []
        browser.close()


def test_the_page_has_the_files_that_it_names_and_no_others(sqlite_url: str, tmp_path: Path) -> None:
    with _served(Settings(home=tmp_path, database_url=sqlite_url)) as (_, client):
        page = client.get("/docs")
        named = [part.split('"')[0] for part in page.text.split('="/docs/')[1:]]

        assert "script-src 'self';" in page.headers["Content-Security-Policy"]
        assert named == ["favicon.png", "swagger-ui.css", "contrast.css", "swagger-ui-bundle.js", "start.js"]
        assert '<nav aria-label="Pages"><a href="/">' in page.text, "there is a way back"
        assert [client.get(f"/docs/{name}").status_code for name in named] == [200] * 5
        missing = client.get("/docs/redoc.standalone.js")
        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
