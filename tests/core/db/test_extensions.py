"""Jobs that add epochs to others: what they take over, who may be extended, and what is kept for it."""

from __future__ import annotations

from typing import Any

import pytest
from results import result
from retort.db import Lease, artifacts, jobs, reruns, transitions, trash, usage
from retort.db.jobs import SubmittedJob, WrongState
from retort.db.reruns import MoreEpochs, OnBehalf, RerunTerms
from retort.errors import CannotExtend, SpecError
from retort.protocol.events import RunFailure
from retort.protocol.workdir import ENDED
from retort.spec import JobSpec
from retort.states import JobState
from support.db_harness import T0, Shop

LATER = RerunTerms(now=T0 + 40, retries=3, admit=lambda _: ())
DONE = {"epochs": 100, "planned_epochs": 100, "batch": 16}


def a_file(path: str, **more: Any) -> dict[str, Any]:
    return {"path": path, "key": f"saved/{path}", "sha256": "0" * 64, "size_bytes": 10, **more}


FILES = [a_file("stages/report.json"), a_file("last/student/states/00100.state", last=True)]


def ends(shop: Shop, lease: Lease, *, stage: str = ENDED, **changes: Any) -> str:
    """Let a job succeed that has saved something under *stage*."""
    saved = {"job_id": lease.job_id, "attempt": 1, "stage": stage, "epoch": 100, "files": FILES}
    with shop.database.begin() as session:
        assert artifacts.record_recovery(session, lease, saved, now=T0)
        found = result(**{"training": DONE, **changes})
        assert transitions.succeed(session, lease, now=T0 + 10, result=found)
    return lease.job_id


def specified(shop: Shop, **changes: Any) -> Lease:
    """A running job of a spec that is changed so."""
    document = shop.spec.model_dump(mode="json")
    training = {**document["training"], **changes.pop("training", {})}
    shop.spec = JobSpec.model_validate({**document, **changes, "training": training})
    return shop.running()


def extended(shop: Shop, job_id: str, epochs: int = 20, **more: Any) -> SubmittedJob:
    terms = RerunTerms(now=T0 + 20, retries=3, admit=lambda _: (), behalf=more.pop("behalf", None))
    with shop.database.begin() as session:
        return reruns.extend(session, job_id, MoreEpochs(epochs, **more), terms)


def forget(shop: Shop, *, after_s: float) -> list[str]:
    with shop.database.begin() as session:
        return artifacts.forget_old_recovery(session, before=T0 + 1e6, succeeded_before=T0 + 10 + after_s)


def test_success_keeps_of_what_was_saved_the_last_state_alone(shop: Shop):
    kept = shop.job(ends(shop, shop.running())).recovery
    assert [file["path"] for file in kept["files"]] == ["last/student/states/00100.state"]


def test_success_keeps_nothing_that_is_not_the_last_state(shop: Shop):
    assert shop.job(ends(shop, shop.running(), stage="distill")).recovery is None


def test_an_extension_is_a_new_job_with_more_epochs_that_goes_on_from_the_last_state(shop: Shop):
    parent = shop.job(ends(shop, shop.running(labels={"site": "north"}, priority=3)))
    child = shop.job(extended(shop, parent.id, 20, labels={"run": "2"}).job_id)
    assert (child.state, child.parent_id, child.recovery) == (JobState.QUEUED, parent.id, parent.recovery)
    assert child.spec == {**parent.spec, "training": {**parent.spec["training"], "epochs": 120}}
    assert child.adjustments == {"extension": {"job": parent.id, "name": "a", "epochs": [100]}}
    assert (child.labels, child.priority, child.name) == ({"site": "north", "run": "2"}, 3, "a")
    assert "not that of as many epochs in one training" in shop.events(child.id)[1]["message"]


def test_name_and_priority_may_be_others_and_the_priority_is_bounded(shop: Shop):
    parent = ends(shop, shop.running())
    child = shop.job(extended(shop, parent, name="b", priority=50, behalf=OnBehalf("ann", 10)).job_id)
    assert (child.name, child.spec["name"], child.priority, child.owner) == ("b", "b", 10, "ann")
    assert child.adjustments["extension"]["name"] == "a", "by which the stages before the student are known"


def test_an_extension_of_an_extension_knows_all_ends(shop: Shop):
    first = ends(shop, shop.running())
    second = extended(shop, first, 20, name="b").job_id
    done = {"epochs": 120, "planned_epochs": 120, "batch": 16}
    ends(shop, shop.claimed(second, now=T0 + 20), training=done)
    third = shop.job(extended(shop, second, 5).job_id)
    assert third.adjustments == {"extension": {"job": second, "name": "a", "epochs": [100, 120]}}
    assert third.spec["training"]["epochs"] == 125


def test_a_retry_of_an_extension_that_failed_is_the_same_extension(shop: Shop):
    parent = ends(shop, shop.running())
    child = extended(shop, parent).job_id
    lease = shop.claimed(child, now=T0 + 20)
    with shop.database.begin() as session:
        transitions.fail(session, lease, now=T0 + 30, failure=RunFailure(code="bad_data", message="x"), exit_code=1)
        again = reruns.retry(session, child, LATER).job_id
    assert shop.job(again).adjustments == shop.job(child).adjustments
    assert shop.job(again).recovery == shop.job(parent).recovery


def test_a_clone_of_an_extension_trains_all_epochs_from_the_beginning(shop: Shop):
    child = extended(shop, ends(shop, shop.running())).job_id
    with shop.database.begin() as session:
        anew = reruns.clone(session, child, {}, LATER).job_id
    cloned = shop.job(anew)
    assert (cloned.adjustments, cloned.recovery, cloned.spec["training"]["epochs"]) == (None, None, 120)


@pytest.mark.parametrize(
    ("asked", "found", "why"),
    [
        ({"training": {"seeds": 3}}, {}, "seeds"),
        ({"arms": ["placebo"]}, {}, "arms"),
        ({"training": {"time": 1.5}}, {}, "training.time"),
        ({}, {"training": {**DONE, "epochs": 40}}, "ended after epoch 40 of 100"),
        ({}, {"training": {**DONE, "epochs": 40, "stopped_by": "patience"}}, "ended after epoch 40 of 100"),
        ({}, {"control": None, "control_dropped": "it failed"}, "no control was trained"),
    ],
)
def test_a_job_whose_comparison_would_not_be_fair_cannot_be_extended(
    shop: Shop, asked: dict[str, Any], found: dict[str, Any], why: str
):
    job_id = ends(shop, specified(shop, **asked), **found)
    with pytest.raises(CannotExtend, match=why) as refused:
        extended(shop, job_id)
    assert "clone" in str(refused.value.hint)


def test_an_extension_leaves_out_the_arms_that_tell_what_further_images_brought(shop: Shop):
    parent = ends(shop, specified(shop, pseudo_labels={"path": "/more"}, arms=["labelled_only"]))
    assert shop.job(extended(shop, parent).job_id).spec["arms"] == []


def test_a_job_without_control_is_extended_as_it_is(shop: Shop):
    assert extended(shop, ends(shop, specified(shop, control=False), control=None)).created


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING, JobState.CANCELLED])
def test_only_what_has_succeeded_is_extended(shop: Shop, state: JobState):
    job_id = shop.running().job_id if state is JobState.RUNNING else shop.queued()
    if state is JobState.CANCELLED:
        with shop.database.begin() as session:
            jobs.cancel(session, job_id, now=T0, actor="client")
    with pytest.raises(WrongState, match=state.value):
        extended(shop, job_id)


def test_a_spec_with_more_epochs_than_there_may_be_is_refused(shop: Shop):
    with pytest.raises(SpecError) as refused:
        extended(shop, ends(shop, shop.running()), 10_000)
    assert [problem.path for problem in refused.value.problems] == ["training.epochs"]


def test_a_state_that_retention_has_removed_is_told_with_what_to_do(shop: Shop):
    job_id = ends(shop, shop.running())
    assert forget(shop, after_s=1) == [job_id]
    with pytest.raises(CannotExtend, match="not kept") as refused:
        extended(shop, job_id)
    assert "RETORT_KEEP_LAST_STATE_S" in str(refused.value.hint)


def test_a_queued_extension_holds_its_parents_files_and_an_ended_one_does_not(shop: Shop):
    parent = ends(shop, shop.running())
    child = extended(shop, parent).job_id
    assert forget(shop, after_s=1) == []
    with shop.database.begin() as session, pytest.raises(trash.InUse):
        trash.delete_job(session, parent, now=T0 + 30)
    lease = shop.claimed(child, now=T0 + 20)
    with shop.database.begin() as session:
        transitions.succeed(session, lease, now=T0 + 40, result=result(training=DONE))
    assert shop.job(child).recovery is None, "what it was given is not its own"
    assert forget(shop, after_s=1) == [parent]


def test_a_pinned_jobs_last_state_stays(shop: Shop):
    job_id = ends(shop, shop.running())
    with shop.database.begin() as session:
        jobs.change(session, job_id, jobs.JobChange(None, {}, None, keep=True), matches=lambda _: True)
    assert forget(shop, after_s=1e6) == []


def test_the_last_state_counts_as_its_owners_bytes(shop: Shop):
    ends(shop, shop.running())
    with shop.database.read() as session:
        found = {one.kind: one.size_bytes for one in usage.stored(session)}
    assert found == {"saved": 10}


def test_memory_that_runs_out_never_halves_the_batch_of_an_extension(shop: Shop):
    document = shop.spec.model_dump(mode="json")
    shop.spec = JobSpec.model_validate({**document, "resources": {"halve_batch": True}})
    child = shop.claimed(extended(shop, ends(shop, shop.running())).job_id, now=T0 + 20)
    failure = RunFailure(code="out_of_memory", message="x")
    with shop.database.begin() as session:
        state = transitions.fail(session, child, now=T0 + 30, failure=failure, exit_code=1)
    assert state is JobState.FAILED
