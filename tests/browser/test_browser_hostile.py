"""More than a thousand hostile texts in the names and values of a report's and a sweep's page: nothing of it runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser.pages_walk import PAGES, Filled, filled_service, logged_in
from browser.test_browser_report import CHROMIUM
from playwright.sync_api import Browser, Page
from results import result
from retort.access import ClientRole
from retort.errors import UNPRINTABLE
from retort.report import charts
from retort.report.health import HealthReport
from retort.report.html import render
from retort.report.samples import Gallery
from retort.report.usage import usage
from retort.report.verdict import Noise, verdict
from retort.sweeps.report import render as render_sweep
from stored_results import EXPORTS
from support.hostile import texts
from support.hostile_rows import ATTACKS, MARK, poison
from support.mistake_filling import publish_mistakes

ALL = texts()
STEP = 600
FILLED_BY_OTHERS = {"data": "/data", "models": "/models"}
FOUND = f"""() => {{
  const held = (one) => one && one !== document.body
    && (getComputedStyle(one).overflowX !== 'visible' || held(one.parentElement));
  const all = [...document.querySelectorAll('*')];
  const theirs = all.filter((one) => one.matches(
    '.{MARK}, [data-{MARK}], [onfocus], [onerror], [onload], [onmouseover], [hx-get*="{MARK}"], [action*="{MARK}"], '
    + 'base, iframe[srcdoc], a[href^="javascript:" i]'));
  const texts = all.flatMap((one) => [...one.attributes].map(
    (part) => [`${{one.tagName}} ${{part.name}}`, part.value]));
  const leaves = all.filter((one) => !one.matches('script, style')).flatMap((one) => [...one.childNodes]
    .filter((node) => node.nodeType === Node.TEXT_NODE).map((node) => [one.tagName, node.data]));
  const said = [...texts, ...leaves];
  return {{
    hit: window.hit ?? null,
    theirs: theirs.map((one) => one.outerHTML.slice(0, 160)),
    computed: said.filter(([, text]) => text.includes('{MARK}49')),
    hidden: said.filter(([, text]) => /[\\u0007\\u001b\\u202a-\\u202e\\u2066-\\u2069]/.test(text)),
    wide: document.documentElement.scrollWidth <= 360 ? [] : all.filter(
      (one) => one.getBoundingClientRect().right > 361 && !held(one.parentElement)
    ).map((one) => one.outerHTML.slice(0, 160)).slice(0, 5),
  }};
}}"""
CLEAN = {"hit": None, "theirs": [], "computed": [], "hidden": [], "wide": []}
OWN_ELEMENTS = (
    "document.querySelectorAll('iframe, object, embed, base, form, video, marquee, math, script[src]').length"
)


def test_there_are_a_thousand_and_more() -> None:
    assert len(ALL) >= 1000


def _report(names: list[str]) -> str:
    found = result(exports=[EXPORTS["passed"]])
    roles = found.roles
    for role in (roles.student, roles.teacher, roles.control):
        assert role is not None
        role.per_class.update({name: next(iter(role.per_class.values())) for name in names})
    return render(
        name=names[0], judged=verdict(found, Noise()), result=found, charts=charts.charts({}, roles),
        comparisons=charts.comparisons(found), quantization=[], labelling=[], ecg=HealthReport((), (), (), ()),
        gallery=Gallery((), ()), usage=usage(names[-1], "student.pt", found), manifest=None,
        spec={"names": ALL, **dict.fromkeys(names, "x")},
    )  # fmt: skip


def _sweep(names: list[str]) -> str:
    known = {name: {"values": [name, "b"], "log": False, "min": None, "max": None} for name in names[:6]}
    trial = {"number": 1, "state": "succeeded", "value": 0.5, "parameters": {name: name for name in known}}
    trials = [{**trial, "job_id": f"job_{names[7]}", "reason": names[12]}]
    spec = {
        "parameters": known, "objective": {"metric": names[8], "goal": "maximize", "role": names[13]},
        "search": {"seed": names[14], "pruning": True}, "concurrency": names[15],
    }  # fmt: skip
    sweep: dict[str, Any] = {
        "name": names[9], "state": "succeeded", "strategy": names[10], "spec": spec, "trials": trials, "num_trials": 1,
        "best": trials[0], "failure": None, "counts": dict.fromkeys(("succeeded", "failed", "pruned", "cancelled"), 1),
    }  # fmt: skip
    return render_sweep(sweep, {"names": ALL})


def _read(page: Page, path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8", errors="surrogatepass")
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: errors.append(dialog.message))
    page.goto(path.as_uri())
    page.wait_for_selector("svg.main-svg .trace, [id^='chart-'] svg", state="attached")

    assert page.evaluate("window.hit") is None
    assert errors == []
    assert page.evaluate(OWN_ELEMENTS) == 0
    hrefs = page.evaluate("[...document.querySelectorAll('a')].map(a => a.href)")
    assert [href for href in hrefs if not href.startswith(("https:", "http:", "file:"))] == []
    assert page.evaluate("document.querySelectorAll('svg a').length") == 0
    assert page.title().endswith("Retort")


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")
def test_no_hostile_text_runs_in_a_page(browser: Browser, tmp_path: Path) -> None:
    for place, step in enumerate(range(0, len(ALL), STEP)):
        for name, made in (("report", _report), ("sweep", _sweep)):
            page = browser.new_page()
            shown = sorted(ALL[step : step + STEP], key=lambda text: "href" not in text)  # charts show the first forty
            _read(page, tmp_path / f"{name}-{place}.html", made([f"{text} " for text in shown]))
            page.close()


@pytest.mark.parametrize("made", [_report, _sweep])
def test_no_page_holds_a_character_that_turns_or_hides_text(made: Any) -> None:
    own_script = re.compile(r"<script>.*?</script>|<style>.*?</style>", re.DOTALL)
    for step in range(0, len(ALL), STEP):
        page = own_script.sub("", made([f"{text} " for text in ALL[step : step + STEP]]))

        assert set(UNPRINTABLE.findall(page)) <= {"\n", "\t"}


@pytest.fixture(scope="module")
def poisoned(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Filled, list[str]]]:
    """A service in which every page has something to show, and every text is an attack; with the pages' addresses."""
    with filled_service(sqlite_template, tmp_path_factory.mktemp("hostile")) as service:
        lease = service.worker.claim(job := service.submit("mistaken"))
        publish_mistakes(service.worker, lease, ATTACKS)
        paths = [one.fill(service) for one in PAGES if one.name not in FILLED_BY_OTHERS]
        service.client.patch(f"/v1/jobs/{job}", json={"labels": {"line": "7"}})
        assert poison(service.database) > 300
        yield service, [*paths, *FILLED_BY_OTHERS.values(), f"/jobs/{job}/mistakes", f"/jobs/{job}/mistakes?class=1"]


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")
def test_no_page_of_the_service_takes_a_strangers_text_for_anything_but_text(
    browser: Browser, poisoned: tuple[Filled, list[str]]
):
    service, paths = poisoned
    wrong: list[str] = []
    attacked = 0
    with logged_in(browser, service, ClientRole.OPERATOR, viewport={"width": 360, "height": 740}) as context:
        page = context.new_page()
        page.on("dialog", lambda dialog: wrong.append(f"a dialog: {dialog.message}"))
        page.on("pageerror", lambda error: wrong.append(f"{page.url}: {error}"))
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        for path in paths:
            answer = page.goto(service.url + path, wait_until="load")
            assert answer is not None
            found = page.evaluate(FOUND)
            attacked += MARK in page.inner_text("html")
            if answer.status >= 500 or found != CLEAN:
                wrong.append(f"{path}: {answer.status} {found}")
    assert wrong == [], "\n".join(wrong)
    assert attacked > len(paths) / 2, "the attacks stand on pages, or nothing was tried"
    assert [url for url in asked if MARK in url.partition("?")[0]] == []
