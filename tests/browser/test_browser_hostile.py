"""More than a thousand hostile texts in the names and values of a report's and a sweep's page: nothing of it runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from browser.test_browser_report import CHROMIUM
from playwright.sync_api import Page, sync_playwright
from results import result
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

ALL = texts()
STEP = 600
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
def test_no_hostile_text_runs_in_a_page(tmp_path: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for place, step in enumerate(range(0, len(ALL), STEP)):
            for name, made in (("report", _report), ("sweep", _sweep)):
                page = browser.new_page()
                shown = sorted(
                    ALL[step : step + STEP], key=lambda text: "href" not in text
                )  # charts show the first forty
                _read(page, tmp_path / f"{name}-{place}.html", made([f"{text} " for text in shown]))
                page.close()
        browser.close()


@pytest.mark.parametrize("made", [_report, _sweep])
def test_no_page_holds_a_character_that_turns_or_hides_text(made: Any) -> None:
    own_script = re.compile(r"<script>.*?</script>|<style>.*?</style>", re.DOTALL)
    for step in range(0, len(ALL), STEP):
        page = own_script.sub("", made([f"{text} " for text in ALL[step : step + STEP]]))

        assert set(UNPRINTABLE.findall(page)) <= {"\n", "\t"}
