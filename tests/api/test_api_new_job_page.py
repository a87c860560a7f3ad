"""The page of a new job without scripts: form and YAML follow each other; a form sent twice makes one job."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx2
import pytest
import yaml
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from retort.db import Database
from retort.errors import SpecError
from retort.protocol.events import RunFailure
from retort.settings import Settings
from retort.spec import AdviceSpec, parse_spec
from retort.spec.adapter import TeacherAdapter
from retort.spec.result import parse_result
from retort.storage import Store
from retort_api.pages.job_choices import JobChoices
from retort_api.pages.new_job_advice import advice_request
from retort_api.pages.spec_form import edit, read_mapping, state_of
from retort_api.pages.spec_text import spec_text
from stored_results import advice, candidate, stored
from support.api_harness import SPEC, Worker, listening, serving
from support.identity import HEADERS, OPERATOR
from support.registered import put_dataset, put_model

SAME = {"Sec-Fetch-Site": "same-origin"}
BIN = Path(sys.executable).parent
TAG = re.compile(r"<(input|option|textarea)\b([^>]*)>(?:\n?([^<]*)</textarea>)?")


@pytest.fixture
def home(small_settings: Settings) -> Path:
    return small_settings.home


@pytest.fixture
def small_worker(small_settings: Settings, home: Path) -> Any:
    database = Database(small_settings.database_url)
    yield Worker(database, Store(small_settings.store_url), home)
    database.close()


def fields_of(page: str) -> list[tuple[str, str]]:
    """Return what a browser would send of the form, without a button."""
    inside = page[page.index('<form id="job-form"') :]
    found: list[tuple[str, str]] = []
    select = ""
    for tag in re.finditer(r"<(input|select|option|textarea)\b([^>]*)>(?:\n?([^<]*)</textarea>)?", inside):
        kind, about, text = tag.groups()
        given = dict(re.findall(r'([\w-]+)="([^"]*)"', about))
        name, value = html.unescape(given.get("name", "")), html.unescape(given.get("value", ""))
        if kind == "select":
            select = name
        elif kind == "option":
            if re.search(r"\bselected\b", about):
                found.append((select, value or html.unescape(inside[tag.end() :].partition("<")[0])))
        elif kind == "textarea":
            found.append((name, html.unescape(text or "")))
        elif given.get("type") not in {"radio", "checkbox"} or re.search(r"\bchecked\b", about):
            found.append((name, value))
    return [(name, value) for name, value in found if name]


def send(client: TestClient, fields: list[tuple[str, str]], do: str = "check", **changes: str) -> Any:
    """Send the form with some fields changed, as a browser does: line ends are those of DOS."""
    sent: dict[str, list[str]] = {}
    for name, value in fields:
        sent.setdefault(name, []).append(value)
    sent |= {name.replace("__", "."): [value] for name, value in changes.items()}
    data = {name: [one.replace("\n", "\r\n") for one in values] for name, values in sent.items()}
    return client.post("/new", data={**data, "do": do}, headers=SAME, follow_redirects=False)


def yaml_of(page: str) -> str:
    return dict(fields_of(page))["spec"]


def test_a_user_with_a_dataset_submits_by_one_click_what_the_page_proposes(
    small_client: TestClient, small_worker: Worker, home: Path
):
    reference = put_dataset(small_worker.database, small_worker.store, home)
    page = small_client.get("/new")
    assert page.status_code == 200
    assert 'class="notice bad"' not in page.text

    answer = send(small_client, fields_of(page.text), "submit")

    assert answer.status_code == 303
    job = small_client.get(f"/v1{answer.headers['Location']}").json()
    assert (job["spec"]["data"]["dataset"], job["name"], job["state"]) == (reference, "street", "queued")
    again = send(small_client, fields_of(page.text), "submit")
    assert again.headers["Location"] == answer.headers["Location"], "a double click makes one job"
    other = send(small_client, fields_of(page.text), "submit", training__epochs="7")
    assert other.headers["Location"] != answer.headers["Location"], "back, changed and sent is another job"


def test_form_and_yaml_follow_each_other_and_changes_of_both_at_once_are_both_kept(small_client: TestClient):
    page = small_client.get("/new", params={"dataset": "coco128"}).text
    by_form = send(small_client, fields_of(page), training__epochs="9", control="false", teacher="yolo11l.pt").text
    assert yaml.safe_load(yaml_of(by_form))["training"]["epochs"] == 9
    assert yaml.safe_load(yaml_of(by_form))["control"] is False
    text = "# mine\n" + yaml_of(by_form).replace("epochs: 9", "epochs: 11\n  batch: 8")
    by_text = send(small_client, fields_of(by_form), spec=text).text
    assert yaml_of(by_text) == text, "what is written stays as it is written"
    assert [value for name, value in fields_of(by_text) if name in {"training.epochs", "training.batch"}] == ["11", "8"]
    both = send(small_client, fields_of(by_text), spec=text.replace("batch: 8", "batch: 4"), training__seeds="2").text
    training = yaml.safe_load(yaml_of(both))["training"]
    assert (training["batch"], training["seeds"], training["epochs"]) == (4, 2, 11)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"training__epochs": "abc"}, "training-epochs"),
        ({"training__imgsz": "100"}, "training-imgsz"),
        ({"name": "a b"}, "name"),
        ({"data": "other", "data.other": "nobody-knows"}, "data"),
        ({"teacher": "model:x@sha256:" + "0" * 64}, "teacher"),
        ({"labels": "no label"}, "labels"),
        ({"priority": "many"}, "priority"),
        ({"spec": "name: [a"}, "spec"),
        ({"spec": "- 1"}, "spec"),
        ({"spec": "name: a\nepochs: 3\ndata: {dataset: coco128}\nteacher: {weights: yolo11l.pt}"}, "spec"),
    ],
)  # fmt: skip
def test_what_is_wrong_stands_at_the_field_that_it_belongs_to_and_nothing_is_queued(
    small_client: TestClient, changes: dict[str, str], place: str
):
    page = small_client.get("/new", params={"dataset": "coco128"}).text
    answer = send(small_client, fields_of(page), "submit", **changes)
    assert answer.status_code == 422
    assert "notice bad" in answer.text
    assert "bad" in answer.text.partition(f'id="e-{place}" data-live>')[2].partition("</div>")[0]
    for name, value in changes.items():
        held = [one for field, one in fields_of(answer.text) if field == name.replace("__", ".")]
        assert value in held, "what was typed is still there"
    assert small_client.get("/v1/jobs").json()["data"] == []
    if changes.get("spec") == "name: [a":
        assert "line 2, column 1" in answer.text.partition('id="e-spec" data-live>')[2].partition("</div>")[0]
    focused = re.findall(r"<(?:input|select|textarea|fieldset)\b[^>]*? autofocus", answer.text)
    assert len(focused) == 1, "the first wrong field has the focus"
    assert f'id="f-{place}' in focused[0]


def test_a_failed_job_comes_back_with_its_remedy_and_the_new_one_is_its_child(
    small_client: TestClient, small_worker: Worker
):
    spec = {**SPEC, "data": {"dataset": "coco128"}, "distillation": {"recipe": "article"}, "training": {"batch": 64}}
    job_id = small_client.post("/v1/jobs?label=run%3D7", json=spec).json()["id"]
    failure = RunFailure(code="out_of_memory", message="too large", hint="try training.batch: 32", retryable=False)
    small_worker.fail(small_worker.claim(job_id), failure)
    page = small_client.get("/new", params={"from": job_id, "change": ["training.batch=32", "training.seed=3"]})
    document = yaml.safe_load(yaml_of(page.text))
    assert document["training"] == {"epochs": 100, "imgsz": 640, "batch": 32, "seed": 3}
    assert document["distillation"] == {"recipe": "article"}, "the preset is not written out"

    answer = send(small_client, fields_of(page.text), "submit")

    job = small_client.get(f"/v1{answer.headers['Location']}").json()
    assert (job["parent_id"], job["labels"], job["spec"]["training"]["batch"]) == (job_id, {"run": "7"}, 32)
    again = send(small_client, fields_of(page.text), "submit")
    assert again.headers["Location"] == answer.headers["Location"]


@pytest.mark.parametrize("query", ["from=job_" + "0" * 32, "change=training.epochs", "change=name.x%3D1", "colour=red"])
def test_an_address_that_means_nothing_is_told_so(small_client: TestClient, query: str):
    answer = small_client.get(f"/new?dataset=coco128&{query}", headers={"Accept": "text/html"})
    assert answer.status_code in {400, 404, 422}


def test_teachers_are_shown_with_what_advice_has_measured_on_the_chosen_data(
    small_client: TestClient, small_worker: Worker, home: Path
):
    reference = put_dataset(small_worker.database, small_worker.store, home)
    model = put_model(small_worker.database, small_worker.store, home, "big-teacher")
    request = {"task": "advise", "data": {"dataset": reference}, "candidates": [model, "yolo11s.pt"]}
    job_id = small_client.post("/v1/advise", json=request).json()["id"]
    result = advice(candidate(model, title="<i>big</i>", map=0.613), candidate("yolo11s.pt", "refused"))
    small_worker.succeed(small_worker.claim(job_id), parse_result(result))

    page = small_client.get("/new").text

    for part in ("61.3", '<td class="n">60.0</td>', f'href="/jobs/{job_id}"', "&lt;i&gt;big&lt;/i&gt;"):
        assert part in page
    assert "<i>big</i>" not in page
    assert dict(fields_of(page))["teacher"] == model, "the recommended one is chosen"
    assert "&lt;b&gt;green&lt;/b&gt;" in page
    assert "/previews/4.jpg" in page


def test_the_advisor_is_asked_by_a_button_and_its_bound_stands_on_the_page_without_scripts(
    small_client: TestClient, small_worker: Worker, home: Path
):
    put_dataset(small_worker.database, small_worker.store, home)
    model = put_model(small_worker.database, small_worker.store, home, "big-teacher")
    page = small_client.get("/new").text
    fields = [(name, value) for name, value in fields_of(page) if name != "do"]

    asked = send(small_client, fields, "advise", training__epochs="7", name="a b").text

    (job,) = small_client.get("/v1/jobs").json()["data"]
    spec = small_client.get(f"/v1/jobs/{job['id']}").json()["spec"]
    assert spec["candidates"] == [model, "yolo11s.pt", "yolo11m.pt", "yolo11l.pt"]
    assert f'href="/jobs/{job["id"]}"' in asked
    assert "data-waits" in asked
    assert "Ask the advisor" not in asked, "it has been asked"
    assert {("training.epochs", "7"), ("name", "a b")} <= set(fields_of(asked)), "nothing typed is lost"
    send(small_client, fields_of(asked), "advise")
    assert len(small_client.get("/v1/jobs").json()["data"]) == 1, "a double click asks once"
    result = advice(candidate(model, title="big", map=0.613), candidate("yolo11s.pt", "refused"))
    small_worker.succeed(small_worker.claim(job["id"]), parse_result(result))
    told = send(small_client, fields_of(asked)).text
    assert "61.3" in told
    assert "data-waits" not in told
    chosen = send(small_client, fields_of(told), f"teacher:{model}").text
    assert yaml.safe_load(yaml_of(chosen))["teacher"] == {"weights": model}
    assert dict(fields_of(chosen))["teacher"] == model


def test_the_advisor_is_told_how_the_chosen_teacher_is_read():
    adapter = {"names": ["car"]}
    document = {"data": {"dataset": "coco128"}, "teacher": {"weights": "detr.onnx", "adapter": adapter}}
    offered = cast("JobChoices", SimpleNamespace(teachers=()))
    request = parse_spec(advice_request(document, offered))
    assert isinstance(request, AdviceSpec)
    assert request.candidates[0] == "detr.onnx"
    assert request.adapters == {"detr.onnx": TeacherAdapter(names=("car",))}


def test_the_advisor_asks_for_data_and_a_failed_advice_says_why(small_client: TestClient, small_worker: Worker):
    page = small_client.get("/new").text
    assert "is needed to measure teachers on" in send(small_client, fields_of(page), "advise").text
    page = small_client.get("/new", params={"dataset": "coco128"}).text
    asked = send(small_client, fields_of(page), "advise").text
    (job,) = small_client.get("/v1/jobs").json()["data"]
    failure = RunFailure(code="data_not_usable", message="no <b> labels", hint=None, retryable=False)
    small_worker.fail(small_worker.claim(job["id"]), failure)
    told = send(small_client, fields_of(asked)).text
    assert "no &lt;b&gt; labels" in told
    assert "Ask the advisor" in told


def test_whoever_may_not_submit_gets_no_form_and_other_sites_pages_cannot_send_it(small_client: TestClient):
    fields = fields_of(small_client.get("/new", params={"dataset": "coco128"}).text)
    refused = small_client.post("/new", data=dict(fields), headers={"Sec-Fetch-Site": "cross-site"})
    assert refused.status_code == 403
    assert small_client.get("/v1/jobs").json()["data"] == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on the PATH")
def test_the_commands_of_the_page_submit_as_they_are_printed(sqlite_template: Path, tmp_path: Path):
    (home := tmp_path / "a b's home").mkdir()
    with listening(sqlite_template, home) as url, httpx2.Client(base_url=url, headers=HEADERS) as client:
        page = client.get("/new", params={"dataset": "coco128"}).text
        fields = {**dict(fields_of(page)), "labels": 'who=it\'s "me"\nrun=7', "priority": "-3"}
        page = client.post("/new", data={**fields, "do": "check"}, headers=SAME).text
        texts = [html.unescape(one) for one in re.findall(r'<pre id="command-\d"[^>]*>(.*?)</pre>', page, re.DOTALL)]
        curl, command_line, python = texts
        sent = client.post("/new", data={**dict(fields_of(page)), "do": "submit"}, headers=SAME)
        by_form = client.get(f"/v1{sent.headers['Location']}").json()
        environment = {**os.environ, "RETORT_KEY": OPERATOR, "PATH": f"{BIN}:{os.environ['PATH']}"}
        for words in (["bash", "-ec", curl], ["bash", "-ec", command_line], [sys.executable, "-c", python]):
            done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            job = client.get("/v1/jobs").json()["data"][0]
            assert job["id"] in done.stdout
            assert (job["labels"], job["priority"]) == ({"who": 'it\'s "me"', "run": "7"}, -3)
        found = client.get("/v1/jobs").json()["data"]
        assert {job["spec_digest"] for job in found} == {by_form["spec_digest"]}, "all make the job of the form"
        assert len(found) == 4


@pytest.mark.parametrize(
    "spec",
    [
        {"task": "advise", "data": {"dataset": "coco128"}, "candidates": ["yolo11s.pt"], "name": "which"},
        {"task": "evaluate", "data": {"dataset": "coco128"}, "networks": ["yolo11s.pt"], "name": "judge"},
    ],
)  # fmt: skip
def test_jobs_of_other_tasks_are_cloned_by_their_yaml(small_client: TestClient, spec: dict[str, Any]):
    answer = small_client.post("/v1/jobs", json=spec)
    assert answer.status_code == 202, answer.text
    page = small_client.get("/new", params={"from": answer.json()["id"]}).text
    assert f"task: {spec['task']}" in page
    made = send(small_client, fields_of(page), "submit", spec=yaml_of(page).replace(spec["name"], "again"))
    job = small_client.get(f"/v1{made.headers['Location']}").json()
    assert (job["name"], job["spec"]["task"]) == ("again", spec["task"])


def test_without_any_data_the_page_asks_for_some_and_complains_of_nothing(small_client: TestClient):
    page = small_client.get("/new").text
    assert "Upload one" in page
    assert "notice bad" not in page
    assert send(small_client, fields_of(page), "submit").status_code == 422


def test_without_recorded_jobs_the_page_says_that_nothing_is_known(small_client: TestClient):
    page = small_client.get("/new", params={"dataset": "coco128"}).text
    told = page.partition('id="estimate"')[2].partition("</section>")[0]
    assert "nothing is known of time and memory" in told
    assert "Time on" not in told
    wrong = small_client.get("/new", params={"dataset": "coco128", "change": "training.batch=0"}).text
    assert "Told once the spec is right" in wrong.partition('id="estimate"')[2].partition("</section>")[0]


@pytest.mark.parametrize(
    ("device", "price", "cost"), [("cpu", 3.6, None), ("H100", None, None), ("H100", 3.6, "1.20 CHF")]
)
def test_what_recorded_jobs_tell_of_time_memory_and_cost_stands_beside_the_form(
    small_settings: Settings, small_worker: Worker, device: str, price: float | None, cost: str | None
):
    spec = {**SPEC, "data": {"dataset": "coco128"}, "training": {"epochs": 2}}
    with serving(small_settings.model_copy(update={"gpu_hour_price": price, "currency": "CHF"})) as client:
        job_id = client.post("/v1/jobs", json=spec).json()["id"]
        memory = {"step_bytes": 5_400_000_000, "free_bytes": 80_000_000_000, "measured": True}
        training = {"epochs": 2, "planned_epochs": 2, "batch": 16, "memory": memory}
        result = stored(training=training, duration_s=600.0, device=device)
        small_worker.succeed(small_worker.claim(job_id), parse_result(result))
        page = client.get("/new", params={"from": job_id, "change": "training.epochs=4"}).text
    told = page.partition('id="estimate"')[2].partition("</section>")[0]
    wanted = {f"Time on {device}", "20 min", "5.4 GB", cost or "20 min"}
    assert {part for part in wanted if part in told} == wanted
    assert ("Cost" in told) == (cost is not None)


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 999) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_sections = st.sampled_from(["name", "data", "teacher", "student", "training", "exports", "control", "x"])
_documents = st.dictionaries(_sections, _values, max_size=6)


@settings(max_examples=60, deadline=None)
@given(before=_documents, after=_documents, written=st.text(max_size=40) | st.none(), data=st.data())
def test_no_document_breaks_the_form_and_what_the_form_changes_is_what_it_shows(
    before: dict[str, Any], after: dict[str, Any], written: str | None, data: st.DataObject
):
    old, new = spec_text(before), spec_text(after) if written is None else written
    name = data.draw(st.sampled_from(["training.epochs", "teacher.train.epochs", "name", "student", "teacher"]))
    shown = state_of(before)
    try:
        edited = edit(new, old, {**shown, name: ("77",)})
    except SpecError:
        return
    state = state_of(edited.document)
    assert state_of(read_mapping(edited.text)) == state, "the YAML says the same"
    if shown[name] != ("77",):
        assert state[name] == ("77",)
