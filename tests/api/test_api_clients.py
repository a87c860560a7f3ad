"""The contract in the hands of foreign tools: validators, and generators of clients."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema_rs
import pytest
from retort.pipeline.context import find
from support.api_harness import SPEC, listening
from support.identity import OPERATOR

ROOT = Path(__file__).parents[2]
CONTRACT = ROOT / "docs" / "openapi.json"
PYTHON_CONFIG = Path(__file__).with_name("python_client.yaml")
DOCUMENT: dict[str, Any] = json.loads(CONTRACT.read_text())


def with_examples(node: Any, path: str = "") -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Yield the place, the example and the schema of each example below *node*."""
    if isinstance(node, list):
        node = dict(enumerate(node))
    if not isinstance(node, dict):
        return
    if "schema" in node and "example" in node:
        yield path, node["example"], node["schema"]
    if "schema" in node and "examples" in node:
        yield from ((f"{path}/{name}", one["value"], node["schema"]) for name, one in node["examples"].items())
    for name, below in node.items():
        yield from with_examples(below, f"{path}/{name}")


EXAMPLES = list(with_examples(DOCUMENT["paths"]))


def test_the_contract_is_a_valid_openapi_3_1_document():
    from openapi_spec_validator import OpenAPIV31SpecValidator  # which takes a second to import

    assert DOCUMENT["openapi"].startswith("3.1.")

    OpenAPIV31SpecValidator(DOCUMENT).validate()


@pytest.mark.parametrize(("example", "schema"), [each[1:] for each in EXAMPLES], ids=[place for place, *_ in EXAMPLES])
def test_an_example_is_what_its_schema_says(example: Any, schema: dict[str, Any]):
    validator = jsonschema_rs.Draft202012Validator({**schema, "components": DOCUMENT["components"]})

    assert [error.message for error in validator.iter_errors(example)] == []


def test_a_submission_and_its_answers_have_examples():
    places = {place for place, *_ in EXAMPLES}

    assert {
        "//v1/jobs/post/requestBody/content/application/json",
        "//v1/jobs/post/requestBody/content/application/yaml",
        "//v1/jobs/post/responses/202/content/application/json",
        "//v1/jobs/post/responses/422/content/application/problem+json",
        "//v1/jobs/{job_id}/get/responses/200/content/application/json",
    } <= places


def test_a_stage_in_an_example_is_one_that_jobs_have():
    text = json.dumps([example for _, example, _ in EXAMPLES])
    named = set(re.findall(r'"stage": "(\w+)"', text)) | set(re.findall(r'"kind": "stage", "name": "(\w+)"', text))

    assert named
    assert named <= {stage.name for stage in find()}


@pytest.fixture(scope="module")
def service(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with listening(sqlite_template, tmp_path_factory.mktemp("served")) as address:
        yield address


@pytest.fixture(scope="module")
def generating(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder with the generated package ``made_client``, and what the generator has said."""
    package = tmp_path_factory.mktemp("python") / "made_client"
    command = [
        sys.executable, "-m", "openapi_python_client", "generate", "--path", str(CONTRACT), "--meta", "none",
        "--config", str(PYTHON_CONFIG), "--output-path", str(package),
    ]  # fmt: skip
    # It has ruff tidy what it wrote, which came with it and is beside this interpreter.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    made = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert made.returncode == 0, made.stdout + made.stderr
    return package.parent, made.stdout + made.stderr


@pytest.fixture
def generated(generating: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(generating[0]))
    return importlib.import_module("made_client")


def test_a_python_client_is_generated_with_the_warnings_we_know(generating: tuple[Path, str]):
    said = re.findall(r"^WARNING parsing (\w+ \S+) within \w+\.\s+(.*)$", generating[1], re.MULTILINE)

    # A submission may be YAML too, for people with curl. The generator has no way to write YAML, leaves this second
    # form out and keeps the first, JSON: nothing that a program needs is missing.
    yaml = "Unsupported content type application/yaml"
    both = ("advise", "jobs", "sweeps", "validate")
    # Nor can it write tus's bytes, for which there are tus clients; the same is done through /v1/uploads.
    tus = ("PATCH /v1/tus/{upload_id}", "Endpoint will not be generated.")
    assert sorted(said) == [tus, *((f"POST /v1/{name}", yaml) for name in both)]
    assert len(re.findall("WARNING|ERROR", generating[1])) == len(said)


def test_every_module_of_the_generated_python_client_can_be_imported(generated: ModuleType):
    names = [found.name for found in pkgutil.walk_packages(generated.__path__, "made_client.")]

    assert {"made_client.api.jobs.submit_job", "made_client.models.job"} <= set(names)
    for name in names:
        importlib.import_module(name)


def test_the_generated_python_client_submits_a_job_and_looks_at_it(generated: ModuleType, service: str):
    from made_client.api.jobs import get_job, submit_job
    from made_client.models import Job, JobSpec

    with generated.AuthenticatedClient(base_url=service, token=OPERATOR, raise_on_unexpected_status=True) as client:
        queued = submit_job.sync(client=client, body=JobSpec.from_dict(SPEC), owner="vision-team")
        found = get_job.sync(queued.id, client=client)

    assert isinstance(found, Job)
    assert (found.id, found.name, found.owner, found.state.value) == (queued.id, SPEC["name"], "vision-team", "queued")
    assert found.spec.to_dict()["teacher"]["weights"] == SPEC["teacher"]["weights"]


def test_the_generated_python_client_understands_a_refusal(generated: ModuleType, service: str):
    from made_client.api.jobs import submit_job
    from made_client.models import JobSpec, Problem

    spec = JobSpec.from_dict({**SPEC, "training": {"epochs": 0}})
    with generated.AuthenticatedClient(base_url=service, token=OPERATOR) as client:
        refused = submit_job.sync(client=client, body=spec)

    assert isinstance(refused, Problem)
    assert (refused.code, [mistake.path for mistake in refused.errors]) == ("bad_spec", ["training.epochs"])
