"""The report's page in a real browser: its contents stay in sight and lead, on a telephone too."""

from __future__ import annotations

import shutil
from base64 import b64encode
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import sync_playwright
from results import result
from retort.report import charts
from retort.report.health import HealthReport
from retort.report.html import render
from retort.report.samples import Gallery, Group, Row, SampleImage
from retort.report.usage import usage
from retort.report.verdict import Noise, verdict
from stored_results import EXPORTS

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TICKS = "[...document.querySelectorAll('#chart-tradeoff .xtick text')].map(tick => tick.textContent)"
TOP = "(part => document.querySelector(part).getBoundingClientRect().top)"

DRAWN = "document.images.length === 48 && [...document.images].every(one => one.complete && one.height > 0)"


def _gallery() -> Gallery:
    picture = BytesIO()
    Image.new("RGB", (400, 300), "grey").save(picture, "JPEG")
    uri = f"data:image/jpeg;base64,{b64encode(picture.getvalue()).decode()}"
    columns = tuple(SampleImage(title, uri, "1 boxes") for title in ("ground truth", "teacher", "control", "student"))
    return Gallery((Group("Spread over the set", "", tuple(Row(f"{at}.jpg", columns) for at in range(12))),), ())


def _page() -> str:
    found = result(exports=[EXPORTS["passed"]])
    return render(
        name="digits", judged=verdict(found, Noise()), result=found, charts=charts.charts({}, found.roles),
        comparisons=charts.comparisons(found), quantization=[], labelling=[], ecg=HealthReport((), (), (), ()),
        gallery=_gallery(), usage=usage("job-1", "student.pt", found), manifest=None, spec={},
    )  # fmt: skip


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")
def test_the_contents_stay_in_sight_and_lead_to_every_part_at_any_width(tmp_path: Path) -> None:
    """Nothing once led through the 12,000 pixels of the report."""
    (tmp_path / "report.html").write_text(_page(), encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width in (1280, 390):
            page = browser.new_page(viewport={"width": width, "height": 700})
            errors: list[str] = []
            page.on("pageerror", lambda error, errors=errors: errors.append(str(error)))
            page.goto((tmp_path / "report.html").as_uri())
            page.wait_for_selector("#chart-tradeoff svg .xtick")
            assert page.evaluate(DRAWN), "what is read later must not push down what a link leads to"

            assert page.evaluate("document.documentElement.scrollWidth") == width
            for part in ("use", "figures", "exports"):
                page.click(f".contents a[href='#{part}']")
                page.wait_for_selector(f".contents a.here[href='#{part}']")
                assert page.evaluate(f"{TOP}('.contents')") == 0
                assert 0 < page.evaluate(f"{TOP}('#{part}')") < 100
                bar = page.evaluate("document.querySelector('.contents a.here').getBoundingClientRect().toJSON()")
                assert 0 <= bar["left"] < bar["right"] <= width
            assert {text.strip("01.") for text in page.evaluate(TICKS)} == {""}
            assert errors == []
            page.close()
        browser.close()
