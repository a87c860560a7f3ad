"""Webhooks hear what happens to jobs: written with the change, signed, at least once, at checked addresses alone."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from typing import Any

import pytest
from results import RESULT
from retort.access import DEFAULT_OWNER, DEFAULT_PROJECT
from retort.db import Database, Lease, jobs, transitions, webhooks
from retort.db.session import database_now
from retort.db.webhook_models import DeliveryRow
from retort.db.webhooks import BACKOFF_S, WebhookEvent
from retort.spec import parse_spec
from retort_worker import webhooks as delivering
from retort_worker.webhooks import Deliverer
from sqlalchemy import update
from standardwebhooks import Webhook
from support.db_harness import Shop

LOOPBACK = ip_network("127.0.0.0/8")
ALL = [str(event) for event in WebhookEvent]


class Receiver(ThreadingHTTPServer):
    """An HTTP server that keeps what it is sent, and answers what it is told."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        self.headers: dict[str, str] = {}
        self.silent = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/hook"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Receiver)
        server.seen.append((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
        server.silent.wait(20 if server.headers.get("silent") else 0)
        self.send_response(server.answers.pop(0) if server.answers else 204)
        for name, value in server.headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.silent.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def shop(database: Database) -> Shop:
    spec = parse_spec({"name": "a", "data": {"path": "/data"}, "teacher": {"weights": "yolo11l.pt"}})
    return Shop(database, spec)  # type: ignore[arg-type]


def deliverer(database: Database, *networks: Any) -> Deliverer:
    return Deliverer(database, trusted=networks, look_s=60)


def hook(shop: Shop, url: str, *events: str, project: str = DEFAULT_PROJECT) -> Any:
    with shop.database.begin() as session:
        return webhooks.create(
            session, url=url, events=events or ALL, description="", project=project, owner=DEFAULT_OWNER,
            now=database_now(session),
        )  # fmt: skip


def succeed(shop: Shop, lease: Lease) -> None:
    with shop.database.begin() as session:
        assert transitions.succeed(session, lease, now=database_now(session), result=RESULT)


def log(shop: Shop, webhook_id: str) -> list[DeliveryRow]:
    with shop.database.read() as session:
        return webhooks.deliveries(session, webhook_id)[::-1]


def make_due(shop: Shop) -> None:
    with shop.database.begin() as session:
        session.execute(update(DeliveryRow).where(DeliveryRow.next_at.is_not(None)).values(next_at=0.0))


def test_a_job_is_announced_from_its_start_to_its_end_and_signed(shop: Shop, receiver: Receiver):
    made = hook(shop, receiver.url)
    lease = shop.running(labels={"site": "north"})
    succeed(shop, lease)
    assert deliverer(shop.database, LOOPBACK).deliver() == 2

    events = [Webhook(made.secret).verify(body, headers) for headers, body in receiver.seen]
    assert sorted(event["type"] for event in events) == ["job.started", "job.succeeded"]
    assert {event["data"]["job_id"] for event in events} == {lease.job_id}
    assert {event["data"]["labels"]["site"] for event in events} == {"north"}
    assert [row.state for row in log(shop, made.id)] == ["delivered", "delivered"]
    assert deliverer(shop.database, LOOPBACK).deliver() == 0


def test_what_ends_a_job_without_a_worker_is_announced_too(shop: Shop):
    made = hook(shop, "https://example.com/", "job.cancelled", "job.failed", "job.awaiting_review", "job.expired")
    cancelled, reviewed = shop.queued(), shop.running()
    with shop.database.begin() as session:
        jobs.cancel(session, cancelled, now=1.0, actor="client")
        transitions.await_review(session, reviewed, now=1.0, exit_code=3)
    told = [(row.event, row.job_id) for row in log(shop, made.id)]
    assert sorted(told) == [("job.awaiting_review", reviewed.job_id), ("job.cancelled", cancelled)]


def test_a_change_that_is_rolled_back_is_not_announced(shop: Shop):
    made, lease = hook(shop, "https://example.com/", "job.succeeded"), shop.running()
    with shop.doomed() as session:
        assert transitions.succeed(session, lease, now=1.0, result=RESULT)
    assert log(shop, made.id) == []


def test_a_second_attempt_is_no_second_start(shop: Shop):
    made, lease = hook(shop, "https://example.com/", "job.started"), shop.running()
    with shop.database.begin() as session:
        transitions.hand_back(session, lease, now=1.0)
    shop.claimed(lease.job_id)
    assert [row.event for row in log(shop, made.id)] == ["job.started"]


def test_a_webhook_hears_of_what_it_asked_for_in_its_own_project_alone(shop: Shop):
    other = hook(shop, "https://example.com/", project="elsewhere")
    off = hook(shop, "https://example.com/")
    with shop.database.begin() as session:
        webhooks.change(session, off.id, enabled=False)
    failures = hook(shop, "https://example.com/", "job.failed")
    succeed(shop, shop.running())
    assert [log(shop, one.id) for one in (other, off, failures)] == [[], [], []]


@pytest.mark.parametrize("status", [500, 404, 302])
def test_a_refused_delivery_is_sent_again_under_the_same_id(shop: Shop, receiver: Receiver, status: int):
    made = hook(shop, receiver.url, "job.succeeded")
    succeed(shop, shop.running())
    receiver.answers, receiver.headers = [status], {"Location": receiver.url}
    deliverer(shop.database, LOOPBACK).deliver()
    (row,) = log(shop, made.id)
    assert (row.state, row.status, row.attempts, len(receiver.seen)) == ("pending", status, 1, 1)
    make_due(shop)
    deliverer(shop.database, LOOPBACK).deliver()

    assert [row.state for row in log(shop, made.id)] == ["delivered"]
    assert len({headers["webhook-id"] for headers, _ in receiver.seen}) == 1


def test_a_delivery_is_given_up_after_its_last_pause(shop: Shop, receiver: Receiver):
    made = hook(shop, receiver.url, "job.succeeded")
    succeed(shop, shop.running())
    receiver.answers = [503] * (len(BACKOFF_S) + 2)
    sender, tried = deliverer(shop.database, LOOPBACK), 0
    while sender.deliver():
        tried += 1
        make_due(shop)
    assert tried == len(BACKOFF_S) + 1
    assert [row.state for row in log(shop, made.id)] == ["failed"]
    assert sum(BACKOFF_S) >= 86_400


def test_an_address_that_is_gone_disables_its_webhook(shop: Shop, receiver: Receiver):
    made = hook(shop, receiver.url, "job.succeeded")
    succeed(shop, shop.running())
    receiver.answers = [410]
    deliverer(shop.database, LOOPBACK).deliver()
    with shop.database.read() as session:
        row = webhooks.get(session, made.id)
    assert (row.enabled, "410" in (row.disabled_reason or "")) == (False, True)
    succeed(shop, shop.running())
    assert [row.state for row in log(shop, made.id)] == ["failed"]


def test_what_a_dead_worker_had_taken_is_sent_by_another(shop: Shop, receiver: Receiver):
    hook(shop, receiver.url, "job.succeeded")
    succeed(shop, shop.running())
    with shop.database.begin() as session:
        now = database_now(session)
        assert len(webhooks.take(session, now=now, hold_s=60, limit=9)) == 1
        assert webhooks.take(session, now=now + 59, hold_s=60, limit=9) == []
        assert len(webhooks.take(session, now=now + 61, hold_s=60, limit=9)) == 1


def test_after_a_rotation_the_old_secret_and_the_new_one_verify(shop: Shop, receiver: Receiver):
    made = hook(shop, receiver.url, "job.succeeded")
    with shop.database.begin() as session:
        new = webhooks.rotate(session, made.id, now=database_now(session)).secret
    succeed(shop, shop.running())
    deliverer(shop.database, LOOPBACK).deliver()
    ((headers, body),) = receiver.seen
    assert new != made.secret
    assert Webhook(new).verify(body, headers) == Webhook(made.secret).verify(body, headers)


@pytest.mark.parametrize(
    "url",
    [
        "{local}", "http://localhost:{port}/hook", "https://localhost:{port}/hook", "http://[::ffff:127.0.0.1]:{port}/",
        "https://169.254.169.254/latest/meta-data", "https://10.0.0.1/", "http://0.0.0.0:{port}/", "http://2130706433/",
        "http://93.184.215.14/",
    ],
)  # fmt: skip
def test_a_webhook_reaches_no_private_address_and_sends_no_plain_http(shop: Shop, receiver: Receiver, url: str):
    made = hook(shop, url.format(local=receiver.url, port=receiver.server_address[1]), "job.succeeded")
    succeed(shop, shop.running())
    deliverer(shop.database).deliver()

    (row,) = log(shop, made.id)
    assert receiver.seen == []
    assert (row.state, row.status) == ("pending", None)
    assert "AddressError" in (row.error or "")


def test_an_address_that_does_not_answer_holds_up_no_other(
    shop: Shop, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(delivering, "_PATIENCE_S", 0.5)
    silent = Receiver()
    silent.headers = {"silent": "yes"}
    thread = threading.Thread(target=silent.serve_forever, args=(0.01,))
    thread.start()
    slow, quick = hook(shop, silent.url, "job.succeeded"), hook(shop, receiver.url, "job.succeeded")
    succeed(shop, shop.running())
    assert deliverer(shop.database, LOOPBACK).deliver() == 2
    silent.silent.set()
    silent.shutdown()
    thread.join()
    silent.server_close()

    assert [row.state for row in log(shop, quick.id)] == ["delivered"]
    assert "no answer within" in (log(shop, slow.id)[0].error or "")


def test_a_test_call_is_sent_like_an_event(shop: Shop, receiver: Receiver):
    made = hook(shop, receiver.url, "job.failed")
    with shop.database.begin() as session:
        webhooks.test(session, made.id, now=database_now(session))
    deliverer(shop.database, LOOPBACK).deliver()
    assert json.loads(receiver.seen[0][1])["type"] == "webhook.test"


def test_old_deliveries_are_forgotten_and_open_ones_are_not(shop: Shop, receiver: Receiver):
    made = hook(shop, receiver.url, "job.succeeded")
    succeed(shop, shop.running())
    deliverer(shop.database, LOOPBACK).deliver()
    succeed(shop, shop.running())
    with shop.database.begin() as session:
        assert webhooks.forget(session, before=database_now(session) + 10) == 1
    assert [row.state for row in log(shop, made.id)] == ["pending"]
