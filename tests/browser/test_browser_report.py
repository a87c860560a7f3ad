"""The report in a real browser, as the service sends it: its charts draw, and nothing smuggled into it runs."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import uvicorn
from fastapi.testclient import TestClient
from playwright.sync_api import Page, sync_playwright
from retort import chart_program
from retort.db import Database
from retort.settings import Settings
from retort.storage import Store
from retort_api.app import create_app
from support.api_harness import LOCAL, SPEC, Worker, eventually
from support.identity import HEADERS

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
CHART = {"name": "curve", "data": [{"type": "scatter", "x": [1, 2, 3], "y": [1, 4, 9], "meta": {}}], "layout": {}}
SMUGGLED = "window.smuggled = 1; fetch('/v1/jobs').then(() => { window.fetched = 1 })"
PAGE = f"""<!doctype html><title>report</title><style>h1 {{ color: rgb(1, 2, 3) }}</style>
<h1>report</h1><a href="student.pt">student.pt</a><img src="{PIXEL}">
<nav class="contents"></nav><div id="chart-curve"></div>
{chart_program.embedded()}
<script type="application/json" id="charts">{json.dumps([CHART])}</script>
{chart_program.drawing("report")}
<script>{SMUGGLED}</script><img src="x" onerror="window.smuggled = 1">"""
SHARED = chart_program.shared(PAGE.encode(), 4).decode()
EARLIER = SHARED.replace(chart_program.file_name(), "plotly-1.2.3.min.js").replace("const charts", "const  charts")


@contextmanager
def _served(settings: Settings) -> Iterator[tuple[str, TestClient]]:
    app = create_app(settings)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            eventually(lambda: server.started or None)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", TestClient(app, base_url=LOCAL, headers=HEADERS)
        finally:
            server.should_exit = True
            thread.join()


def log_in(page: Page, url: str, client: TestClient) -> None:
    """Log the browser of *page* in as people do: with a one-time link."""
    page.goto(url + client.post("/v1/login-links").json()["path"])
    page.wait_for_url(f"{url}/")


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")
def test_the_report_draws_its_charts_and_no_other_script_runs(sqlite_url: str, tmp_path: Path) -> None:
    """As it is stored, with the program inside, and of an earlier version: one browser looks at all."""
    settings = Settings(home=tmp_path, database_url=sqlite_url)
    with _served(settings) as (url, client), closing(Database(sqlite_url)) as database, sync_playwright() as playwright:
        worker = Worker(database, Store(settings.store_url), tmp_path)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context()
        log_in(context.new_page(), url, client)
        for stored in (PAGE, SHARED, EARLIER):
            job_id = client.post("/v1/jobs", json=SPEC).json()["id"]
            lease = worker.claim(job_id)
            worker.publish(lease, "student.pt", b"weights")
            worker.publish(lease, "report.html", stored.encode(), media_type="text/html")
            for asked in ("", "?self_contained=true"):
                page = context.new_page()
                _look(page, f"{url}/v1/jobs/{job_id}/artifacts/report.html{asked}")
                page.close()
        browser.close()


def _look(page: Page, address: str) -> None:
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    page.wait_for_selector("#chart-curve svg .trace path.js-line", state="attached")

    assert page.evaluate("[window.smuggled, window.fetched, window.origin]") == [None, None, "null"]
    assert page.evaluate("document.querySelector('img').naturalWidth") == 1
    assert page.evaluate("getComputedStyle(document.querySelector('h1')).color") == "rgb(1, 2, 3)"
    with page.expect_download(timeout=10_000) as found:
        page.click("a")
    assert found.value.path().read_bytes() == b"weights"
    assert errors == []
