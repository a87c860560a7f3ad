"""People review a teacher's labels in a browser: by keys, mouse and touch, together, and without scripts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from browser.pages_walk import Filled, PageWatch, logged_in
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, Route, expect
from retort.access import ClientRole
from support.review_filling import CLASSES, await_review

DESK = {"width": 1280, "height": 900}
SHOWN = "(name) => document.getElementById('stage').dataset.image === name"
SAVED = "() => document.getElementById('saved').textContent === 'All is saved.'"
MOST_MS = 2000
"""Of interface time for one picture."""
CLOCK = """() => {
  window.shown = [];
  const stage = document.getElementById('stage');
  new MutationObserver(() => window.shown.push([stage.dataset.image, performance.now() - window.pressed]))
    .observe(stage, {attributes: true, attributeFilter: ['data-image']});
  addEventListener('keydown', () => { window.pressed = performance.now(); }, {capture: true});
}"""


def waiting(service: Filled, number: int) -> tuple[str, list[dict[str, Any]]]:
    """Make a job that waits for a review of so many pictures; return its id and what the teacher saw."""
    job = service.submit("cells-night")
    return job, await_review(service.worker, job, number=number)


def decisions(service: Filled, job: str) -> dict[str, Any]:
    found = service.client.get(f"/v1/jobs/{job}/review/images?limit=200").json()["data"]
    return {one["image"]: one["decision"] for one in found}


@contextmanager
def reviewing(context: BrowserContext, service: Filled, job: str, reviewer: str = "") -> Iterator[Page]:
    """Open the review of a job; what its console complains of fails the test."""
    page = context.new_page()
    watch = PageWatch(page)
    page.goto(f"{service.url}/jobs/{job}/review")
    page.wait_for_selector("#stage[data-image]")
    if reviewer:
        page.fill("#reviewer", reviewer)
        page.focus("#stage")
    yield page
    unexpected = [one for one in watch.complaints if "Failed to load resource" not in one]
    page.close()
    assert unexpected == []


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def test_pictures_are_reviewed_by_keyboard_alone_within_two_seconds_each_and_none_is_waited_for(
    service: Filled, browser: Browser
):
    job, pictures = waiting(service, 20)
    names = [one["image"] for one in pictures]
    with (
        logged_in(browser, service, ClientRole.OPERATOR, viewport=DESK) as context,
        reviewing(context, service, job, "ann") as page,
    ):
        page.evaluate(CLOCK)
        turns = [
            ("a",), ("r",), (".", "ArrowRight", "Shift+ArrowDown", "a"), ("n", "2", "a"),
            (".", "c", "platelet", "Enter", "a"), (".", "x", "a"), ("Enter",),
        ]  # fmt: skip
        for index, name in enumerate(names):
            page.wait_for_function(SHOWN, arg=name)
            for key in turns[index % len(turns)]:
                if key == "platelet":
                    page.wait_for_selector("#class-dialog[open]")
                    page.keyboard.type(key)
                else:
                    page.keyboard.press(key)
        page.wait_for_selector("#finished:not([hidden])")
        page.wait_for_function(SAVED)
        shown = page.evaluate("window.shown")

        assert [name for name, _ in shown] == [*names[1:], ""]
        assert max(ms for _, ms in shown) <= MOST_MS
        assert page.get_attribute("#desk", "data-late") == "1", "all but the first one are fetched ahead"
        found = decisions(service, job)
        assert {one["reviewer"] for one in found.values()} == {"ann"}
        kinds = [found[name]["decision"] for name in names[:5]]
        assert kinds[:4] == ["accept", "reject", "edit", "edit"]
        moved, before = found[names[2]]["boxes"][0], pictures[2]["kept"][0]
        assert (moved["x1"] > before["x1"], moved["y2"] > before["y2"]) == (True, True)
        drawn = found[names[3]]["boxes"][-1]
        assert drawn == {"name": CLASSES[1], "x1": 0.4, "y1": 0.4, "x2": 0.6, "y2": 0.6}
        renamed = found[names[4]]["boxes"] or pictures[4]["kept"]
        assert renamed[0]["name"] == "platelet"
        assert len(found[names[5]]["boxes"]) == len(pictures[5]["kept"]) - 1

        press(page, "u")
        page.wait_for_function(SHOWN, arg=names[-1])
        page.wait_for_function(SAVED)
        assert decisions(service, job)[names[-1]] is None, "what is undone is open again"
        press(page, "y")
        page.wait_for_function(SAVED)
        page.wait_for_function("() => document.getElementById('counts').textContent.startsWith('20 of 20')")
        page.on("dialog", lambda asked: asked.accept())
        page.get_by_role("button", name="Complete the review").click()
        page.wait_for_url(f"{service.url}/jobs/{job}")
    assert service.client.get(f"/v1/jobs/{job}").json()["state"] == "queued"


def test_of_two_people_at_once_neither_loses_a_decision_and_a_conflict_is_merged(service: Filled, browser: Browser):
    job, pictures = waiting(service, 6)
    first = pictures[0]["image"]
    with (
        logged_in(browser, service, ClientRole.OPERATOR, viewport=DESK) as context,
        reviewing(context, service, job, "ann") as ann,
        reviewing(context, service, job, "bob") as bob,
    ):
        ann.bring_to_front()
        press(ann, "n", "1", "a")
        ann.wait_for_function(SAVED)
        bob.bring_to_front()
        assert bob.get_attribute("#stage", "data-image") == first
        bob.mouse.move(*inside(bob, 0.02, 0.02))
        bob.mouse.down()
        bob.mouse.move(*inside(bob, 0.2, 0.25), steps=4)
        bob.mouse.up()
        press(bob, "3", "a")
        bob.wait_for_function("() => document.getElementById('saved').textContent.includes('1 to decide again')")
        anns = decisions(service, job)[first]
        assert (anns["reviewer"], len(anns["boxes"])) == ("ann", len(pictures[0]["kept"]) + 1), "hers still stands"

        bob.reload()
        bob.wait_for_function(SHOWN, arg=first)
        assert "ann has edited this picture meanwhile" in bob.inner_text("#note")
        assert bob.locator("#boxes button").count() == len(pictures[0]["kept"]) + 2, "the boxes of both are shown"
        press(bob, "a")
        bob.wait_for_function(SAVED)
        both = decisions(service, job)[first]
        assert both["reviewer"] == "bob"
        added = {(box["name"], box["x1"] < 0.3) for box in both["boxes"][-2:]}
        assert added == {(CLASSES[0], False), (CLASSES[2], True)}


def inside(page: Page, x: float, y: float) -> tuple[float, float]:
    """Return where a share of the picture is on the page."""
    frame = page.locator("#stage .frame").bounding_box()
    assert frame is not None
    return frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]


def test_decisions_outlive_a_lost_connection_and_a_reload(service: Filled, browser: Browser):
    job, pictures = waiting(service, 5)
    first, arrived = pictures[0]["image"], list[str]()

    def cut(route: Route) -> None:
        if route.request.method != "PUT":
            route.continue_()
            return
        if route.request.url.endswith(first) and not arrived:
            arrived.append(first)
            route.fetch()  # it arrives, and its answer is lost; later ones go nowhere
        route.abort()

    with logged_in(browser, service, ClientRole.OPERATOR, viewport=DESK) as context:
        # Before the page is loaded: set just before a key, it came too late for what that key sends.
        context.route("**/review/images/*", cut)
        with reviewing(context, service, job) as page:
            press(page, "a")
            page.wait_for_function(SHOWN, arg=pictures[1]["image"])
            press(page, ".", "ArrowLeft", "j")
            page.wait_for_function(SHOWN, arg=pictures[2]["image"])
            expect(page.locator("#saved")).to_have_text(
                re.compile("^2 not saved yet"), timeout=30_000
            )  # else it says what
            press(page, ".", "x")
            page.reload()
            page.wait_for_function(SHOWN, arg=pictures[2]["image"])
            assert page.inner_text("#saved").startswith("2 not saved yet")
            assert page.inner_text("#verdict") == "changed, not yet decided"
            assert page.locator("#boxes button").count() == len(pictures[2]["kept"]) - 1
            assert [name for name, one in decisions(service, job).items() if one] == [first]
            context.unroute("**/review/images/*")
            page.evaluate("dispatchEvent(new Event('online'))")
            page.wait_for_function(SAVED)
            kinds = [one and one["decision"] for one in decisions(service, job).values()]
            assert kinds[:2] == ["accept", "edit"]


def test_a_phone_reviews_by_taps_drags_and_two_fingers(service: Filled, playwright: Playwright, browser: Browser):
    job, pictures = waiting(service, 3)
    phone = {**playwright.devices["Pixel 7"], "color_scheme": "dark"}
    phone.pop("default_browser_type")
    with (
        logged_in(browser, service, ClientRole.OPERATOR, **phone) as context,
        reviewing(context, service, job) as page,
    ):
        fingers = context.new_cdp_session(page)

        def touch(kind: str, *points: tuple[float, float]) -> None:
            told = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
            fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": told})

        def drag(start: tuple[float, float], end: tuple[float, float]) -> None:
            touch("touchStart", start)
            for step in range(1, 5):
                touch("touchMove", tuple(one + (other - one) * step / 4 for one, other in zip(start, end, strict=True)))
            touch("touchEnd")

        before = pictures[0]["kept"][0]
        middle = ((before["x1"] + before["x2"]) / 2, (before["y1"] + before["y2"]) / 2)
        page.locator("#stage").scroll_into_view_if_needed()
        page.touchscreen.tap(*inside(page, *middle))
        assert page.inner_text("#chosen") == f"Box 1 of {len(pictures[0]['kept'])}: {before['name']}"
        drag(inside(page, *middle), inside(page, middle[0], middle[1] - 0.05))
        page.get_by_role("button", name="Draw").tap()
        drag(inside(page, 0.03, 0.03), inside(page, 0.2, 0.2))
        wide = page.locator("#stage .frame").bounding_box()
        x, y = inside(page, 0.5, 0.5)
        touch("touchStart", (x - 20, y), (x + 20, y))
        for step in range(1, 5):
            touch("touchMove", (x - 20 - 10 * step, y), (x + 20 + 10 * step, y))
        touch("touchEnd")
        wider = page.locator("#stage .frame").bounding_box()
        assert wide is not None
        assert wider is not None
        assert wider["width"] > 2 * wide["width"]
        page.get_by_role("button", name="Accept", exact=True).tap()
        page.wait_for_function(SHOWN, arg=pictures[1]["image"])
        page.get_by_role("button", name="Reject", exact=True).tap()
        page.wait_for_function(SHOWN, arg=pictures[2]["image"])
        page.wait_for_function(SAVED)
        assert page.evaluate("document.documentElement.scrollWidth") == page.viewport_size["width"]  # type: ignore[index]
    found = decisions(service, job)
    boxes = found[pictures[0]["image"]]["boxes"]
    assert len(boxes) == len(pictures[0]["kept"]) + 1
    assert boxes[0]["y1"] < before["y1"] - 0.02
    assert boxes[-1]["x1"] == pytest.approx(0.03, abs=0.02)
    assert found[pictures[1]["image"]]["decision"] == "reject"


def test_without_scripts_pictures_are_accepted_and_rejected_and_the_review_is_completed(
    service: Filled, browser: Browser
):
    job, pictures = waiting(service, 4)
    first, second = (one["image"] for one in pictures[:2])
    with logged_in(browser, service, ClientRole.OPERATOR, viewport=DESK) as context:
        state = context.storage_state()
    context = browser.new_context(java_script_enabled=False, storage_state=state, viewport=DESK)
    page = context.new_page()
    page.goto(f"{service.url}/jobs/{job}/review")
    assert page.locator(".sheet svg rect.box").count() == sum(len(one["kept"]) for one in pictures)
    page.fill("#who", "ann")
    page.click(f"#image-{first} >> text=Accept")
    expect(page.locator(".flash")).to_contain_text(f"{first}: accepted.")
    assert page.input_value("#who") == "ann"
    service.client.put(f"/v1/jobs/{job}/review/images/{second}", json={"decision": "accept", "reviewer": "bob"})
    page.click(f"#image-{second} >> text=Reject")
    expect(page.locator(".flash")).to_contain_text("Nothing was changed")
    with page.expect_navigation():
        page.click(f"#image-{second} >> text=Reject")
    with page.expect_navigation():
        page.click(f"#image-{first} >> text=Open again")
    page.get_by_role("link", name="Decided").click()
    expect(page.locator(".sheet > li")).to_have_count(1)
    with page.expect_navigation():
        page.get_by_role("button", name="Accept the rest").click()
    context.close()
    told = {name: (one["decision"], one["seen"]) for name, one in decisions(service, job).items()}
    assert told.pop(second) == ("reject", True)
    assert set(told.values()) == {("accept", False)}
