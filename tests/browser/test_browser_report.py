"""The report in a real browser, as the service sends it: its charts draw, and nothing smuggled into it runs."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import uvicorn
from fastapi.testclient import TestClient
from playwright.sync_api import Frame, Page, sync_playwright
from retort import chart_program
from retort.db import Database
from retort.settings import Settings
from retort.storage import Store
from retort_api.app import create_app
from support.api_harness import LOCAL, SPEC, Worker, eventually
from support.identity import HEADERS

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
SMALL = [1e-4, 4e-4, 6e-4]
"""An mAP of networks that have hardly learned anything."""
CHART = {"name": "curve", "data": [{"type": "scatter", "x": [1, 2, 3], "y": SMALL, "meta": {}}], "layout": {}}
SMUGGLED = "window.smuggled = 1; fetch('/v1/jobs').then(() => { window.fetched = 1 })"
PAGE = f"""<!doctype html><html><head><title>report</title><style>h1 {{ color: rgb(1, 2, 3) }}</style>
{chart_program.styles()}</head><h1>report</h1><a href="student.pt">student.pt</a><img src="{PIXEL}">
<nav class="contents"></nav><div id="chart-curve"></div>
{chart_program.embedded()}
<script type="application/json" id="charts">{json.dumps([CHART])}</script>
{chart_program.drawing("report")}
<script>{SMUGGLED}</script><img src="x" onerror="window.smuggled = 1">"""
SHARED = chart_program.shared(PAGE.encode(), 4).decode()
OTHER_PROGRAM = SHARED.replace(chart_program.file_name(), "plotly-1.2.3.min.js").replace(
    "const charts", "const  charts"
)
WITH_STYLES_ANYWHERE = SHARED.replace(chart_program.styles(), "").replace(
    "<h1>", '<span class="dot" style="background: #040506"></span><h1>'
)
"""What versions stored that let any style apply."""
STYLES_REFUSED = """window.refused = [];
document.addEventListener('securitypolicyviolation', (event) => {
  if (event.effectiveDirective.startsWith('style')) window.refused.push(event.effectiveDirective);
});"""


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
        context.add_init_script(STYLES_REFUSED)
        log_in(context.new_page(), url, client)
        for stored, ways in (
            (PAGE, "alone"), (SHARED, "alone saved"), (OTHER_PROGRAM, "alone"), (WITH_STYLES_ANYWHERE, "link framed"),
        ):  # fmt: skip
            job_id = client.post("/v1/jobs", json=SPEC).json()["id"]
            lease = worker.claim(job_id)
            worker.publish(lease, "student.pt", b"weights")
            worker.publish(lease, "report.html", stored.encode(), media_type="text/html")
            path = f"/v1/jobs/{job_id}/artifacts/report.html"
            items = client.get(f"/v1/jobs/{job_id}/artifacts").json()["data"]
            [artifact] = [one["id"] for one in items if one["name"] == "report.html"]
            link = urlsplit(client.post(f"/v1/artifacts/{artifact}/download-url", json={}).json()["url"]).path
            addresses = {
                "alone": path,
                "saved": f"{path}?self_contained=true",
                "link": link,
                "framed": f"/jobs/{job_id}/report",
            }
            for asked in map(addresses.__getitem__, ways.split()):
                page = context.new_page()
                errors: list[str] = []
                page.on("pageerror", lambda error, errors=errors: errors.append(str(error)))
                page.goto(url + asked)
                _look(page, page.frames[-1])
                assert errors == []
                if asked == path:
                    with page.expect_download(timeout=10_000) as found:
                        page.click("a")
                    assert found.value.path().read_bytes() == b"weights"
                page.close()
        browser.close()


def _look(page: Page, frame: Frame) -> None:
    frame.wait_for_selector("#chart-curve svg .trace path.js-line", state="attached")

    assert frame.evaluate("[window.smuggled, window.fetched, window.origin]") == [None, None, "null"]
    assert "0.0006" in frame.locator("#chart-curve .ytick").all_text_contents(), "not 600µ"
    assert frame.evaluate("document.querySelector('img').naturalWidth") == 1
    assert frame.evaluate("getComputedStyle(document.querySelector('h1')).color") == "rgb(1, 2, 3)"
    assert frame.evaluate("getComputedStyle(document.querySelector('svg.main-svg')).position") == "absolute"
    assert frame.evaluate("document.querySelectorAll('.dot[style]').length") == 0
    frame.locator("#chart-curve path.js-line").scroll_into_view_if_needed()
    line = frame.locator("#chart-curve path.js-line").bounding_box()
    assert line is not None
    page.mouse.move(line["x"] + line["width"] - 4, line["y"] + 9)
    page.mouse.move(line["x"] + line["width"] - 1, line["y"] + 1)
    frame.wait_for_selector("#chart-curve .hoverlayer .hovertext")
    assert frame.evaluate("window.refused") == []
