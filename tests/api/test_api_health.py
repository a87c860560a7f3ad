"""Liveness, readiness, Prometheus, request ids and the log."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import structlog
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from retort.cli.up import why_not_ready
from retort.db import Database, workers
from retort.db.models import WorkerRow
from retort.db.session import database_now
from retort.settings import Settings
from retort_api.app import create_app
from support.api_harness import LOCAL, SPEC, Worker, serving
from support.identity import keep


def samples(client: TestClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def test_a_service_with_everything_it_needs_is_ready(client: TestClient, database: Database) -> None:
    client.post("/v1/jobs", json=SPEC)
    with database.begin() as session:
        now = database_now(session)
        workers.announce(session, WorkerRow(name="w", host="box", slots=1, gpus=0, started_at=now, seen_at=now))

    answer = client.get("/readyz")

    ready = answer.json()
    assert (answer.status_code, ready["status"]) == (200, "ok")
    assert {name: check["status"] for name, check in ready["checks"].items()} == dict.fromkeys(
        ("database", "migrations", "broker", "store", "disk", "workers", "gpus"), "ok"
    )
    assert 0 <= ready["oldest_queued_age_s"] < 60
    assert client.get("/livez").json()["status"] == "ok"


def test_nothing_waits_in_an_empty_queue(client: TestClient) -> None:
    assert client.get("/readyz").json()["oldest_queued_age_s"] is None


def test_tables_that_are_missing_make_the_service_unready(empty_database_url: str, tmp_path: Path) -> None:
    keep(tmp_path)
    with serving(Settings(home=tmp_path, database_url=empty_database_url)) as client:
        answer = client.get("/readyz")

        checks = answer.json()["checks"]
        assert answer.status_code == 503
        assert (checks["database"]["status"], checks["migrations"]["status"]) == ("ok", "failed")
        assert "retort.db upgrade" in checks["migrations"]["detail"]
        assert client.get("/livez").status_code == 200


def test_each_check_that_fails_is_named_with_its_remedy_where_the_service_is_started(tmp_path: Path) -> None:
    """After 120 s it said "not ready", and not which check had failed."""
    keep(tmp_path)
    (tmp_path / "file").write_text("no folder")
    away = Settings(
        home=tmp_path, database_url="postgresql+psycopg://nobody:secret@127.0.0.1:1/none?connect_timeout=1",
        store_url=(tmp_path / "file" / "store").as_uri(),
    )  # fmt: skip
    with serving(away) as client:
        answer = client.get("/readyz")

    why, hint = why_not_ready(answer.status_code, answer.json(), "http://here", away)

    assert "the check 'database' fails: " in why
    assert "the check 'store' fails: " in why
    assert "see that the database postgresql+psycopg://nobody:***@127.0.0.1:1/none?connect_timeout=1 runs" in hint
    assert f"see that the store {away.store_url} is there and may be written: RETORT_STORE_URL" in hint
    assert "secret" not in why + hint


def test_a_service_without_its_database_lives_and_says_so(tmp_path: Path) -> None:
    keep(tmp_path)
    away = Settings(home=tmp_path, database_url="postgresql+psycopg://nobody@127.0.0.1:1/none?connect_timeout=1")
    with serving(away) as client:
        ready, job, metrics = client.get("/readyz"), client.get("/v1/jobs"), client.get("/metrics")

        assert (ready.status_code, ready.json()["checks"]["database"]["status"]) == (503, "failed")
        assert (job.status_code, job.json()["code"], job.json()["retryable"]) == (503, "database_unavailable", True)
        assert job.headers["Retry-After"]
        assert "retort_database_up 0.0" in metrics.text
        assert client.get("/livez").status_code == 200


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "redis://192.0.2.1:6379/0"])
def test_a_broker_that_refuses_or_is_silent_is_told_soon(small_settings: Settings, url: str) -> None:
    with serving(small_settings.model_copy(update={"broker_url": url})) as client:
        begun = time.monotonic()
        answer = client.get("/readyz")

        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        assert answer.json()["checks"]["broker"]["status"] == "failed"
        assert time.monotonic() - begun < 4


def test_a_broken_store_is_a_failure_with_or_without_a_broker(small_settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("in the way")
    with serving(small_settings.model_copy(update={"broker_url": "redis://127.0.0.1:1/0"})) as client:
        answer = client.get("/readyz")

    assert (answer.status_code, answer.json()["status"]) == (503, "failed")


def test_a_store_that_cannot_be_written_makes_the_service_unready(small_settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("in the way")
    with serving(small_settings) as client:
        answer = client.get("/readyz")

        assert (answer.status_code, answer.json()["checks"]["store"]["status"]) == (503, "failed")


def test_prometheus_sees_jobs_by_state_and_requests_by_route(client: TestClient, worker: Worker) -> None:
    queued, running = (client.post("/v1/jobs", json=SPEC).json()["id"] for _ in range(2))
    worker.claim(running)
    for job_id in (queued, running, "job_" + "0" * 32):
        client.get(f"/v1/jobs/{job_id}")
    client.get("/wp-login.php")
    client.request("BREW", "/v1/jobs")

    seen = samples(client)

    def requests(method: str, route: str, status: str) -> float:
        return seen["retort_http_requests_total", frozenset({("method", method), ("route", route), ("status", status)})]

    assert seen["retort_jobs", frozenset({("state", "queued")})] == 1
    assert seen["retort_jobs", frozenset({("state", "running")})] == 1
    assert seen["retort_jobs", frozenset({("state", "failed")})] == 0
    assert seen["retort_oldest_queued_job_age_seconds", frozenset()] > 0
    assert requests("GET", "/v1/jobs/{job_id}", "200") == 2
    assert requests("GET", "/v1/jobs/{job_id}", "404") == 1
    assert requests("POST", "/v1/jobs", "202") == 2
    assert requests("GET", "unmatched", "404") == 1
    assert requests("OTHER", "/v1/jobs", "405") == 1
    count = "retort_http_request_duration_seconds_count"
    assert seen[count, frozenset({("method", "GET"), ("route", "/v1/jobs/{job_id}")})] == 3
    assert not any("job_0" in value for _, labels in seen for _, value in labels)


def test_each_application_counts_for_itself(small_settings: Settings) -> None:
    with serving(small_settings) as first, serving(small_settings) as second:
        first.get("/livez")

        assert any(("route", "/livez") in labels for _, labels in samples(first))
        assert not any(("route", "/livez") in labels for _, labels in samples(second))


def test_a_stream_is_counted_but_not_timed(client: TestClient, job_id: str) -> None:
    client.post(f"/v1/jobs/{job_id}/cancel")
    client.get(f"/v1/jobs/{job_id}/stream")

    seen = samples(client)

    route = ("route", "/v1/jobs/{job_id}/stream")
    assert seen["retort_http_requests_total", frozenset({("method", "GET"), route, ("status", "200")})] == 1
    assert not any("duration" in name and route in labels for name, labels in seen)
    assert seen["retort_http_open_streams", frozenset()] == 0


@pytest.mark.parametrize("offered", ["abc-123", "a" * 128])
def test_a_request_id_is_echoed_also_in_problems(small_client: TestClient, offered: str) -> None:
    answer = small_client.get("/nope", headers={"X-Request-ID": offered})

    assert answer.headers["X-Request-ID"] == offered == answer.json()["request_id"]


@pytest.mark.parametrize("offered", ["", "a b", "a" * 129, "a\u00e4", '"><script>'])
def test_a_request_id_that_could_do_harm_is_replaced(small_client: TestClient, offered: str) -> None:
    answer = small_client.get("/nope", headers=[(b"X-Request-ID", offered.encode())])

    assert answer.headers["X-Request-ID"] == answer.json()["request_id"] != offered
    assert len(answer.headers["X-Request-ID"]) == 32


@pytest.mark.parametrize(
    ("method", "path", "level"),
    [
        ("GET", "/v1/recipes", "debug"),
        ("HEAD", "/v1/recipes", "debug"),
        ("GET", "/readyz", "debug"),
        ("GET", "/v1/jobs/job_1", "info"),
        ("POST", "/v1/jobs", "info"),
    ],
)
def test_a_request_is_one_line_in_the_log_and_one_that_only_looks_is_for_debugging(
    small_client: TestClient, method: str, path: str, level: str
) -> None:
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        answer = small_client.request(method, path, headers={"X-Request-ID": "r-1"})

    names = ("event", "method", "path", "status", "request_id", "log_level")
    assert [tuple(line[name] for name in names) for line in lines] == [
        ("request", method, path, answer.status_code, "r-1", level)
    ]


def test_an_hour_of_polling_fills_no_log(small_settings: Settings, tmp_path: Path) -> None:
    """Each refused look was a line, and each one without a database a traceback, once a second in a client's loop."""
    (tmp_path / "artifacts").write_text("in the way")
    model = "/v1/models/x/" + "0" * 64
    with serving(small_settings) as client, structlog.testing.capture_logs() as lines:
        for _ in range(100):
            assert client.get("/v1/jobs").status_code == 200
            assert client.get(model).status_code == 404
    away = Settings(home=tmp_path, database_url="postgresql+psycopg://nobody@127.0.0.1:1/none?connect_timeout=1")
    with serving(away) as client, structlog.testing.capture_logs() as troubles:
        for _ in range(12):
            assert client.get("/v1/jobs").status_code == 503

    assert sum(line["log_level"] != "debug" for line in lines) == 10
    assert sum(line["event"] == "unavailable" for line in troubles) == 1


@pytest.fixture
def broken(small_settings: Settings) -> FastAPI:
    """An application with a mistake in it."""
    app = create_app(small_settings)

    @app.get("/broken")
    def broken() -> None:
        raise ZeroDivisionError("a secret")

    return app


def test_an_unforeseen_error_is_a_problem_that_leads_to_the_log_and_tells_no_secret(broken: FastAPI) -> None:
    processors = [structlog.contextvars.merge_contextvars]
    with TestClient(broken, base_url=LOCAL) as client, structlog.testing.capture_logs(processors) as lines:
        answer = client.get("/broken")

    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (500, "internal")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "secret" not in answer.text
    logged = next(line for line in lines if line["event"] == "unforeseen_error")
    assert logged["request_id"] == problem["request_id"] == answer.headers["X-Request-ID"]
    assert logged["exc_info"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/jobs", "GET, HEAD, POST"),
        ("PUT", "/v1/jobs/job_1", "GET, HEAD, PATCH, DELETE"),
        ("GET", "/v1/jobs/job_1/cancel", "POST"),
        ("POST", "/v1/jobs/job_1/artifacts/a/b", "GET, HEAD, DELETE"),
        ("PUT", "/v1/jobs/job_1/artifacts/tensorboard", "GET, HEAD"),
        ("PUT", "/v1/jobs/job_1/artifacts/a/b/restore", "POST"),
        ("OPTIONS", "/livez", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(small_client: TestClient, method: str, path: str, allowed: str) -> None:
    answer = small_client.request(method, path)

    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["Allow"] == allowed


@pytest.mark.parametrize("path", ["/nothing", "/v1", "/v1/jobs/", "/v2/jobs", "/%00", "/v1/jobs/a/b/c"])
def test_an_address_that_does_not_exist_is_a_problem(small_client: TestClient, path: str) -> None:
    answer = small_client.get(path)

    assert (answer.status_code, answer.headers["Content-Type"]) == (404, "application/problem+json")
    assert answer.json()["code"] in {"not_found", "job_not_found"}


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/schema", "/v1/recipes", "/livez", "/readyz", "/metrics"])
def test_head_is_answered_like_get_without_the_body(small_client: TestClient, path: str) -> None:
    answer = small_client.head(path)

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Content-Type"] == small_client.get(path).headers["Content-Type"]


def test_the_schema_takes_what_the_service_takes(small_client: TestClient) -> None:
    answer = small_client.get("/v1/schema")

    assert answer.headers["Content-Type"] == "application/schema+json"
    assert answer.json()["required"] == ["name", "data", "teacher"]


def test_every_recipe_that_is_listed_can_be_submitted(small_client: TestClient) -> None:
    recipes = small_client.get("/v1/recipes").json()["data"]

    assert [recipe["name"] for recipe in recipes] == ["balanced", "article", "native"]
    for recipe in recipes:
        distillation = {"recipe": recipe["name"], "losses": recipe["losses"]}
        answer = small_client.post("/v1/jobs", json={**SPEC, "distillation": distillation})
        assert answer.status_code == 202
