"""Pages make no programs of text, and elements of text in one place alone: htmx is held to it, and our own code."""

from __future__ import annotations

import pytest
from browser.pages_walk import Filled, logged_in
from playwright.sync_api import Browser
from retort.access import ClientRole

ATTRIBUTES = [
    {"hx-on:click": "window.hit = 1"},
    {"hx-get": "/workers", "hx-trigger": "click[(window.hit = 1)]"},
    {"hx-get": "/workers", "hx-vals": "js:{a: window.hit = 1}"},
    {"hx-get": "/workers", "hx-headers": "js:{a: window.hit = 1}"},
    {"hx-get": "/workers", "hx-confirm": "js:(window.hit = 1)"},
    {"hx-action": "js:window.hit = 1"},
    {"hx-get": "javascript:window.hit = 1"},
]
"""Of which htmx makes programs, unless it is kept from it."""
SMUGGLE = """(all) => Promise.all(all.map(async (attributes) => {
  const one = document.createElement('button');
  for (const [name, value] of Object.entries(attributes)) one.setAttribute(name, value);
  document.querySelector('main').append(one);
  htmx.process(one);
  const ends = ['htmx:error', 'htmx:after:request', 'htmx:finally:request'];
  const asked = new Promise((done) => ends.forEach((said) => one.addEventListener(said, done)));
  one.click();
  await Promise.race([asked, new Promise((done) => setTimeout(done, 300))]);
}))"""
SWAPPED = """() => new Promise((done) => {
  const one = document.querySelector('#list');
  one.addEventListener('htmx:after:swap', () => done(window.hit ?? null), {once: true});
  one.addEventListener('htmx:error', () => done('not swapped'), {once: true});
  htmx.ajax('GET', '/?smuggled', {source: one, target: '#list', swap: 'innerHTML'});
})"""
SMUGGLED = "<section id=list>new<script>window.hit = 1</script></section>"
SINKS = [
    "document.createElement('p').innerHTML = '<b>'",
    "document.createElement('p').insertAdjacentHTML('beforeend', '<b>')",
    "new DOMParser().parseFromString('<b>', 'text/html')",
    "document.createElement('iframe').srcdoc = '<b>'",
    "document.createElement('script').text = 'window.hit = 1'",
    "document.createElement('script').src = '/static/page.js'",
    "trustedTypes.createPolicy('another', {createHTML: (text) => text})",
]
TRIED = "() => {{ try {{ {}; }} catch (error) {{ return error.name; }} return 'taken'; }}"


@pytest.mark.parametrize("policed", [True, False], ids=["with-the-policy", "by-htmx-itself"])
def test_htmx_runs_nothing_that_stands_in_an_attribute_or_comes_with_a_swap(
    service: Filled, browser: Browser, policed: bool
):
    service.submit("so-that-there-is-a-list")
    with logged_in(browser, service, ClientRole.OPERATOR, bypass_csp=not policed) as context:
        page = context.new_page()
        page.route("**/?smuggled", lambda route: route.fulfill(body=SMUGGLED))
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto(service.url)
        page.evaluate(SMUGGLE, ATTRIBUTES)
        assert page.evaluate(SWAPPED) is None
        assert page.inner_text("#list") == "new"
        assert page.evaluate("window.hit") is None


def test_elements_are_made_of_text_in_one_place_alone(service: Filled, browser: Browser):
    with logged_in(browser, service, ClientRole.OPERATOR) as context:
        page = context.new_page()
        page.goto(f"{service.url}/new")
        for sink in SINKS:
            assert page.evaluate(TRIED.format(sink)) == "TypeError", sink
