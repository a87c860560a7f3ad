"""Take every page in every look, empty, full and failing, for people to look at: ``make looks``.

One service for what is empty and one for the rest, one browser, one load of a page for its four looks. Beside the
pictures stand contact sheets, to be looked at first, and what people see who confuse red and green.
"""

from __future__ import annotations

import io
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from browser import pictures
from browser.pages_walk import PAGES, Filled, logged_in, seeded
from browser.test_browser_report import CHROMIUM
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page, sync_playwright
from retort.access import ClientRole
from retort.db import Database
from retort.db.models import JobRow
from sqlalchemy import insert, select

HEIGHTS = {1440: 900, 390: 844}
THEMES = ("light", "dark")
TALLEST = 2400
MANY = 10_000
SHEETS = {1440: (480, 4, 4), 390: (195, 10, 2)}
"""Of each width: how wide a picture is there, and how many stand beside and below each other."""
TABS = ("", "/charts", "/health", "/evaluation", "/samples", "/files", "/try", "/log", "/spec", "/mistakes", "/report")
PLACES = (
    "", "new", "data", "models", "workers", "compare", "settings", "settings/keys", "settings/webhooks",
    "settings/quotas", "settings/retention", "settings/trash", "settings/audit", "?q=nothing-has-this-name",
)  # fmt: skip
CONFUSED = {
    "deuteranopia": (0.367, 0.861, -0.228, 0, 0.28, 0.673, 0.047, 0, -0.012, 0.043, 0.969, 0),
    "protanopia": (0.152, 1.053, -0.205, 0, 0.115, 0.786, 0.099, 0, -0.004, -0.048, 1.052, 0),
}
"""From linear light to what is seen (Machado, Oliveira and Fernandes, 2009)."""
TOLD_APART = ("job-charts", "mistakes", "job-samples", "compare", "compare-sweep", "job-done-evaluation", "jobs")
"""Pages whose colours mean something."""
Addresses = Iterator[tuple[str, str]]


def _tabs(prefix: str, job_id: str) -> Addresses:
    return ((f"{prefix}{tab.replace('/', '-')}", f"/jobs/{job_id}{tab}") for tab in TABS)


def empty(service: Filled) -> Addresses:
    """What stands there before anything has happened, and on a job that has just been made."""
    yield from ((place.partition("?q=")[-1] or place.replace("/", "-") or "jobs", f"/{place}") for place in PLACES)
    yield from _tabs("job", service.submit("first"))


def failing(service: Filled) -> Addresses:
    """What went wrong, and what people do wrong."""
    failed = seeded(service).failed
    yield from _tabs("job-failed", failed)
    yield from {
        "problem": "/jobs-that-are-not", "query": "/?order=sideways", "jobs": "/?state=failed", "no-data": "/data/none",
        "new-job": "/new?change=training.batch=0", "compare": f"/compare?job={failed}", "no-model": "/models/none",
    }.items()  # fmt: skip


def full(service: Filled) -> Addresses:
    """Every page of the walk, and those that list jobs once more with ten thousand."""
    yield from ((page.name, page.fill(service)) for page in PAGES if page.who is not None)
    yield from _tabs("job-done", seeded(service).succeeded)
    yield from _tabs("job-running", seeded(service).running)
    copy_jobs(service.database)
    yield from (("jobs-many", "/"), ("workers-many", "/workers"), ("compare-many", "/compare"))


def copy_jobs(database: Database) -> None:
    """Copy the jobs that there are until there are many."""
    copies = []
    with database.begin() as session:
        rows = [
            {column.key: getattr(row, column.key) for column in JobRow.__mapper__.column_attrs}
            for row in session.scalars(select(JobRow).where(JobRow.sweep_id.is_(None)))
        ]
        for number in range(MANY):
            one = rows[number % len(rows)]
            own = {"id": f"job_{number:032x}", "name": f"{one['name'][:40]}-{number}"}
            copies.append({**one, **own, "created_at": one["created_at"] - 60 * number})
        session.execute(insert(JobRow), copies)


def scroll_through(page: Page) -> None:
    """Go through the page once: much of it is drawn when it is seen."""
    page.evaluate(
        "async () => { for (let y = 0; y < document.body.scrollHeight; y += 600) {"
        "scrollTo(0, y); await new Promise((done) => setTimeout(done, 40)); } scrollTo(0, 0); }"
    )
    page.wait_for_timeout(100)


def take(page: Page, folder: Path, name: str) -> None:
    """Take the four looks of what the page shows."""
    for width, height in HEIGHTS.items():
        page.set_viewport_size({"width": width, "height": height})
        for theme in THEMES:
            page.emulate_media(color_scheme=theme)
            scroll_through(page)
            shot = page.screenshot(full_page=True, animations="disabled")
            taken = Image.open(io.BytesIO(shot)).convert("RGB")
            taken.crop((0, 0, width, min(taken.height, TALLEST))).save(folder / f"{name}-{width}-{theme}.png")


def confuse(picture: Image.Image, matrix: Sequence[float]) -> Image.Image:
    """Return the picture as somebody sees it who confuses red and green."""
    linear = picture.point([round(255 * (value / 255) ** 2.2) for value in range(256)] * 3)
    seen = linear.convert("RGB", matrix)
    return seen.point([round(255 * (value / 255) ** (1 / 2.2)) for value in range(256)] * 3)


def sheets(folder: Path, state: str, width: int, theme: str) -> None:
    """Put the pictures of a state and a look together."""
    shrunk, columns, rows = SHEETS[width]
    files = sorted(folder.glob(f"{state}--*-{width}-{theme}.png"))
    for number in range(math.ceil(len(files) / (columns * rows))):
        shown = files[number * columns * rows : (number + 1) * columns * rows]
        heights = [0]
        sheet = Image.new("RGB", (columns * (shrunk + 8), rows * (4 * shrunk + 22)), "#888888")
        for place, file in enumerate(shown):
            with Image.open(file) as picture:
                small = picture.resize((shrunk, max(1, picture.height * shrunk // picture.width)))
            if place and place % columns == 0:
                heights.append(max(heights[-1], sheet.info.get("lowest", 0)))
            at = (place % columns * (shrunk + 8), heights[-1])
            ImageDraw.Draw(sheet).text((at[0] + 2, at[1] + 4), file.stem.split("--")[1], fill="white")
            sheet.paste(small, (at[0], at[1] + 18))
            sheet.info["lowest"] = max(sheet.info.get("lowest", 0), at[1] + small.height + 26)
        sheet.crop((0, 0, sheet.width, sheet.info.get("lowest", 1))).save(
            folder / f"sheet-{state}-{width}-{theme}-{number}.png"
        )


def look(browser: Browser, folder: Path, states: Sequence[Callable[[Filled], Addresses]], only: str) -> None:
    """Take all pages of some states, of one service."""
    with (
        tempfile.TemporaryDirectory() as home,
        pictures.filled(Path(home)) as service,
        logged_in(browser, service, ClientRole.OPERATOR) as context,
    ):
        page = context.new_page()
        for state in states:
            for name, path in state(service):
                if only in name:
                    page.goto(service.url + path, wait_until="load")
                    page.wait_for_timeout(200)
                    take(page, folder, f"{state.__name__}--{name}")


def main(folder: Path, only: str = "") -> None:
    """Take the pictures whose names have *only* in them, and put them together."""
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        look(browser, folder, (empty,), only)
        look(browser, folder, (failing, full), only)
    for state in (empty, failing, full):
        for width in HEIGHTS:
            for theme in THEMES:
                sheets(folder, state.__name__, width, theme)
    for name in TOLD_APART:
        for file in folder.glob(f"full--{name}-1440-*.png"):
            for what, matrix in CONFUSED.items():
                with Image.open(file) as picture:
                    confuse(picture, matrix).save(folder / f"{what}--{file.name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
