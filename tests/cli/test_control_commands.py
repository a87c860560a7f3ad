"""The commands that say what is to become of a job, against a real service."""

from __future__ import annotations

from collections.abc import Callable

from cli.commands import Retort

Submitted = Callable[[str, int], str]


def test_a_job_is_paused_and_goes_on_when_it_is_resumed(served: Retort, submitted: Submitted):
    job_id = submitted("train", 40)
    paused = served("pause", job_id)
    assert (paused.code, paused.err) == (0, "")
    assert paused.out.startswith(f"{job_id} is pau")
    assert served("resume", job_id).code == 0
    assert served("wait", job_id, "--timeout", 60).code == 0


def test_a_job_is_stopped_and_keeps_what_it_has(served: Retort, submitted: Submitted):
    job_id = submitted("train", 9_000)
    refused = served("stop", job_id, "--json")
    while refused.code == 4:
        assert refused.error["code"] == "wrong_state"
        refused = served("stop", job_id, "--json")
    ended = served("wait", job_id, "--timeout", 60, "--json")
    assert ended.code == 0
    assert ended.json["finish_early"] is True
    assert ended.json["result"]["training"]["epochs"] < 9_000


def test_a_failed_job_is_retried_and_any_job_cloned_as_new_ones(served: Retort, submitted: Submitted):
    job_id = submitted("diverged", 1)
    assert served("wait", job_id, "--timeout", 60).code == 1
    retried = served("retry", job_id, "--json").json
    cloned = served("clone", job_id).out.strip()
    changed = served("clone", job_id, "--set", "name=finish", "--set", "training.epochs=2", "--json").json
    assert len({job_id, retried["id"], cloned, changed["id"]}) == 4
    assert retried["parent_id"] == job_id
    assert (changed["name"], changed["spec"]["training"]["epochs"]) == ("finish", 2)
    assert served("wait", changed["id"], "--timeout", 60).code == 0


def test_a_job_that_has_succeeded_is_extended_by_epochs_and_one_that_has_not_is_refused(
    served: Retort, submitted: Submitted
):
    job_id = submitted("train", 3)
    assert served("wait", job_id, "--timeout", 60).code == 0
    longer = served("extend", job_id, "--epochs", 2, "--name", "train", "--json").json
    assert (longer["parent_id"], longer["spec"]["training"]["epochs"]) == (job_id, 5)
    assert served("wait", longer["id"], "--timeout", 60).code == 0
    failed = submitted("diverged", 1)
    assert served("wait", failed, "--timeout", 60).code == 1
    refused = served("extend", failed, "--epochs", 2, "--json")
    assert (refused.code, refused.error["code"]) == (4, "wrong_state")


def test_owner_and_priority_are_given_and_the_priority_changes(served: Retort, submitted: Submitted):
    job_id = submitted("wait", 1)
    raised = served("priority", job_id, "7")
    assert raised.out.strip() == f"{job_id} has priority 7"
    served("cancel", job_id)
    late = served("priority", job_id, "1", "--json")
    assert late.code == 0 or late.error["code"] == "job_already_finished"
