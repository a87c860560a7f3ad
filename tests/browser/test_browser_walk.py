"""Every page, looked at by a machine: accessible, by keyboard alone, light, narrow, and within its policy."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import pictures
from browser.pages_walk import MOST_BYTES, PAGES, Filled, PageWatch, WalkedPage, filled_service, logged_in
from PIL import Image
from playwright.sync_api import Browser, Page
from retort_api.pages.rendering import PAGE_POLICY

NARROWEST = 360
ROUNDS = 3
"""By the keyboard through a page, for what appears while one goes through it."""
MOST_LEVELS = 8
"""By which a page may differ from its picture in the documentation, of 255: a few rows more or less."""
REACHED = """() => [...document.querySelectorAll(
  'a[href], button:not(:disabled), input:not([type=hidden], :disabled), select, textarea, summary, [tabindex="0"]'
)].filter((one) => one.checkVisibility({visibilityProperty: true}) && !one.closest('[inert]')
  && !(one.type === 'radio' && !one.checked && one.form?.querySelector(`[name="${one.name}"]:checked`)))
"""
NUMBER = f"() => ({REACHED})().length"
LEFT = f"""() =>
  ({REACHED})().filter((one) => !window.walked?.has(one)).map((one) => one.outerHTML.slice(0, 120))"""
WATCH = """() => {
  document.activeElement.blur();
  window.walked = new Set();
  window.unseen = [];
  addEventListener('focusin', ({target}) => {
    const shown = getComputedStyle(target);
    const visible = (shown.outlineStyle !== 'none' && parseFloat(shown.outlineWidth) > 0) || shown.boxShadow !== 'none';
    if (!visible) window.unseen.push(target.outerHTML.slice(0, 120));
    window.walked.add(target);
  });
}"""
SMALL = f"""() => ({REACHED})().filter((one) => {{
  if (one.matches('.skip, .label, [tabindex="0"]') || one.matches('a:not(.button, nav a), .where a')) return false;
  if (one.closest('.stage, .thumb')) return false;
  const target = one.closest('label') ?? one;
  const named = one.id ? document.querySelector(`label[for="${{one.id}}"]`) : null;
  return target.getBoundingClientRect().height < 44 && !(named?.getBoundingClientRect().height >= 44);
}}).map((one) => `${{one.closest('label, li, p')?.tagName}} ${{one.outerHTML.slice(0, 160)}}`)"""
"""What fingers press, links amid text and boxes in pictures left out."""
UNLABELLED = """() => [...document.querySelectorAll('table.stack')].flatMap((table) => {
  const heads = [...table.tHead.rows[0].cells].map((head) => head.textContent.trim());
  return [...table.tBodies[0].rows].flatMap((row) => [...row.cells].filter((cell) => {
    if (cell.tagName === 'TH' || cell.colSpan > 1 || !cell.textContent.trim()) return false;
    return 'label' in cell.dataset ? cell.dataset.label !== heads[cell.cellIndex]
      : !cell.querySelector('button, input, .badge, a');
  }).map((cell) => `${heads[cell.cellIndex]}: ${cell.outerHTML.slice(0, 120)}`));
})"""
TABLES = "() => document.querySelectorAll('table.stack tbody tr').length"
VIOLATIONS = """window.violations = [];
document.addEventListener('securitypolicyviolation', (event) => {
  window.violations.push(`${event.violatedDirective} ${event.blockedURI}`);
});"""


@pytest.fixture(params=PAGES, ids=lambda walked: walked.name)
def walked(request: pytest.FixtureRequest) -> WalkedPage:
    page: WalkedPage = request.param
    return page


@pytest.fixture
def filled(
    request: pytest.FixtureRequest, walked: WalkedPage, sqlite_template: Path, tmp_path: Path
) -> Iterator[Filled]:
    if walked.shares:
        yield request.getfixturevalue("service")
    else:
        with filled_service(sqlite_template, tmp_path) as alone:
            yield alone


def complaints_of(page: Page, **chosen: Any) -> list[str]:
    """Return what axe finds, each with the elements that it means."""
    found = Axe().run(page, options={"resultTypes": ["violations"], **chosen}).response["violations"]
    return [f"{one['id']}: {one['help']}: {[node['html'][:160] for node in one['nodes'][:3]]}" for one in found]


def walk(page: Page) -> list[str]:
    """Go through the page by the tabulator key; return what is wrong with it."""
    page.evaluate(WATCH)
    for _ in range(ROUNDS):
        if not page.evaluate(LEFT):
            break
        for _ in range(page.evaluate(NUMBER) + 2):  # it begins with the focus anywhere, and leaves the page once
            page.keyboard.press("Tab")
    unseen = page.evaluate("() => window.unseen")
    left: list[str] = page.evaluate(LEFT)
    return [*(f"focus is not visible on {one}" for one in unseen), *(f"not reached: {one}" for one in left)]


def test_a_page_is_accessible_light_and_within_its_policy_and_all_of_it_is_reached_by_keyboard(
    filled: Filled, browser: Browser, walked: WalkedPage
):
    path = walked.fill(filled)
    with logged_in(browser, filled, walked.who, viewport={"width": 1440, "height": 900}) as context:
        page = context.new_page()
        watch = PageWatch(page)
        page.add_init_script(VIOLATIONS)
        page.goto(filled.url + path, wait_until="load")
        page.wait_for_function("document.documentElement.classList.contains('js')")

        assert watch.policies[-1] == PAGE_POLICY
        assert page.evaluate("window.violations") == []
        refused = [one for one in watch.complaints if "the server responded with a status of 404" not in one]
        assert refused == []
        assert watch.weight() <= MOST_BYTES
        assert page.locator("h1").count() == 1
        assert complaints_of(page) == []
        golden = pictures.FOLDER / pictures.name(walked, 1440, "light")
        if golden.exists():
            with Image.open(golden) as kept:
                now = Image.open(io.BytesIO(page.screenshot(full_page=True, animations="disabled")))
                assert pictures.difference(kept.convert("RGB"), now.convert("RGB")) <= MOST_LEVELS, "make screenshots"
        page.emulate_media(color_scheme="dark")
        assert complaints_of(page, runOnly=["color-contrast"]) == [], "when it is dark"
        page.set_viewport_size({"width": NARROWEST, "height": 740})
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= NARROWEST, "it scrolls sideways"
        assert page.evaluate(UNLABELLED) == []
        if rows := page.evaluate(TABLES):
            tree = context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
            spoken = Counter(node["role"]["value"] for node in tree if not node["ignored"])
            assert spoken["row"] > rows, "rows that are shown as cards are no rows to screen readers any more"
            assert spoken["columnheader"] > 0
        assert page.evaluate(SMALL) == [], "too low for a finger"
        assert walk(page) == []
