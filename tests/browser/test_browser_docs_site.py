"""The documentation's site in a real browser: searched with no server and no network, from the disk."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browser.test_browser_report import CHROMIUM
from house.source import ROOT
from playwright.sync_api import sync_playwright

SHIM = ROOT / "docs" / "javascripts"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, check=True)
    return folder


@pytest.fixture(params=["from the disk", "from a server"])
def address(request: pytest.FixtureRequest, site: Path) -> Iterator[str]:
    if request.param == "from the disk":
        yield site.as_uri()
        return
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")
def test_the_site_is_searched_without_a_network(address: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))

        page.goto(f"{address}/adr/index.html")
        page.locator(".md-search__input").click()
        page.keyboard.type("share_untaught")
        found = page.locator(".md-search-result__item a").first
        found.wait_for()
        found.click()
        page.wait_for_url("**/health-file.html**")

        assert "health.npz" in (page.locator("h1").text_content() or "")
        assert {urlsplit(one).netloc for one in asked} == {urlsplit(address).netloc}
        browser.close()


def test_the_files_of_others_are_those_that_their_package_has() -> None:
    table = json.loads((SHIM / "vendored.json").read_text())
    named = {file["to"]: file["sha256"] for package in table["packages"] for file in package["files"]}
    lying = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in SHIM.iterdir()}
    assert {name: digest for name, digest in lying.items() if name != "vendored.json"} == named
