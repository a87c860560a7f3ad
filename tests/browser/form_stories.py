"""What people do with forms, told once: each story presses its forms in a browser, with scripts and without.

A story names the routes to which its forms go; it asserts what has become of it in the service, not on the page alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from browser.pages_walk import Filled
from playwright.sync_api import Page, expect
from results import RESULT, result
from retort.constants import MAP, Role
from retort.db import Lease, artifacts, webhooks
from retort.db.session import database_now
from retort.db.webhooks import Answer
from retort.protocol.events import MetricEvent
from retort.protocol.workdir import ENDED
from support import places
from support.api_harness import SWEEP
from support.checkpoints import checkpoint
from support.identity import OPERATOR
from support.job_pages import FAILURE
from support.review_filling import await_review


@dataclass(frozen=True)
class Desk:
    """An operator at a page."""

    page: Page
    service: Filled
    scripts: bool
    folder: Path
    turn: str
    """Of this story alone: what it names is so named nowhere else."""

    def open(self, path: str) -> None:
        """Go to a page."""
        self.page.goto(self.service.url + path)

    def press(self, name: str, *, within: str = "main") -> None:
        """Press the one button of this name, and wait for the page that answers."""
        with self.page.expect_navigation():
            self.page.locator(within).get_by_role("button", name=name, exact=True).click()

    def unfold(self, name: str) -> None:
        """Open the question behind a button."""
        self.page.locator("main summary").get_by_text(name, exact=True).click()

    def api(self, path: str) -> Any:
        """Return what programs are told there."""
        answer = self.service.client.get(f"/v1{path}")
        return answer.json() if answer.status_code == 200 else answer.status_code

    def here(self) -> Any:
        """Return the job whose page is open, as programs are told of it."""
        return self.api(f"/jobs/{self.page.url.partition('/jobs/')[2]}")

    def queued(self, name: str, **changes: Any) -> tuple[str, Lease]:
        """Queue a job, and let a worker take it."""
        job_id = self.service.submit(name, **changes)
        return job_id, self.service.worker.claim(job_id)


@dataclass(frozen=True)
class Story:
    """What somebody does, and the forms that it needs."""

    act: Callable[[Desk], None]
    routes: frozenset[str]
    plain: frozenset[str]
    """Of them, those which scripts replace with calls of their own."""
    stranger: bool = False
    """Whether it begins with nobody logged in."""

    def pressed(self, *, scripts: bool) -> frozenset[str]:
        """Return the routes that a browser posts to."""
        return self.routes - self.plain if scripts else self.routes


STORIES: dict[str, Story] = {}
Act = Callable[[Desk], None]


def story(*routes: str, plain: tuple[str, ...] = (), stranger: bool = False) -> Callable[[Act], Act]:
    """Keep a story with the *routes* of its forms, and those of its *plain* ones."""

    def keep(act: Act) -> Act:
        STORIES[act.__name__.strip("_")] = Story(act, frozenset((*routes, *plain)), frozenset(plain), stranger)
        return act

    return keep


JOB = "/jobs/{job_id}"


@story(f"{JOB}/pause", f"{JOB}/resume", f"{JOB}/stop", f"{JOB}/cancel")
def _a_running_job_is_steered(desk: Desk) -> None:
    job_id = desk.service.submit("steered")
    desk.open(f"/jobs/{job_id}")
    desk.press("Pause")
    assert desk.here()["state"] == "paused"
    desk.press("Resume")
    assert desk.here()["state"] == "queued"
    lease = desk.service.worker.claim(job_id)
    desk.service.worker.record(lease, MetricEvent(n=1, at=1, role=Role.STUDENT, step=1, values={MAP: 0.4}))
    desk.open(f"/jobs/{job_id}")
    desk.press("Stop early, keep the best")
    assert desk.here()["finish_early"]
    desk.unfold("Cancel")
    desk.press("Cancel the job")
    assert desk.here()["state"] == "cancelling"


@story(f"{JOB}/retry", f"{JOB}/retry-changed")
def _a_failed_job_is_retried_with_a_change_and_as_it_was(desk: Desk) -> None:
    failed, lease = desk.queued("too-large", training={"epochs": 12})
    desk.service.worker.fail(lease, FAILURE)
    desk.open(f"/jobs/{failed}")
    desk.page.get_by_label("training.batch").fill("8")
    desk.press("Retry with this change")
    changed = desk.here()
    assert (changed["state"], changed["parent_id"], changed["spec"]["training"]["batch"]) == ("queued", failed, 8)
    assert changed["spec"]["training"]["epochs"] == 12
    desk.open(f"/jobs/{failed}")
    desk.press("Retry")
    again = desk.here()
    assert (again["state"], again["parent_id"]) == ("queued", failed)
    assert again["spec"] == desk.api(f"/jobs/{failed}")["spec"]


def _with_last_state(desk: Desk, lease: Lease) -> None:
    state = {"path": "last/a.state", "key": "saved/a", "sha256": "0" * 64, "size_bytes": 10, "last": True}
    saved = {"job_id": lease.job_id, "attempt": 1, "stage": ENDED, "epoch": 100, "files": [state]}
    with desk.service.database.begin() as session:
        assert artifacts.record_recovery(session, lease, saved, now=database_now(session))


@story(f"{JOB}/extend", f"{JOB}/export", f"{JOB}/keep", f"{JOB}/delete", f"{JOB}/restore")
def _a_job_that_has_ended_is_extended_exported_pinned_deleted_and_restored(desk: Desk) -> None:
    ended, lease = desk.queued(f"ended-{desk.turn}")
    _with_last_state(desk, lease)
    desk.service.worker.succeed(lease, result(training={"epochs": 100, "planned_epochs": 100, "batch": 16}))
    places.model(
        desk.service.database, desk.service.worker.store, desk.folder, f"ended-{desk.turn}-student", job_id=ended
    )
    desk.open(f"/jobs/{ended}")
    desk.unfold("Extend")
    desk.page.get_by_label("Epochs to add").fill("20")
    desk.press("Extend")
    more = desk.here()
    assert (more["parent_id"], more["spec"]["training"]["epochs"]) == (ended, 120)
    assert more["adjustments"]["extension"]["job"] == ended

    desk.open(f"/jobs/{ended}/files")
    desk.page.get_by_label("Form").select_option(label="OpenVINO, INT8")
    desk.press("Export")
    made = desk.here()
    wanted = {"format": "openvino", "precision": "int8"}
    assert made["spec"]["task"] == "evaluate"
    assert wanted.items() <= made["spec"]["exports"][0].items()

    for job_id in (made["id"], more["id"]):  # nothing may need what is deleted
        desk.service.client.post(f"/v1/jobs/{job_id}/cancel")
        desk.service.client.delete(f"/v1/jobs/{job_id}")
    desk.open(f"/jobs/{ended}")
    desk.press("Pin")
    assert desk.here()["keep"]
    assert desk.page.locator("main summary").get_by_text("Delete", exact=True).count() == 0, "it is kept"
    desk.press("Unpin")
    assert not desk.here()["keep"]
    desk.unfold("Delete")
    desk.press("Delete the job")
    assert desk.here()["deleted_at"]
    desk.press("Restore")
    assert desk.here()["deleted_at"] is None


@story("/new")
def _a_job_is_cloned_with_a_change(desk: Desk) -> None:
    first = desk.service.submit("cloned")
    desk.open(f"/jobs/{first}")
    desk.page.get_by_role("link", name="Clone with changes").click()
    desk.page.fill("#f-training-epochs", "7")
    desk.press("Submit job")
    made = desk.here()
    assert (made["parent_id"], made["spec"]["training"]["epochs"], made["name"]) == (first, 7, "cloned")


@story("/jobs/bulk")
def _ticked_jobs_are_cancelled_retried_and_deleted(desk: Desk) -> None:
    ids = [desk.service.submit(f"many-{desk.turn}-{number}") for number in range(4)]
    steps = (
        ("Cancel", ids, "4 jobs cancelled."), ("Retry", ids[:2], "2 jobs queued again."),
        ("Delete", ids[2:], "2 jobs moved to the trash."),
    )  # fmt: skip
    desk.open("/")
    desk.page.fill("#q", f"many-{desk.turn}")
    with desk.page.expect_navigation():
        desk.page.press("#q", "Enter")
    for action, ticked, told in steps:
        for job_id in ticked:
            desk.page.check(f"#tick-{job_id}")
        desk.press(action)
        expect(desk.page.locator(".flash")).to_contain_text(told)
        assert f"q=many-{desk.turn}" in desk.page.url, "the search is kept"
    found = [desk.api(f"/jobs/{job_id}") for job_id in ids]
    assert [(one["state"], one["deleted_at"] is not None) for one in found] == [
        ("cancelled", False), ("cancelled", False), ("cancelled", True), ("cancelled", True),
    ]  # fmt: skip
    assert len(desk.api(f"/jobs?q=many-{desk.turn}&state=queued")["data"]) == 2
    desk.page.click('nav[aria-label="States"] >> text=Running')
    expect(desk.page.locator("main")).to_contain_text("No job is like this.")


@story(f"{JOB}/review/complete", plain=(f"{JOB}/review/decide",))
def _a_review_is_decided_and_completed(desk: Desk) -> None:
    job_id = desk.service.submit("to-review")
    first, second = (one["image"] for one in await_review(desk.service.worker, job_id, number=2))
    desk.open(f"/jobs/{job_id}/review")
    if desk.scripts:
        desk.page.wait_for_selector("#stage[data-image]")
        desk.page.keyboard.press("r")
        desk.page.wait_for_function("() => document.getElementById('saved').textContent === 'All is saved.'")
    else:
        desk.press(f"Reject slides/{first}.png")
    desk.press("Accept the rest (1) and complete")
    assert desk.here()["state"] == "queued"
    decided = {one["image"]: one["decision"]["decision"] for one in desk.api(f"/jobs/{job_id}/review/images")["data"]}
    assert decided == {first: "reject", second: "accept"}


@story("/login/key", "/logout", "/theme", "/settings/sessions/end", stranger=True)
def _somebody_logs_in_by_a_key_looks_around_and_logs_out(desk: Desk) -> None:
    context = desk.page.context
    desk.open("/models?deleted=true")
    desk.page.fill("#key", OPERATOR)
    desk.press("Log in")
    assert desk.page.url == f"{desk.service.url}/models?deleted=true", "it leads to what was wanted"
    shown = desk.page.locator("html")
    for theme in ("dark", "light", "auto"):
        desk.page.get_by_role("button", name="Theme").click()
        expect(shown).to_have_attribute("data-theme", theme)
        assert desk.page.url.endswith("/models?deleted=true")
    kept = context.cookies()
    desk.press("Log out", within="header")
    desk.open("/")
    assert desk.page.url == f"{desk.service.url}/login?next=%2F"
    context.add_cookies(kept)
    desk.open("/")
    assert desk.page.url == f"{desk.service.url}/login?next=%2F", "the session itself has ended"

    desk.page.fill("#key", OPERATOR)
    desk.press("Log in")
    desk.open("/settings")
    mine = desk.page.locator("tr", has_text="this one").get_by_role("button")
    with desk.page.expect_navigation():
        mine.click()
    assert desk.page.url == f"{desk.service.url}/login?next=%2Fsettings"


@story("/data/{name}/delete", "/data/{name}/restore", plain=("/data",))
def _data_is_sent_deleted_and_restored(desk: Desk) -> None:
    name = f"cells-{desk.turn}"
    if not desk.scripts:
        (archive := desk.folder / "cells.zip").write_bytes(b"PK" + desk.turn.encode())
        desk.open("/data")
        desk.page.set_input_files("#archive", archive)
        desk.page.fill("#name", f"sent-{desk.turn}")
        desk.press("Send")
        assert desk.api(f"/datasets/sent-{desk.turn}")["data"][0]["state"] == "checking"
    places.ready_dataset(desk.service.database, desk.service.worker.store, desk.folder, name)
    desk.open(f"/data/{name}")
    desk.press("Delete")
    assert desk.api(f"/datasets/{name}") == 404
    desk.open("/data?deleted=true")
    desk.press(f"Restore {name}")
    assert desk.api(f"/datasets/{name}")["data"][0]["state"] == "ready"


@story("/models", "/models/published", "/models/{name}/delete", "/models/{name}/restore")
def _models_are_sent_registered_deleted_and_restored(desk: Desk) -> None:
    job_id, lease = desk.queued("published")
    desk.service.worker.publish(lease, "student.pt", checkpoint(note=f"{desk.turn} of a job"))
    (weights := desk.folder / "mine.pt").write_bytes(checkpoint(note=desk.turn))
    sent, published = f"sent-{desk.turn}", f"published-{desk.turn}"
    desk.open("/models")
    desk.page.set_input_files("#weights", weights)
    desk.page.fill("#name", sent)
    desk.press("Send")
    digest = desk.api(f"/models/{sent}")["data"][0]["sha256"]
    desk.open("/models")
    desk.page.fill("#job", f"{desk.service.url}/jobs/{job_id}")
    desk.page.fill("#published-name", published)
    desk.press("Register")
    assert desk.api(f"/models/{published}")["data"][0]["job_id"] == job_id
    desk.open(f"/models/{sent}")
    desk.press(f"Delete {digest[:12]}")
    assert desk.api(f"/models/{sent}") == 404
    desk.open("/models?deleted=true")
    desk.press(f"Restore {sent} {digest[:8]}")
    assert desk.api(f"/models/{sent}")["data"][0]["sha256"] == digest


@story("/settings/keys", "/settings/keys/{key_id}/rotate", "/settings/keys/{key_id}/revoke", "/settings/projects")
def _a_key_is_made_replaced_and_revoked(desk: Desk) -> None:
    desk.open("/settings/keys")
    desk.page.fill("#project-name", f"street-{desk.turn}")
    desk.press("Make the project")
    desk.page.fill("#name", f"page {desk.turn}")
    desk.page.select_option("#role", "reader")
    desk.page.select_option("#project", f"street-{desk.turn}")
    desk.press("Make the key")
    secret = desk.page.inner_text("#secret")
    me = desk.service.client.get("/v1/me", headers={"Authorization": f"Bearer {secret}"}).json()
    assert (me["role"], me["project"]) == ("reader", f"street-{desk.turn}")
    desk.open("/settings/keys")
    desk.press(f"Replace page {desk.turn}")
    newer = {"Authorization": f"Bearer {desk.page.inner_text('#secret')}"}
    assert desk.service.client.get("/v1/me", headers=newer).status_code == 200
    desk.open("/settings/keys")
    with desk.page.expect_navigation():
        desk.page.get_by_role("button", name=f"Revoke page {desk.turn}").first.click()
    assert desk.service.client.get("/v1/me", headers=newer).status_code == 401


HOOK = "/settings/webhooks/{webhook_id}"


@story("/settings/webhooks", HOOK, f"{HOOK}/test", f"{HOOK}/redeliver", f"{HOOK}/rotate", f"{HOOK}/delete")
def _a_webhook_is_made_tried_changed_and_deleted(desk: Desk) -> None:
    desk.open("/settings/webhooks")
    desk.page.fill("#url", f"https://1.1.1.1/{desk.turn}")
    desk.press("Make the webhook")
    first = desk.page.inner_text("#secret")
    desk.page.get_by_role("link", name="I have copied it").click()
    home = next(one for one in desk.api("/webhooks")["data"] if one["url"].endswith(desk.turn))["id"]
    desk.open(f"/settings/webhooks/{home}")
    desk.press("Send a test")
    with desk.service.database.begin() as session:
        [due] = webhooks.take(session, now=database_now(session), hold_s=9.0, limit=9)
        webhooks.record(session, due, Answer(200, None, 12.0), now=database_now(session))
    desk.open(f"/settings/webhooks/{home}")
    with desk.page.expect_navigation():
        desk.page.get_by_role("button", name="again").click()
    assert [one["state"] for one in desk.api(f"/webhooks/{home}/deliveries")["data"]] == ["pending"]
    desk.page.get_by_label("succeeded").uncheck()
    desk.page.get_by_label("On", exact=True).uncheck()
    desk.press("Save")
    found = desk.api(f"/webhooks/{home}")
    assert (found["enabled"], "job.succeeded" in found["events"], "job.failed" in found["events"]) == (
        False, False, True,
    )  # fmt: skip
    desk.press("New secret")
    assert desk.page.inner_text("#secret") != first
    desk.open(f"/settings/webhooks/{home}")
    desk.press("Delete")
    assert desk.api(f"/webhooks/{home}") == 404


@story("/settings/quotas", "/settings/retention/apply")
def _a_quota_is_set_and_retention_applied(desk: Desk) -> None:
    desk.open("/settings/quotas")
    desk.page.fill("#gpu_hours", "12.5")
    desk.page.fill("#queued_jobs", "900")
    desk.press("Set the quota")
    limits = desk.api("/projects/default/quota")["limits"]
    assert (limits["gpu_hours"], limits["queued_jobs"]) == (12.5, 900)
    for field in ("#gpu_hours", "#queued_jobs"):
        desk.page.fill(field, "")
    desk.press("Set the quota")
    assert desk.api("/projects/default/quota")["limits"]["gpu_hours"] is None
    desk.open("/settings/retention")
    desk.press("Apply retention now")
    expect(desk.page.locator(".flash")).to_contain_text("bytes freed")


TRASH = "/settings/trash"


@story(f"{TRASH}/jobs/{{job_id}}", f"{TRASH}/sweeps/{{sweep_id}}", f"{TRASH}/artifacts", f"{TRASH}/restore")
def _everything_comes_back_from_the_trash(desk: Desk) -> None:
    client = desk.service.client
    job_id, lease = desk.queued(f"thrown-{desk.turn}")
    desk.service.worker.publish(lease, "student.pt", b"x")
    desk.service.worker.succeed(lease, RESULT)
    other = desk.service.submit(f"away-{desk.turn}")
    client.post(f"/v1/jobs/{other}/cancel")
    sweep_id = client.post("/v1/sweeps", json={**SWEEP, "name": f"swept-{desk.turn}"}).json()["id"]
    client.post(f"/v1/sweeps/{sweep_id}/cancel")
    desk.service.worker.sweep(sweep_id)
    for path in (f"/v1/jobs/{job_id}/artifacts/student.pt", f"/v1/jobs/{other}", f"/v1/sweeps/{sweep_id}"):
        assert client.delete(path).status_code == 204, path
    desk.open(TRASH)
    desk.press(f"Restore away-{desk.turn} {other[:12]}")
    assert desk.api(f"/jobs/{other}")["deleted_at"] is None
    desk.press(f"Restore swept-{desk.turn} {sweep_id[:12]}")
    assert desk.api(f"/sweeps/{sweep_id}")["deleted_at"] is None
    desk.press(f"Restore student.pt of {job_id[:12]}")
    assert [one["name"] for one in desk.api(f"/jobs/{job_id}/artifacts")["data"]] == ["student.pt"]
    assert client.delete(f"/v1/jobs/{other}").status_code == 204
    desk.open(TRASH)
    desk.page.get_by_label(f"Tick away-{desk.turn} {other[:12]}").check()
    desk.page.locator("#restore-jobs").get_by_role("button", name="Restore ticked").click()
    expect(desk.page.locator(".flash")).to_contain_text("1 job restored")
    assert desk.api(f"/jobs/{other}")["deleted_at"] is None


@story("/workers/drain")
def _a_worker_is_drained_and_takes_jobs_again(desk: Desk) -> None:
    name = f"box:{desk.turn}:aa"
    places.worker(desk.service.database, name)
    desk.open("/workers")

    def drained() -> bool:
        return next(one for one in desk.api("/workers")["data"] if one["name"] == name)["drained_at"] is not None

    desk.press(f"Drain {name}")
    assert drained()
    desk.press(f"Let {name} take jobs again")
    assert not drained()
