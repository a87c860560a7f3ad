"""Every page, looked at by a machine: accessible, by keyboard alone, light, narrow, and within its policy."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import pictures
from browser.pages_walk import (
    MOST_BYTES,
    OTHER_FILES,
    PAGES,
    ROUTES,
    Filled,
    PageWatch,
    WalkedPage,
    filled_service,
    logged_in,
)
from fastapi import Response
from fastapi.responses import HTMLResponse
from PIL import Image
from playwright.sync_api import Browser, Page
from retort.settings import Settings
from retort_api.app import create_app
from retort_api.errors import leaves
from retort_api.pages.rendering import PAGE_POLICY
from starlette.routing import compile_path

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
TABLES = "() => [...document.querySelectorAll('table.stack tbody tr')].filter((row) => row.checkVisibility()).length"
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


def shown_at(address: str) -> str:
    """Return the names of the pages that the table has for the first route of an address."""
    path = address.partition("?")[0]
    return next((names for route, names in ROUTES.items() if compile_path(route)[0].match(path)), "")


def copy_of(page: Page) -> Page:
    """Return the page where scripts run: axe is one, and the policy of some pages allows none."""
    copy = page.context.new_page()
    copy.set_viewport_size(page.viewport_size or {"width": 1440, "height": 900})
    copy.set_content(page.content())
    return copy


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


def settled_width(page: Page) -> int:
    """Return how wide the page is, once its charts have followed a narrower window, which takes a while."""
    width = int(page.evaluate("document.documentElement.scrollWidth"))
    for _ in range(100):
        if width <= NARROWEST:
            break
        page.wait_for_timeout(100)
        width = int(page.evaluate("document.documentElement.scrollWidth"))
    return width


def test_a_page_is_accessible_light_and_within_its_policy_and_all_of_it_is_reached_by_keyboard(
    filled: Filled, browser: Browser, walked: WalkedPage
):
    path = walked.fill(filled)
    with logged_in(browser, filled, walked.who, viewport={"width": 1440, "height": 900}) as context:
        page = context.new_page()
        watch = PageWatch(page)
        page.add_init_script(VIOLATIONS)
        page.goto(filled.url + path, wait_until="load")
        assert walked.name == "problem" or walked.name in shown_at(path).split()
        page.wait_for_selector(walked.drawn, state="attached")

        assert ("default-src 'none'" in watch.policies[0]) if walked.apart else (watch.policies[0] == PAGE_POLICY)
        assert [policy for policy in watch.policies if "unsafe-" in policy or "default-src" not in policy] == []
        assert page.evaluate("window.violations") == []
        refused = [one for one in watch.complaints if "the server responded with a status of 404" not in one]
        assert refused == []
        assert walked.apart or watch.weight() <= MOST_BYTES
        assert page.locator("h1").count() == 1
        read = page if walked.scripts else copy_of(page)
        assert complaints_of(read) == []
        golden = pictures.FOLDER / pictures.name(walked)
        if golden.exists():
            with Image.open(golden) as kept:
                now = Image.open(io.BytesIO(page.screenshot(animations="disabled")))
                assert pictures.difference(kept.convert("RGB"), now.convert("RGB")) <= MOST_LEVELS, "make screenshots"
        for shown in {page, read}:
            shown.emulate_media(color_scheme="dark")
        assert complaints_of(read, runOnly=["color-contrast"]) == [], "when it is dark"
        page.set_viewport_size({"width": NARROWEST, "height": 740})
        if walked.apart:  # its charts follow the width when it has stayed for a moment
            page.reload()
            page.wait_for_selector(walked.drawn, state="attached")
        assert settled_width(page) <= NARROWEST, "it scrolls sideways"
        assert page.evaluate(UNLABELLED) == []
        if rows := page.evaluate(TABLES):
            tree = context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
            spoken = Counter(node["role"]["value"] for node in tree if not node["ignored"])
            assert spoken["row"] > rows, "rows that are shown as cards are no rows to screen readers any more"
            assert spoken["columnheader"] > 0
        assert walked.apart or page.evaluate(SMALL) == [], "too low for a finger"
        read.set_viewport_size({"width": NARROWEST, "height": 740})
        assert walk(read) == []


def test_every_route_that_answers_with_a_page_is_walked(tmp_path: Path):
    """Whatever is declared as a page or as an answer of any type is in one table or the other."""
    app = create_app(Settings(home=tmp_path))
    routes = [route for route in leaves(app.routes) if "GET" in (route.methods or ())]
    told = {route.path for route in routes if _may_be_a_page(route)}
    walked = {name for names in ROUTES.values() for name in names.split()}

    assert sorted(told) == sorted([*ROUTES, *OTHER_FILES])
    assert sorted(walked) == sorted({page.name for page in PAGES} - {"problem"})


def _may_be_a_page(route: Any) -> bool:
    declared = get_type_hints(route.endpoint).get("return")
    return route.response_class is HTMLResponse or declared in (Response, HTMLResponse)
