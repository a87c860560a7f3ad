"""The system's browser and a service without content, anew for the tests of each module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser.pages_walk import Filled, filled_service
from browser.test_browser_report import CHROMIUM
from playwright.sync_api import Browser, Playwright, expect, sync_playwright

expect.set_options(timeout=30_000)  # as long as every other wait: on a busy machine a page takes its time


@pytest.fixture(scope="module")  # one at a time: while one is driven, this thread has a running event loop
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Browser:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on the PATH")
    return playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture(scope="module")
def service(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    with filled_service(sqlite_template, tmp_path_factory.mktemp("service")) as filled:
        yield filled
