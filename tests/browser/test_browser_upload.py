"""A person with a browser alone sends a folder as a dataset: it goes on after a break, and sends nothing twice."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx2
import pytest
from browser.test_browser_report import CHROMIUM
from PIL import Image
from playwright.sync_api import Page, Request, Response, sync_playwright
from retort.client import Client
from retort.db import Database
from retort.settings import Settings
from retort.storage import Store
from retort_worker.context import WorkerContext
from retort_worker.dataset_intake import DatasetIntake
from support.api_harness import listening
from support.identity import HEADERS, OPERATOR

HOSTILE = "<img src=x onerror='window.hit=1'>.exe"
PLAIN = "plain.test"
"""A host that browsers trust with nothing, for it is reached by http."""
BROWSER = ["--no-sandbox", f"--host-resolver-rules=MAP {PLAIN} 127.0.0.1"]
LONG = "ä" + "b" * 110
PARTS = 4
"""What lies before the large image, its two, and what lies behind."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a dataset of four parts, with a long name, and a file that belongs to none."""
    folder = tmp_path / "street cells"
    for split, name in (("train", LONG), ("val", "a")):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        Image.new("RGB", (32, 32), "red").save(folder / "images" / split / f"{name}.png")
        (folder / "labels" / split / f"{name}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cell]\n")
    size = (2048, 1500)  # larger than a part
    Image.frombytes("RGB", size, random.Random(0).randbytes(3 * size[0] * size[1])).save(
        folder / "images" / "train" / "noise.bmp"
    )
    (folder / HOSTILE).write_bytes(b"not sent")
    return folder


@contextmanager
def checking(home: Path) -> Iterator[None]:
    """Look through datasets, as a worker does."""
    settings = Settings(home=home, database_url=f"sqlite:///{home / 'retort.db'}")
    with closing(Database(settings.database_url)) as database:
        context = WorkerContext(database, Store(settings.store_url), settings, "w:1:a", "here")
        intake, stopped = DatasetIntake(context, look_s=0.1), threading.Event()

        def look() -> None:
            while not stopped.wait(0.1):
                intake.take()

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()


MOST_CLICKS = 6
"""From the first page to a job that is submitted."""


class Watch:
    """Which parts a page sends, which of them arrive, and what its console complains of."""

    def __init__(self, page: Page) -> None:
        self.sent: list[str] = []
        self.arrived: list[str] = []
        self.complaints: list[str] = []
        page.on("request", self._ask)
        page.on("response", self._answer)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda told: self.complaints.append(told.text) if "Policy" in told.text else None)

    def _ask(self, request: Request) -> None:
        if request.method == "PUT":
            self.sent.append(request.url.rpartition("/")[2])

    def _answer(self, answer: Response) -> None:
        if answer.request.method == "PUT" and answer.status == 201:
            self.arrived.append(answer.url.rpartition("/")[2])


def choose_and_send(page: Page, folder: Path) -> None:
    page.set_input_files("#folder", folder)
    assert page.input_value("#name") == "street-cells"
    page.press("#name", "Enter")


def reference_on(page: Page) -> str:
    page.wait_for_selector("#send:enabled")
    assert "ready" in page.inner_text("#state")
    page.locator("#list .badge, #list td").filter(has_text="ready").first.wait_for()
    return page.inner_text("#reference")


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")
def test_a_folder_sent_from_a_browser_goes_on_after_a_break_and_is_never_sent_twice(
    sqlite_template: Path, tmp_path: Path, folder: Path
) -> None:
    (home := tmp_path / "service").mkdir()
    with (
        listening(sqlite_template, home, allowed_hosts=(PLAIN,)) as url,
        checking(home),
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=BROWSER)
        page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
        page.goto(url + httpx2.post(f"{url}/v1/login-links", headers=HEADERS).json()["path"])
        page.wait_for_url(f"{url}/")
        page.goto(f"{url}/upload")
        seen = Watch(page)

        page.route("**/parts/1", lambda route: route.abort(), times=1)
        page.route("**/parts/2", lambda _: None, times=1)  # it is on its way when the page is left
        choose_and_send(page, folder)
        while len(seen.arrived) < PARTS - 1:
            page.wait_for_event("response")
        assert sorted(seen.sent) == ["1", "1", "2", "3", "4"], "the one that broke off was sent again at once"
        seen.sent.clear()
        page.reload()
        choose_and_send(page, folder)
        reference = reference_on(page)
        page.screenshot(path=tmp_path / "phone.png", full_page=True)

        assert seen.sent == ["2"], "it goes on where it was"
        assert HOSTILE in page.inner_text("#told")
        assert page.evaluate("[window.hit, document.querySelectorAll('main img, main script').length]") == [None, 0]

        seen.sent.clear()
        page.set_viewport_size({"width": 1280, "height": 900})
        page.emulate_media(color_scheme="light")
        page.reload()
        choose_and_send(page, folder)
        assert reference_on(page) == reference
        page.screenshot(path=tmp_path / "desk.png", full_page=True)
        assert (seen.sent, seen.complaints) == ([], [])
        with Client(url, key=OPERATOR) as client:
            begun = [one["id"] for one in client.uploads.list()]
            assert client.datasets.push(folder, "street-cells")["reference"] == reference
            assert [one["id"] for one in client.uploads.list()] == begun, "the command line packs to the same bytes"

        (archive := tmp_path / "street.tar.gz").write_bytes(b"no archive")
        page.set_input_files("#archive", archive)
        assert (page.input_value("#folder"), page.input_value("#name")) == ("", "street-cells")
        page.fill("#name", "broken")
        page.click("#send")
        page.wait_for_selector("#send:enabled")
        assert "refused" in page.inner_text("#state")
        assert "archive" in page.inner_text("#told")
        assert page.inner_text("#reference") == ""

        plain = url.replace("127.0.0.1", PLAIN)
        page.goto(plain + httpx2.post(f"{url}/v1/login-links", headers=HEADERS).json()["path"])
        page.wait_for_url(f"{plain}/")
        page.goto(f"{plain}/data")
        assert "open this page by https" in page.inner_text("#state")
        assert page.is_disabled("#send")
        browser.close()


def drop(page: Page, path: Path) -> None:
    """Drag a file or a folder from the desk and drop it on the page."""
    page.locator("#drop").scroll_into_view_if_needed()
    box = page.locator("#drop").bounding_box()
    assert box is not None
    place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + 8}
    desk = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        desk.send("Input.dispatchDragEvent", {"type": kind, **place, "data": data})


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")
def test_a_new_user_drops_a_folder_looks_at_it_and_submits_a_job_with_few_clicks_and_no_path_typed(
    sqlite_template: Path, tmp_path: Path, folder: Path
) -> None:
    (home := tmp_path / "service").mkdir()
    with listening(sqlite_template, home) as url, checking(home), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=BROWSER)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(url + httpx2.post(f"{url}/v1/login-links", headers=HEADERS).json()["path"])
        page.wait_for_url(f"{url}/")
        clicks: list[str] = []

        def click(selector: str) -> None:
            clicks.append(selector)
            page.click(selector)

        click("nav >> text=Data")
        page.wait_for_url(f"{url}/data")
        (archive := tmp_path / "street.zip").write_bytes(b"no archive")
        drop(page, archive)
        page.wait_for_selector("#chosen:has-text('street.zip')")
        page.fill("#name", "")
        drop(page, folder)
        page.wait_for_selector("#chosen:has-text('street cells: 7 files')")
        click("#send")
        page.wait_for_selector("#use:visible")
        reference = page.inner_text("#reference")
        click("#look")
        page.wait_for_selector(".pictures img")
        page.wait_for_function("[...document.querySelectorAll('.pictures img')].every((one) => one.naturalWidth > 0)")
        assert page.inner_text("#reference") == reference
        click("main >> text=Use it in a job")
        page.wait_for_url("**/new?dataset=*")
        click("button[name=do][value=submit]")
        page.wait_for_url("**/jobs/job_*")

        assert len(clicks) <= MOST_CLICKS, clicks
        with Client(url, key=OPERATOR) as client:
            job = client.get(page.url.rpartition("/")[2])
        assert job["spec"]["data"]["dataset"] == reference
        browser.close()


def test_the_page_is_for_who_is_logged_in(sqlite_template: Path, tmp_path: Path) -> None:
    with listening(sqlite_template, tmp_path) as url:
        refused = httpx2.get(f"{url}/data")
        assert (refused.status_code, refused.headers["Location"]) == (303, "/login?next=%2Fdata")
