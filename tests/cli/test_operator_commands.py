"""The commands of operators, on a real service: drain a worker; make, try and answer webhooks; say where to look."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from cli.commands import SPEC, Retort

Submitted = Callable[[str, int], str]


def test_a_worker_is_drained_says_for_what_it_waits_and_takes_jobs_again(served: Retort, submitted: Submitted):
    job_id = submitted("train", 9_000)
    while served("get", job_id, "--json").json["state"] != "running":
        pass
    [worker] = served("workers", "--json").json
    try:
        drained = served("drain", worker["host"])
        assert drained.code == 0, drained.err
        assert f"{worker['name']} takes no more jobs\nit waits for:\n" in drained.out
        assert job_id[-12:] in drained.out
        assert f"retort drain {worker['name']} --wait" in drained.err
        assert "is drained: it takes no more jobs" in served("workers").out

        served("cancel", job_id)
        waited = served("drain", worker["name"], "--wait")
        assert waited.out.endswith("it trains nothing: it can be stopped\n")
        assert served("drain", worker["name"], "--json").json["busy"] == 0
    finally:
        again = served("drain", worker["name"], "--resume")
    assert again.out == f"{worker['name']} takes jobs again\n"
    assert served("workers", "--json").json[0]["drained_at"] is None
    assert served("drain", "nobody", "--json").error["code"] == "worker_not_found"
    assert served("drain", worker["name"], "--resume", "--wait", "--json").error["code"] == "usage"


def test_a_webhook_is_made_tried_read_sent_again_and_deleted(served: Retort):
    made = served("webhooks", "create", "https://93.184.215.14/hook", "--event", "job.failed", "--json").json
    webhook = made["id"]
    assert made["events"] == ["job.failed"]
    assert served("webhooks", "enable", webhook[-12:], "--off").out == f"{webhook} is disabled\n"
    sent = served("webhooks", "test", webhook)
    delivery = sent.out.strip()
    assert f"/settings/webhooks/{webhook}" in sent.err
    again = served("webhooks", "redeliver", webhook, delivery[-12:], "--json").json
    assert (again["id"], again["state"]) == (delivery, "pending"), "it still waits, so that nothing changes"
    listed = served("webhooks", "deliveries", webhook)
    assert delivery[-12:] in listed.out
    assert webhook[-12:] in served("webhooks", "list").out
    assert served("webhooks", "rotate", webhook).out.startswith("whsec_")
    assert served("webhooks", "redeliver", webhook, "nothing", "--json").error["code"] == "usage"
    assert served("webhooks", "rm", webhook).code == 0
    assert served("webhooks", "deliveries", webhook, "--json").error["code"] == "webhook_not_found"


HERE, ELSEWHERE = "page: {service}/jobs/{job}", "page: https://retort.example/jobs/{job}"
TUNNEL = r"from your own machine first: ssh -p 2222 -L {port}:127\.0\.0\.1:{port} \S+@192\.0\.2\.1"
BY_SSH = {"SSH_CONNECTION": "192.0.2.7 50000 192.0.2.1 2222"}


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, [HERE]),
        ({"RETORT_BROWSER_URL": "https://retort.example/"}, [ELSEWHERE]),
        (BY_SSH, [HERE, TUNNEL]),
        ({**BY_SSH, "RETORT_BROWSER_URL": "https://retort.example"}, [ELSEWHERE]),
    ],
)
def test_a_command_that_makes_a_job_says_where_a_browser_sees_it(
    served: Retort, service: str, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], found: list[str]
):
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    made = served("submit", SPEC, "--set", "name=finish", "--set", "training.epochs=1")

    wanted = [one.format(service=service, job=made.out.strip(), port=service.rpartition(":")[2]) for one in found]
    told = [line for line in made.err.splitlines() if line.startswith(("page:", "from your"))]
    assert len(told) == len(wanted)
    assert all(re.fullmatch(pattern, line) for pattern, line in zip(wanted, told, strict=True)), told


def test_every_command_that_makes_or_awaits_something_says_where_to_look(
    served: Retort, submitted: Submitted, service: str
):
    job_id = submitted("finish", 2)
    said = {
        "wait": served("wait", job_id),
        "watch": served("watch", job_id),
        "clone": served("clone", job_id),
        "compare": served("compare", job_id, submitted("finish", 1)),
    }
    for command, ended in said.items():
        assert ended.code == 0, (command, ended.err)
        assert f"page: {service}/" in ended.err, command
    assert f"page: {service}/compare?job={job_id}&job=job_" in said["compare"].err
    assert all("page: " not in served(*command, "--json").err for command in (("wait", job_id), ("watch", job_id)))
    assert json.loads(served("open", job_id, "--json").out)["url"] == f"{service}/jobs/{job_id}"
