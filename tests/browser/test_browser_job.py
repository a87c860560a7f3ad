"""A person follows a job in a browser: charts that grow, actions, what to change after a failure, a picture tried."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from browser.pages_walk import Filled, PageWatch, logged_in
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, expect
from retort.access import ClientRole
from retort.constants import Role
from retort.protocol.events import MetricEvent, ProgressEvent, StageEvent
from retort.settings import Settings
from retort_worker.context import WorkerContext
from retort_worker.predictions import PredictionLoop
from support.job_pages import FAILURE, Seeded, epoch, seed, submitted

SCRIPT = (sys.executable, str(Path(__file__).parents[1] / "support" / "scripted_predictor.py"))
PLAIN_LIST = """() => {
  const list = document.querySelector('main').appendChild(document.createElement('ul'));
  return getComputedStyle(list).paddingLeft;
}"""
POINTS = """() => [...document.querySelectorAll('#chart-map .legend li')].map((one) => one.textContent)"""
SHIFTS = """window.shifted = 0;
new PerformanceObserver((list) => {
  for (const one of list.getEntries()) if (!one.hadRecentInput) window.shifted += one.value;
}).observe({type: 'layout-shift', buffered: true});"""
STEADY = 0.02
"""Of the page's height and width, all together: what is called good is 0.1."""


@pytest.fixture(scope="module")
def seeded(service: Filled) -> Seeded:
    return seed(service.worker)


@pytest.fixture
def operator(browser: Browser, service: Filled) -> Iterator[BrowserContext]:
    with logged_in(browser, service, ClientRole.OPERATOR, viewport={"width": 1280, "height": 900}) as context:
        yield context


@contextmanager
def predicting(service: Filled) -> Iterator[None]:
    settings = Settings(home=service.folder, confinement="off")
    loop = PredictionLoop(WorkerContext(service.database, service.worker.store, settings, "w:1:a", "here"), SCRIPT)
    loop.start()
    yield
    loop.stop()


def test_charts_grow_over_one_stream_while_the_job_runs(service: Filled, operator: BrowserContext):
    job_id = submitted(service.worker, "grows", training={"epochs": 40})
    lease = service.worker.claim(job_id)
    said = [StageEvent(n=1, at=1, stage="distill"), *(epoch(1 + n, n, Role.STUDENT, 40) for n in range(1, 9))]
    service.worker.record(lease, *said, ProgressEvent(n=10, at=2, progress=0.1, eta_s=300))
    page = operator.new_page()
    watch = PageWatch(page)
    streams: list[str] = []
    page.on("request", lambda request: streams.append(request.url) if "/stream" in request.url else None)
    page.add_init_script(SHIFTS)
    page.goto(f"{service.url}/jobs/{job_id}/charts")
    page.wait_for_selector("#chart-map canvas")
    assert page.title() == "10 % grows: charts · Retort"
    before = page.evaluate(POINTS)

    service.worker.record(lease, epoch(11, 9, Role.STUDENT, 40), ProgressEvent(n=12, at=3, progress=0.2, eta_s=250))
    page.wait_for_function(
        "(before) => document.querySelector('#chart-map .legend li').textContent !== before", arg=before[0]
    )
    page.wait_for_function("() => document.getElementById('job-share').textContent === '20 %'")
    assert page.inner_text("#job-eta") == "4 min 10 s to go"
    page.wait_for_function("() => document.querySelector('.job-now').textContent.includes('epoch 10 of 40')")
    assert len(streams) == 1, "one stream serves the whole page"
    assert page.title() == "20 % grows: charts · Retort"
    assert page.evaluate("window.shifted") <= STEADY, "what people read jumps when charts are drawn, or events come"

    page.fill("#smoothing", "0.6")
    page.select_option("#axis", "step")
    page.select_option("#axis", "time")
    expect(page.locator("#smoothing-told")).to_have_text("0.6")
    page.select_option("#axis", "epoch")
    told = operator.new_page()
    told.goto(f"{service.url}/jobs/{job_id}")
    told.click("text=Stop early, keep the best")
    expect(told.locator(".flash")).to_contain_text("The training ends now")
    assert told.evaluate(PLAIN_LIST) == "20px", "marks of a list stand inside the column"
    service.worker.fail(lease, FAILURE)
    page.wait_for_selector("#job-top .badge.failed")
    assert page.title() == "✗ grows: charts · Retort"
    told.wait_for_selector(".flash", state="detached")
    told.wait_for_selector("#job-top .badge.failed")
    assert watch.complaints == []


def unmeasured(n: int, step: int) -> MetricEvent:
    """An epoch of a run of an earlier version, whose speed is worked out of the times."""
    told = epoch(n, step, Role.STUDENT, 40)
    return told.model_copy(update={"values": {name: one for name, one in told.values.items() if "images" not in name}})


def test_charts_ask_for_what_is_new_and_for_all_where_epochs_are_measured_again(
    service: Filled, operator: BrowserContext
):
    lease = service.worker.claim(submitted(service.worker, "again", training={"epochs": 40}))
    service.worker.record(lease, StageEvent(n=1, at=1, stage="distill"))
    service.worker.record(lease, *(unmeasured(1 + n, n) for n in range(1, 9)))
    page = operator.new_page()
    page.set_viewport_size({"width": 1280, "height": 3000})
    page.goto(f"{service.url}/jobs/{lease.job_id}/charts")
    for name in ("map", "pace", "rest"):
        page.wait_for_selector(f"#chart-{name} canvas")

    with page.expect_request(re.compile(r"/pace\.csv\?points=1000&after=8$")):
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url.rsplit("/", 1)[1]))
        service.worker.record(lease, unmeasured(10, 9))
    numbers = page.locator("#numbers-map tbody th").last
    page.wait_for_function("() => document.querySelector('#numbers-map tbody tr:last-child th').textContent === '9'")
    assert numbers.text_content() == "9", "the numbers are those of the drawing"
    assert [one for one in asked if ".csv" in one] == ["pace.csv?points=1000&after=8"], (
        "others take them from the stream"
    )

    with page.expect_request(re.compile(r"/map\.csv\?points=1000$")):
        service.worker.record(lease, unmeasured(11, 4))
    page.close()


def test_a_slider_goes_through_the_epochs_of_the_samples(service: Filled, seeded: Seeded, operator: BrowserContext):
    page = operator.new_page()
    watch = PageWatch(page)
    page.goto(f"{service.url}/jobs/{seeded.succeeded}/samples")
    assert page.locator("#over-images rect.missed").count() == 0
    page.focus("#epoch")
    page.keyboard.press("Home")
    page.wait_for_function("() => document.getElementById('over-told').textContent.startsWith('After epoch 10:')")
    assert page.locator("#over-images rect.missed").count() == 8
    assert page.locator(".job-epochs [aria-current]").inner_text() == "10"
    assert page.url.endswith("?epoch=10")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.getElementById('over-told').textContent.startsWith('After epoch 20:')")
    assert page.locator("output[for=epoch]").inner_text() == "20"
    assert watch.complaints == []


def test_a_question_is_closed_by_escape_and_nothing_is_done(service: Filled, seeded: Seeded, operator: BrowserContext):
    page = operator.new_page()
    page.goto(f"{service.url}/jobs/{seeded.queued}")
    page.click("summary:has-text('Cancel')")
    page.keyboard.press("Escape")
    expect(page.locator(".ask[open]")).to_have_count(0)
    assert service.client.get(f"/v1/jobs/{seeded.queued}").json()["state"] == "queued"


def test_without_scripts_a_job_is_read_and_paused(service: Filled, seeded: Seeded, browser: Browser):
    with logged_in(browser, service, ClientRole.OPERATOR) as context:
        cookies = context.cookies()
    plain = browser.new_context(java_script_enabled=False)
    plain.add_cookies(cookies)
    page = plain.new_page()
    page.goto(f"{service.url}/jobs/{seeded.running}/charts")
    page.click("#chart-map summary")
    expect(page.locator("#chart-map tbody tr").nth(9)).to_be_visible()
    assert page.locator("#axis").is_hidden()
    page.goto(f"{service.url}/jobs/{seeded.running}")
    page.click("button:has-text('Pause')")
    expect(page.locator(".badge.pausing")).to_be_visible()
    page.click("button:has-text('Resume')")
    expect(page.locator(".badge.running")).to_be_visible()
    plain.close()


def test_a_picture_is_tried_on_teacher_and_student_side_by_side(
    service: Filled, seeded: Seeded, operator: BrowserContext
):
    picture = io.BytesIO()
    Image.new("RGB", (64, 48), "navy").save(picture, "PNG")
    page = operator.new_page()
    watch = PageWatch(page)
    page.goto(f"{service.url}/jobs/{seeded.succeeded}/try")
    with predicting(service):
        page.set_input_files("#picture", {"name": "a.png", "mimeType": "image/png", "buffer": picture.getvalue()})
        for role in ("teacher", "control", "student"):
            page.wait_for_selector(f"figure[data-role={role}] canvas:not([hidden])", timeout=60_000)
        said = page.locator("figure[data-role=student] [data-said]")
        assert said.inner_text().startswith("0 boxes"), "none is so certain"
        page.locator("#confidence").fill("0.05")
        assert said.inner_text().startswith("1 box,")
        page.locator("#epoch").fill("0")
        page.wait_for_function(
            "() => document.querySelector('figure[data-role=student] tbody').textContent.includes('epoch-0010')"
        )
    assert page.locator("figure[data-role=teacher] tbody th").text_content() == "teacher.pt"
    assert watch.complaints == []


def test_the_report_is_shown_in_place_and_reaches_nothing_of_the_page(
    service: Filled, seeded: Seeded, operator: BrowserContext
):
    page = operator.new_page()
    page.goto(f"{service.url}/jobs/{seeded.succeeded}/report")
    report = page.frame_locator("iframe.job-report")
    report.locator("h1").wait_for()
    frame = next(frame for frame in page.frames if frame.url.endswith("report.html"))
    assert (
        frame.evaluate("() => { try { return String(window.parent.document.title); } catch { return 'nothing'; } }")
        == "nothing"
    )
