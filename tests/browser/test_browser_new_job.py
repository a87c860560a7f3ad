"""The page of a new job in a real browser: form and YAML follow each other as somebody types, and one click submits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from browser.pages_walk import Filled, PageWatch, filled_service, logged_in
from browser.test_browser_report import CHROMIUM
from playwright.sync_api import Browser, expect, sync_playwright
from retort.access import ClientRole
from support.registered import put_dataset, put_model

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")


@pytest.fixture(scope="module")
def service(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    with filled_service(sqlite_template, tmp_path_factory.mktemp("new")) as filled:
        put_dataset(filled.database, filled.worker.store, filled.folder, "older")
        put_dataset(filled.database, filled.worker.store, filled.folder, "street")
        put_model(filled.database, filled.worker.store, filled.folder, "big", reached=0.7)
        yield filled


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


def test_form_and_yaml_follow_each_other_and_errors_come_and_go_at_their_field(service: Filled, browser: Browser):
    with logged_in(browser, service, ClientRole.SUBMITTER) as context:
        page = context.new_page()
        watch = PageWatch(page)
        page.goto(f"{service.url}/new")
        page.fill("#f-training-epochs", "7")
        expect(page.locator("#f-spec")).to_have_value(re.compile("epochs: 7"))
        page.fill("#f-spec", page.input_value("#f-spec").replace("epochs: 7", "epochs: 8 # mine\n  seeds: 0"))
        expect(page.locator("#e-training-seeds")).to_contain_text("greater than or equal to 1")
        assert page.get_attribute("#f-training-seeds", "aria-invalid") == "true"
        assert page.input_value("#f-training-epochs") == "8"
        assert "# mine" in page.input_value("#f-spec")
        page.fill("#f-training-seeds", "3")
        expect(page.locator("#problems .bad")).to_have_count(0)
        expect(page.locator("#command-1")).to_contain_text("seeds: 3")
        page.get_by_label("older", exact=False).first.check()
        expect(page.locator("#f-spec")).to_have_value(re.compile("dataset:older@sha256"))
        assert watch.complaints == []


def test_losses_are_added_changed_and_removed_by_the_form_as_the_yaml_follows(service: Filled, browser: Browser):
    with logged_in(browser, service, ClientRole.SUBMITTER) as context:
        page = context.new_page()
        watch = PageWatch(page)
        page.goto(f"{service.url}/new")
        page.fill("#f-spec", "# mine\n" + page.input_value("#f-spec"))
        page.get_by_text("losses, balance, schedule").click()
        page.get_by_role("button", name="Add another loss").click()
        expect(page.locator("#f-distillation-losses-3-kind")).to_be_focused()
        page.select_option("#f-distillation-losses-3-kind", "masked_generative")
        page.fill("#f-distillation-losses-3-mask_ratio", "0.5")
        expect(page.locator("#f-spec")).to_have_value(re.compile("mask_ratio: 0.5"))
        page.get_by_role("button", name="Remove loss 1").click()
        expect(page.locator("#f-spec")).not_to_have_value(re.compile("class_logits"))
        expect(page.locator("#f-distillation-losses fieldset.group")).to_have_count(3)
        assert page.input_value("#f-spec").startswith("# mine\n")
        page.fill("#f-training-epochs", "many")
        expect(page.locator("#e-training-epochs")).to_contain_text("many")
        page.fill("#f-name", "a b")
        expect(page.locator("#e-name")).to_contain_text("a b")
        page.get_by_role("button", name="Submit job").click()
        expect(page.locator("#f-name")).to_be_focused()  # the first that is wrong
        assert (page.input_value("#f-name"), page.input_value("#f-training-epochs")) == ("a b", "many")
        assert watch.complaints == [
            "Failed to load resource: the server responded with a status of 422 (Unprocessable Entity)"
        ]


def test_a_new_user_submits_by_two_clicks_and_a_double_click_makes_one_job(service: Filled, browser: Browser):
    with logged_in(browser, service, ClientRole.SUBMITTER) as context:
        page = context.new_page()
        page.goto(service.url)
        before = service.client.get("/v1/jobs").json()["data"]
        page.get_by_role("link", name="New job").first.click()
        page.wait_for_selector("#job-form")
        page.get_by_role("button", name="Submit job").dblclick()
        page.wait_for_url(f"{service.url}/jobs/job_*")
        after = service.client.get("/v1/jobs").json()["data"]
        assert len(after) == len(before) + 1
        assert after[0]["name"] == "street"


def test_without_scripts_the_same_form_checks_and_submits(service: Filled, browser: Browser):
    with logged_in(browser, service, ClientRole.SUBMITTER) as context:
        state = context.storage_state()
    with closing(browser.new_context(java_script_enabled=False, storage_state=state)) as plain:
        page = plain.new_page()
        page.goto(f"{service.url}/new")
        page.fill("#f-training-epochs", "5")
        page.get_by_label("ONNX, INT8").first.check()
        with page.expect_navigation():
            page.get_by_role("button", name="Check").click()
        assert "epochs: 5" in page.input_value("#f-spec")
        assert "precision: int8" in page.input_value("#f-spec")
        page.get_by_text("losses, balance, schedule").click()
        page.get_by_role("button", name="Add another loss").click()
        expect(page.locator("#f-distillation-losses-3-kind")).to_be_visible()
        expect(page.locator("#f-spec")).to_have_value(re.compile("kind: box_giou"))
        page.get_by_role("button", name="Take the recipe's").click()
        expect(page.locator("#f-spec")).not_to_have_value(re.compile("box_giou"))
        page.fill("#f-spec", page.input_value("#f-spec").replace("epochs: 5", "epochs: 6"))
        page.get_by_role("button", name="Submit job").click()
        page.wait_for_url(f"{service.url}/jobs/job_*")
        job_id = page.url.rpartition("/")[2]
        assert service.client.get(f"/v1/jobs/{job_id}").json()["spec"]["training"]["epochs"] == 6
