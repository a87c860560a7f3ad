"""The contract: the document says what the service does, and the committed one is the document."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, settings
from retort.access import ClientRole
from retort.settings import Settings
from retort_api.app import create_app
from schemathesis.checks import load_all_checks
from schemathesis.generation.feedback import FeedbackSources
from schemathesis.pytest._test_builder import build_operation_test
from schemathesis.python._constants.orchestrator import make_constants_value_source
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    ignored_auth,
    positive_data_acceptance,
    response_schema_conformance,
    unsupported_method,
)
from support.api_harness import LOCAL, SPEC, SWEEP
from support.identity import HEADERS, add_key

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The committed one; a house test compares it with the application's."""
    read: dict[str, Any] = json.loads((ROOT / "docs" / "openapi.json").read_text())
    return read


@pytest.fixture(scope="module")
def probed(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    home = tmp_path_factory.mktemp("probed")
    database = f"sqlite:///{shutil.copy(sqlite_template, home / 'retort.db')}"
    app = create_app(Settings(home=home, database_url=database, allowed_hosts=("testserver",)))
    yield app
    app.state.service.database.close()


@pytest.fixture(scope="module")
def ended(probed: FastAPI) -> str:
    """The id of a job that has ended, so that its stream ends too."""
    client = TestClient(probed, base_url=LOCAL, headers=HEADERS)
    job_id: str = client.post("/v1/jobs", json=SPEC).json()["id"]
    client.post(f"/v1/jobs/{job_id}/cancel")
    return job_id


@pytest.fixture(scope="module")
def swept(probed: FastAPI) -> str:
    """The id of a sweep."""
    sweep_id: str = TestClient(probed, base_url=LOCAL, headers=HEADERS).post("/v1/sweeps", json=SWEEP).json()["id"]
    return sweep_id


schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
contract = schemathesis.openapi.from_path(
    ROOT / "docs" / "openapi.json",
    config=schemathesis.Config.from_path(ROOT / "tests" / "support" / "schemathesis.toml"),
)
PROBES = settings(
    max_examples=5, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
# Without coverage: hundreds of cases of the spec, which POST /v1/jobs has; contract.py sends them here too.
REPEATED = ["POST /v1/validate", "POST /v1/sweeps"]


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


LABELS = [label for label, _ in operations(json.loads((ROOT / "docs" / "openapi.json").read_text()))]


def test_every_operation_has_a_name_a_sentence_and_its_problems(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in operations(document)]

    assert len(set(names)) == len(names)
    for address, operation in operations(document):
        assert operation["description"], address
        default = operation["responses"]["default"]["content"]
        assert default == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}, address
        for status, response in operation["responses"].items():
            refused = status.startswith("4")
            assert not refused or "application/problem+json" in response["content"], (address, status)


@pytest.fixture(scope="module")
def manual() -> str:
    """Read all pages about the REST API."""
    return "".join(page.read_text() for page in sorted((ROOT / "docs").glob("api*.md")))


def test_every_problem_code_is_explained_in_the_manual(manual: str) -> None:
    from retort_api.errors import KINDS

    assert [code for code in KINDS if f"`{code}`" not in manual] == []


def test_every_operation_is_in_the_manual(document: dict[str, Any], manual: str) -> None:
    assert [path for path in document["paths"] if path not in manual] == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/v1/projects/p/quota", {"uploads": False}),
        ("PUT", "/v1/projects/p/quota", {"gpu_hours": "1"}),
        ("POST", "/v1/me/rotate", {"grace_s": False}),
        ("POST", "/v1/keys", {"name": "k", "role": "reader", "expires_in_s": "60"}),
        ("GET", "/v1/jobs?created_before=0.5", None),
        ("GET", "/v1/jobs?created_after=1700000000", None),
    ],
)
def test_nothing_of_another_type_than_documented_is_taken_for_it(
    probed: FastAPI, method: str, path: str, body: Any
) -> None:
    client = TestClient(probed, base_url=LOCAL, headers=HEADERS)

    answer = client.request(method, path, json=body)

    assert (answer.status_code, answer.json()["code"]) == (422, "bad_parameter")


def beyond_the_schema(case: Any) -> list[Any]:
    """What no JSON Schema can say: where data may lie, what a checkpoint, a cursor or a version is, and reused keys.

    Whether keys are asked for, benchmarks/contract.py sees: schemathesis probes that over the network.
    Nor can OpenAPI 3.1 describe the events of a stream: a string there, which schemathesis takes for each of them.
    """
    if case.operation.label == "GET /v1/jobs/{job_id}/stream":
        return [ignored_auth, response_schema_conformance]
    if case.operation.label == "POST /login":  # GET is the page of a form for browsers, no operation of the document
        return [ignored_auth, allow_header_conformance, unsupported_method]
    again = ("POST /v1/jobs/{job_id}/clone", "POST /v1/jobs/{job_id}/retry", "POST /v1/jobs/{job_id}/extend")
    made = ("POST /v1/jobs", "POST /v1/validate", "POST /v1/advise", "POST /v1/models", "POST /v1/sweeps", *again)
    seen = ("GET /v1/jobs", "PATCH /v1/jobs/{job_id}", "POST /v1/webhooks", "PATCH /v1/webhooks/{webhook_id}")
    sent = (
        "POST /v1/uploads",
        "POST /v1/tus",
        "PATCH /v1/tus/{upload_id}",
        "PUT /v1/uploads/{upload_id}/parts/{number}",
    )
    # The keys of labels have a pattern, for which pydantic writes no propertyNames; a role has only some scopes.
    more = ("HEAD /v1/tus/{upload_id}", "DELETE /v1/tus/{upload_id}", "POST /v1/bulk", "POST /v1/keys")
    beyond = [positive_data_acceptance] if case.operation.label in (*made, *seen, *sent, *more) else []
    return [ignored_auth, *beyond]


def key_for(case: Any, probed: FastAPI) -> dict[str, str]:
    """Return the operator's key, or one of its own for what ends the key: all later requests would be refused."""
    if case.operation.label != "POST /v1/me/rotate":
        return HEADERS
    return add_key(probed.state.service.database, f"rotated-{uuid.uuid4().hex}", ClientRole.OPERATOR)


def probe(label: str, send: Callable[[Any], None]) -> None:
    """Let *send* have every case of one operation.

    They are made here, not by ``contract.parametrize()``: that makes all of them while tests are collected, which each
    of the processes does that run a part of the tests.
    """
    load_all_checks()
    (operation,) = (found.ok() for found in contract.include(name=label).get_all_operations())
    sources = FeedbackSources(constants_value_source=make_constants_value_source(contract))
    test = build_operation_test(
        config=contract.config, operation=operation, test_func=send, given_kwargs={}, feedback=sources
    )  # fmt: skip
    test()


@pytest.mark.parametrize("label", REPEATED)
def test_the_service_keeps_its_contract_about_a_spec_again(probed: FastAPI, label: str) -> None:
    @settings(PROBES, phases=[Phase.generate])
    def send(case: Any) -> None:
        case.call_and_validate(app=probed, headers=HEADERS, excluded_checks=beyond_the_schema(case))

    probe(label, send)


@pytest.mark.parametrize("label", [one for one in LABELS if one not in REPEATED])
def test_the_service_keeps_its_contract_whatever_is_sent(probed: FastAPI, label: str) -> None:
    @PROBES
    def send(case: Any) -> None:
        case.call_and_validate(app=probed, headers=key_for(case, probed), excluded_checks=beyond_the_schema(case))

    probe(label, send)


@pytest.mark.parametrize("label", [one for one in LABELS if "job_id" in one])
def test_the_service_keeps_its_contract_about_a_job_that_exists(probed: FastAPI, ended: str, label: str) -> None:
    @PROBES
    def send(case: Any) -> None:
        case.path_parameters["job_id"] = ended
        case.call_and_validate(app=probed, headers=HEADERS, excluded_checks=beyond_the_schema(case))

    probe(label, send)


@pytest.mark.parametrize("label", [one for one in LABELS if "sweep_id" in one])
def test_the_service_keeps_its_contract_about_a_sweep_that_exists(probed: FastAPI, swept: str, label: str) -> None:
    @PROBES
    def send(case: Any) -> None:
        case.path_parameters["sweep_id"] = swept
        case.call_and_validate(app=probed, headers=HEADERS, excluded_checks=beyond_the_schema(case))

    probe(label, send)
