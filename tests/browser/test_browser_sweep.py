"""A sweep's page in a real browser, as the service sends it: its plots draw, wide and narrow, and fit the screen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from browser.test_browser_report import CHROMIUM, _served, log_in
from playwright.sync_api import Browser, sync_playwright
from retort.db import Database
from retort.settings import Settings
from retort.storage import Store
from support.api_harness import SWEEP, Worker


@pytest.fixture
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_of_a_sweep_draws_its_plots_on_any_screen(
    browser: Browser, width: int, scheme: str, sqlite_url: str, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, database_url=sqlite_url)
    with _served(settings) as (url, client), closing(Database(sqlite_url)) as database:
        sweep_id = client.post("/v1/sweeps", json=SWEEP).json()["id"]
        worker = Worker(database, Store(settings.store_url), tmp_path)
        worker.try_all(sweep_id, lambda parameters: 1 / parameters["distillation.losses.0.temperature"])
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        log_in(page, url, client)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)

        page.goto(f"{url}/v1/sweeps/{sweep_id}/report")

        assert page.locator("#chart-parallel .trial").count() == 6
        axes = page.locator("#chart-parallel .name").evaluate_all("all => all.map((one) => one.firstChild.data.trim())")
        assert axes == ["temperature", "weight", "val/mAP50-95"]
        best = page.locator("#chart-parallel .shade-7 polyline").first
        assert best.evaluate("one => getComputedStyle(one).stroke") in {"rgb(213, 94, 0)", "rgb(240, 146, 59)"}
        assert page.locator("#chart-history circle.succeeded").count() == 7, "six trials, and the legend"
        assert page.evaluate("document.documentElement.scrollWidth") == width, "only tables and charts scroll sideways"
        assert page.locator("tr.best th").text_content() == "1"
        assert errors == []
