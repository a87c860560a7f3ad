"""Take pictures of every page for the documentation, and compare them: ``make screenshots``."""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from browser.pages_walk import PAGES, Filled, WalkedPage, filled_service, logged_in
from browser.test_browser_report import CHROMIUM
from PIL import Image, ImageChops, ImageStat
from playwright.sync_api import Browser, sync_playwright
from retort.db import Database, migrate
from support import identity

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
LOOKS = [(width, theme) for width in (1440, 390) for theme in ("light", "dark")]
TALLEST = 2000
COLOURS = 128
SMALL = (72, 45)
"""To this a picture is reduced before it is compared: letters become grey, and a machine's fonts do not matter."""


def take(browser: Browser, service: Filled, walked: WalkedPage, path: str, look: tuple[int, str]) -> Image.Image:
    """Return a picture of the page, no taller than people scroll."""
    width, theme = look
    viewport = {"width": width, "height": 900}
    with logged_in(browser, service, walked.who, viewport=viewport, color_scheme=theme) as context:
        page = context.new_page()
        page.goto(service.url + path, wait_until="load")
        page.wait_for_selector(walked.drawn, state="attached")
        page.wait_for_timeout(200)  # what scripts draw after the page has loaded
        taken = Image.open(io.BytesIO(page.screenshot(full_page=True, animations="disabled")))
    return taken.convert("RGB").crop((0, 0, width, min(taken.height, TALLEST)))


def difference(one: Image.Image, other: Image.Image) -> float:
    """Return by how many of 255 levels two pictures differ, in the mean over their upper parts."""
    height = min(one.height, other.height)
    small = [
        picture.convert("L").crop((0, 0, one.width, height)).resize(SMALL, Image.Resampling.BOX)
        for picture in (one, other)
    ]
    return float(ImageStat.Stat(ImageChops.difference(*small)).mean[0])


def name(walked: WalkedPage, width: int, theme: str) -> str:
    """Return the file name of a picture."""
    return f"{walked.name}-{width}-{theme}.png"


@contextmanager
def _filled(folder: Path) -> Iterator[Filled]:
    template = folder / "template.db"
    with closing(Database(f"sqlite:///{template}")) as database:
        migrate.upgrade(database)
        identity.seed(database)
    (home := folder / "home").mkdir()
    with filled_service(template, home) as service:
        yield service


def main(wanted: Sequence[str]) -> None:
    """Take pictures of the pages that are *wanted*, or of all."""
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for walked in (page for page in PAGES if not wanted or page.name in wanted):
            with tempfile.TemporaryDirectory() as folder, _filled(Path(folder)) as service:
                path = walked.fill(service)
                for look in LOOKS:
                    taken = take(browser, service, walked, path, look).quantize(COLOURS, dither=Image.Dither.NONE)
                    taken.save(FOLDER / name(walked, *look), optimize=True)
                    sys.stderr.write(f"{name(walked, *look)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
