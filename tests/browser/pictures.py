"""Take pictures of every page for the documentation, and compare them: ``make screenshots``."""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

from browser.pages_walk import PAGES, Filled, WalkedPage, filled_service, logged_in
from browser.test_browser_report import CHROMIUM
from PIL import Image, ImageChops, ImageStat
from playwright.sync_api import Browser, Page, sync_playwright
from retort.db import Database, migrate
from support import identity

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
WIDE, NARROW = (1440, "light"), (390, "dark")
"""The two looks that stand beside each other in a picture."""
TALLEST = 1200
SCALE = 0.75
COLOURS = 112
"""So many of the commonest, and so many of the most different ones."""
HEIGHT = 900
"""Of a page, from its top: what is compared."""
SMALL = (72, 45)
"""To this a picture is reduced before it is compared: letters become grey, and a machine's fonts do not matter."""


def take(browser: Browser, service: Filled, walked: WalkedPage, path: str) -> Image.Image:
    """Return the page on a wide screen and, beside it, on a phone in the dark."""
    with logged_in(browser, service, walked.who) as context:
        page = context.new_page()
        page.goto(service.url + path, wait_until="load")
        page.wait_for_selector(walked.drawn, state="attached")
        taken = [_look(page, *look) for look in (WIDE, NARROW)]
    sizes = [(round(one.width * SCALE), round(one.height * SCALE)) for one in taken]
    whole = Image.new("RGB", (sizes[0][0] + 12 + sizes[1][0], max(height for _, height in sizes)), "#8a8d94")
    for one, size, left in zip(taken, sizes, (0, sizes[0][0] + 12), strict=True):
        whole.paste(one.resize(size, Image.Resampling.LANCZOS), (left, 0))
    return whole


def _look(page: Page, width: int, theme: Literal["light", "dark"]) -> Image.Image:
    page.set_viewport_size({"width": width, "height": HEIGHT})
    page.emulate_media(color_scheme=theme)
    page.wait_for_timeout(400)  # what scripts draw after the page has loaded
    taken = Image.open(io.BytesIO(page.screenshot(full_page=True, animations="disabled")))
    return taken.convert("RGB").crop((0, 0, width, min(taken.height, TALLEST)))


def difference(kept: Image.Image, now: Image.Image) -> float:
    """Return by how many of 255 levels the top of a page differs from its picture, in the mean."""
    of_kept = kept.crop((0, 0, round(WIDE[0] * SCALE), round(HEIGHT * SCALE)))
    small = [
        one.convert("L").resize(SMALL, Image.Resampling.BOX) for one in (of_kept, now.crop((0, 0, now.width, HEIGHT)))
    ]
    return float(ImageStat.Stat(ImageChops.difference(*small)).mean[0])


def reduced(picture: Image.Image) -> Image.Image:
    """Return the picture in few colours: its greys as they are, and what is coloured in its colour."""
    chosen = [
        picture.quantize(COLOURS, method, dither=Image.Dither.NONE).getpalette() or []
        for method in (Image.Quantize.MEDIANCUT, Image.Quantize.MAXCOVERAGE)
    ]
    palette = Image.new("P", (1, 1))
    palette.putpalette([level for colours in chosen for level in colours[: 3 * COLOURS]])
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)


def name(walked: WalkedPage) -> str:
    """Return the file name of a picture."""
    return f"{walked.name}.png"


@contextmanager
def filled(folder: Path) -> Iterator[Filled]:
    """Serve an empty service of its own."""
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
            with tempfile.TemporaryDirectory() as folder, filled(Path(folder)) as service:
                taken = take(browser, service, walked, walked.fill(service))
                reduced(taken).save(FOLDER / name(walked), optimize=True)
                sys.stderr.write(f"{name(walked)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
