"""Every form of every page is pressed in a real browser, with scripts and without, and does what it says."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browser.form_stories import STORIES, Desk
from browser.pages_walk import Filled, PageWatch, logged_in
from playwright.sync_api import Browser, BrowserContext, Page, Request
from retort.access import ClientRole
from retort.settings import Settings
from retort_api.app import create_app
from retort_api.errors import leaves
from retort_api.pages.page_router import FormRoute


@pytest.fixture(scope="module")
def operators(browser: Browser, service: Filled) -> dict[bool, BrowserContext]:
    """One who has logged in with scripts, and goes on with them and without."""
    with logged_in(browser, service, ClientRole.OPERATOR) as context:
        state = context.storage_state()
    return {scripts: browser.new_context(java_script_enabled=scripts, storage_state=state) for scripts in (True, False)}


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, re.Pattern[str]]:
    """The forms that the application takes, by path."""
    app = create_app(Settings(home=tmp_path_factory.mktemp("routes")))
    return {route.path: route.path_regex for route in leaves(app.routes) if isinstance(route, FormRoute)}


def test_a_story_presses_every_form_that_the_application_takes(routes: dict[str, re.Pattern[str]]):
    told = [route for one in STORIES.values() for route in one.routes]

    assert sorted(told) == sorted(routes)


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "plain"])
@pytest.mark.parametrize("name", STORIES)
def test_forms_do_what_they_say_with_scripts_and_without(
    *, service: Filled, operators: dict[bool, BrowserContext], routes: dict[str, re.Pattern[str]], tmp_path: Path,
    name: str, scripts: bool,
):  # fmt: skip
    told, context = STORIES[name], operators[scripts]
    if told.stranger:
        assert context.browser is not None
        context = context.browser.new_context(java_script_enabled=scripts)
    page = context.new_page()
    watch, sent = PageWatch(page), posted(page)
    page.on("dialog", lambda dialog: dialog.accept())
    told.act(Desk(page, service, scripts, tmp_path, f"{list(STORIES).index(name)}{'js' if scripts else 'plain'}"))
    page.close()

    pressed = {path for path, known in routes.items() for one in sent if known.fullmatch(one)}
    assert pressed >= told.pressed(scripts=scripts)
    assert watch.complaints == []


def posted(page: Page) -> list[str]:
    """Return the list into which the paths go to which a page sends forms."""
    found: list[str] = []

    def note(request: Request) -> None:
        if request.method == "POST" and request.is_navigation_request():
            found.append(urlsplit(request.url).path)

    page.on("request", note)
    return found
