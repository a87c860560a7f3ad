"""The notifier: a committed job is announced on the broker, and nothing waits for that."""

from __future__ import annotations

import time
from contextlib import closing

import pytest
from kombu import Connection, Queue
from kombu.exceptions import OperationalError
from retort.errors import TransientError
from retort_api.notifier import BURST, WINDOW_S, QueueNotifier
from servers import Valkey, free_port
from support.api_harness import eventually


def test_each_ring_is_one_message_that_carries_the_jobs_id_and_nothing_else(broker_url: str) -> None:
    with closing(QueueNotifier(broker_url)) as bell:
        bell.check()
        bell.notify("job_1")
        bell.notify("job_2")

    with Connection(broker_url) as connection, connection.channel() as channel:
        queue = Queue("retort")(channel)
        messages = [eventually(lambda: queue.get(no_ack=True)) for _ in range(2)]
        rest = queue.get(no_ack=True)

    assert rest is None
    assert {message.headers["task"] for message in messages} == {"retort.run_job"}
    assert {message.content_type for message in messages} == {"application/json"}
    assert [message.payload[0] for message in messages] == [["job_1"], ["job_2"]]
    assert [message.payload[1] for message in messages] == [{}, {}]


def test_a_broker_that_is_away_is_told_by_the_check_and_forgiven_by_the_ring() -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"

    with closing(QueueNotifier(url)) as bell:
        bell.notify("job_1")

        with pytest.raises(TransientError, match="the broker is not available"):
            bell.check()


def test_the_bell_rings_again_once_the_broker_is_back(valkey: Valkey) -> None:
    url = valkey.fresh()
    with closing(QueueNotifier(url)) as bell, Connection(url) as connection:
        bell.notify("job_1")
        eventually(lambda: _next(connection))
        valkey.execute("CLIENT KILL TYPE normal")
        bell.notify("job_2")
        bell.notify("job_3")

        assert eventually(lambda: _next(connection)) in {"job_2", "job_3"}


def test_of_many_rings_at_a_time_a_few_are_enough_and_the_last_is_among_them(valkey: Valkey) -> None:
    url, many = valkey.fresh(), 200
    with closing(QueueNotifier(url)) as bell, Connection(url) as connection:
        begun, rung = time.monotonic(), []
        for number in range(many):
            bell.notify(f"job_{number}")
        while f"job_{many - 1}" not in rung:
            rung.append(eventually(lambda: _next(connection)))
        windows = (time.monotonic() - begun) / WINDOW_S + 1  # a machine that is busy elsewhere takes many
    assert len(rung) <= min(many, BURST * windows + 1)
    assert rung == sorted(rung, key=lambda job_id: int(job_id.removeprefix("job_")))


def _next(connection: Connection) -> str | None:
    try:
        message = Queue("retort")(connection.default_channel).get(no_ack=True)
    except (OperationalError, *connection.connection_errors):
        connection.close()
        return None
    return message and message.payload[0][0]
