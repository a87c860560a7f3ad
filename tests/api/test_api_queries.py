"""What a query says, misspells, or leaves out."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.testclient import TestClient
from retort_api.deps import guarded, without_query


def all_dependants(app: FastAPI) -> Iterator[Dependant]:
    """Yield what each route needs, and what that needs."""
    waiting = [route.dependant for route in guarded(app.routes)]
    while waiting:
        yield (one := waiting.pop())
        waiting.extend(one.dependencies)


def test_what_a_query_leaves_out_is_the_same_whether_fastapi_or_python_fills_it_in(app: FastAPI):
    """Requests without a query pass by FastAPI's search for one; an endpoint must not notice."""
    compared = 0
    for dependant in all_dependants(app):
        left = {one.name for one in without_query(dependant).query_params}
        for parameter in dependant.query_params:
            if parameter.name in left:
                continue
            assert dependant.call is not None
            ours = inspect.signature(dependant.call).parameters[parameter.name].default
            theirs = parameter.get_default()
            assert (ours, type(ours)) == (theirs, type(theirs)), f"{dependant.call.__qualname__}: {parameter.name}"
            compared += 1
    assert compared > 30


def test_a_query_that_must_be_there_is_asked_for_where_there_is_none(client: TestClient):
    refused = client.post("/v1/models", content=b"x", headers={"Content-Type": "application/octet-stream"})
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_parameter")
    assert "query.name" in refused.text


def test_a_misspelt_parameter_is_refused_whatever_the_method(client: TestClient, job_id: str):
    for method, path in (("GET", "/v1/jobs"), ("GET", f"/v1/jobs/{job_id}"), ("POST", f"/v1/jobs/{job_id}/cancel")):
        refused = client.request(method, f"{path}?wiat=3")
        assert (refused.status_code, refused.json()["code"]) == (422, "bad_parameter"), path
        assert "query.wiat" in refused.text
