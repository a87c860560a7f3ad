"""The pages of a job: readable without scripts, with every action as a form, and with strangers' text as text."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient
from results import result
from retort.access import ClientRole
from retort.constants import MAP, Role
from retort.db import Database, Lease, metrics, transitions
from retort.db.session import database_now
from retort.exports import EXPORT_FORMATS
from retort.pipeline.context import find
from retort.protocol.events import LogEvent, MetricEvent, RunFailure, StageEvent
from retort.settings import Settings
from retort.spec import TASKS, parse_spec
from retort.states import JobState
from retort.storage import Store
from retort_api.pages import job_export
from retort_api.pages.job_changes import changeable, patch_of
from retort_api.pages.job_samples import ReportReader
from retort_api.pages.job_stages import STAGES, steps
from retort_api.pages.spec_form import EXPORTS
from sqlalchemy import event
from stored_results import VERDICT
from support.api_harness import SPEC, Worker
from support.hostile import texts
from support.identity import add_key
from support.job_pages import Seeded, report, seed

TABS = ("", "/charts", "/health", "/evaluation", "/samples", "/files", "/try", "/log", "/spec")
FROM_US = {"Sec-Fetch-Site": "same-origin"}
EXAMPLES = Path(__file__).parents[2] / "examples" / "specs"


@pytest.fixture(scope="module")
def hands(own_settings: Settings, home: Path) -> Any:
    database = Database(own_settings.database_url)
    yield Worker(database, Store(own_settings.store_url), home)
    database.close()


@pytest.fixture(scope="module")
def seeded(hands: Worker) -> Seeded:
    return seed(hands)


def press(client: TestClient, path: str, **fields: str) -> Any:
    return client.post(path, data=fields, headers=FROM_US)


def submitted(client: TestClient, **changes: Any) -> str:
    answer = client.post("/v1/jobs", json={**SPEC, **changes})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


@pytest.mark.parametrize("tab", TABS)
@pytest.mark.parametrize("which", ["queued", "running", "failed", "succeeded"])
def test_every_page_of_a_job_reads_without_scripts_in_every_state(
    people: TestClient, seeded: Seeded, which: str, tab: str
):
    answer = people.get(f"/jobs/{getattr(seeded, which)}{tab}")
    assert answer.status_code == 200, answer.text[:400]
    assert answer.text.count("<h1>") == 1
    assert "<b>class_logits</b>" not in answer.text
    assert " style=" not in answer.text
    assert not re.search(r"<script(?![^>]* src=)", answer.text)


def test_a_running_job_says_in_words_where_it_stands(people: TestClient, seeded: Seeded):
    shown = people.get(f"/jobs/{seeded.running}").text
    assert "train the control, epoch 21" in shown
    assert "of 40" in shown
    assert "1 h 6 min to go" in shown
    assert "2 of 400 images of train could not be read" in shown
    assert "no worker is running" in people.get(f"/jobs/{seeded.queued}").text


def test_a_failed_job_offers_to_change_what_its_hint_names(people: TestClient, seeded: Seeded):
    page = people.get(f"/jobs/{seeded.failed}").text
    assert "11.8 GiB of the 10.2" in page
    assert 'name="change.training.batch"' in page
    assert 'name="change.resources.halve_batch"' in page

    same = press(people, f"/jobs/{seeded.failed}/retry-changed", **{"change.training.batch": "16"})
    assert same.status_code == 422, "nothing is changed"
    odd = press(people, f"/jobs/{seeded.failed}/retry-changed", **{"change.training.batch": "many"})
    assert (odd.status_code, "must be a number" in odd.text) == (422, True)
    changed = {"change.training.batch": "8", "change.resources.halve_batch": "true", "key": "once"}
    first, again = (press(people, f"/jobs/{seeded.failed}/retry-changed", **changed) for _ in range(2))
    assert first.status_code == 303, first.text[:500]
    assert first.headers["location"] == again.headers["location"], "a form that is sent twice makes one job"
    made = people.get(f"/v1{first.headers['location']}").json()
    assert (made["parent_id"], made["spec"]["training"]["batch"]) == (seeded.failed, 8)
    assert made["spec"]["resources"]["halve_batch"] is True


def test_only_fields_of_the_spec_with_one_value_are_offered():
    spec = parse_spec(SPEC).model_dump(mode="json")
    hint = "lower training.batch or training.imgsz, look at docs.rs, training, exports.0 and distillation.losses"
    offered = changeable({"hint": hint, "message": "training.batch"}, spec)
    assert [field.path for field in offered] == ["training.batch", "training.imgsz"]
    assert patch_of({"change.training.imgsz": "320", "change.name": "evil"}, offered) == {"training": {"imgsz": 320}}


def test_a_job_is_paused_resumed_stopped_and_cancelled_by_forms(people: TestClient, hands: Worker):
    job_id = submitted(people)

    def state() -> str:
        return str(people.get(f"/v1/jobs/{job_id}").json()["state"])

    assert press(people, f"/jobs/{job_id}/pause").headers["location"] == f"/jobs/{job_id}"
    assert (state(), "Resume" in people.get(f"/jobs/{job_id}").text) == ("paused", True)
    press(people, f"/jobs/{job_id}/resume")
    assert state() == "queued"
    lease = hands.claim(job_id)
    assert "Stop early" not in people.get(f"/jobs/{job_id}").text, "there is nothing to keep yet"
    hands.record(lease, MetricEvent(n=1, at=1, role=Role.STUDENT, step=1, values={MAP: 0.1}))
    assert "Stop early" in people.get(f"/jobs/{job_id}").text
    assert press(people, f"/jobs/{job_id}/stop").status_code == 303
    assert "asked to end its training early" in people.get(f"/jobs/{job_id}").text
    press(people, f"/jobs/{job_id}/cancel")
    assert state() == "cancelling"
    refused = press(people, f"/jobs/{job_id}/pause")
    assert (refused.status_code, "<h1>" in refused.text) == (409, True), "an error on a page is a page"


@pytest.mark.parametrize(("stage", "offered"), [("distill", True), ("control", True), ("export", False)])
def test_an_early_end_is_offered_while_something_trains(
    people: TestClient, hands: Worker, stage: str, offered: bool
):  # fmt: skip
    job_id = submitted(people)
    lease = hands.claim(job_id)
    hands.record(
        lease, StageEvent(n=1, at=1, stage="distill"),
        MetricEvent(n=2, at=1, role=Role.STUDENT, step=1, values={MAP: 0.1}), StageEvent(n=3, at=2, stage=stage),
    )  # fmt: skip
    assert ("Stop early" in people.get(f"/jobs/{job_id}").text) is offered
    press(people, f"/jobs/{job_id}/pause")
    with hands.database.begin() as session:
        assert transitions.hand_back(session, lease, now=database_now(session)) is JobState.PAUSED
    page = people.get(f"/jobs/{job_id}").text
    assert ("Resume" in page, "Stop early" in page) == (True, offered)


def test_the_first_epoch_is_called_so_while_it_runs_and_the_last_while_the_stage_ends(
    people: TestClient, hands: Worker
):
    job_id = submitted(people, training={"epochs": 2})

    def said() -> str:
        return re.sub(r"\s+", " ", people.get(f"/jobs/{job_id}").text)

    lease = hands.claim(job_id)
    start = MetricEvent(n=2, at=1, role=Role.STUDENT, step=0, values={MAP: 0.0})
    hands.record(lease, StageEvent(n=1, at=1, stage="distill"), start)
    assert "epoch 1 of 2." in said()
    assert ", before its first epoch" not in said(), "nothing has been found at all"
    for step, told in ((1, "epoch 2 of 2."), (2, "epoch 2 of 2.")):
        values = {MAP: 0.2, "train/loss": 1.0}
        hands.record(lease, MetricEvent(n=2 + step, at=step, role=Role.STUDENT, step=step, values=values))
        assert told in said()
    assert "mAP50, at epoch 2<" in said(), "of equal epochs the later one is kept"


def test_a_job_that_fails_before_its_first_stage_failed_while_it_was_checked(people: TestClient, hands: Worker):
    job_id = submitted(people)
    hands.fail(hands.claim(job_id), RunFailure(code="bad_dataset", message="no labels"))
    titles = re.findall(r'<li class="(\w+)".*?<span>([^<]*)', people.get(f"/jobs/{job_id}").text.partition('"rail"')[2])
    assert titles[:2] == [("ended", "check the networks"), ("left_out", "train the student")]

    never = submitted(people)
    press(people, f"/jobs/{never}/cancel")
    assert '<li class="ended"' not in people.get(f"/jobs/{never}").text


def test_a_job_that_has_ended_is_retried_pinned_deleted_and_restored_by_forms(people: TestClient):
    job_id = submitted(people)
    press(people, f"/jobs/{job_id}/cancel")
    retried = press(people, f"/jobs/{job_id}/retry", key="abc").headers["location"]
    assert people.get(f"/v1{retried}").json()["parent_id"] == job_id
    press(people, f"{retried}/cancel")
    press(people, f"/jobs/{job_id}/keep", keep="true")
    page = people.get(f"/jobs/{job_id}").text
    assert ("Unpin" in page, "Delete the job" in page) == (True, False)
    press(people, f"/jobs/{job_id}/keep", keep="false")
    press(people, f"/jobs/{job_id}/delete")
    assert "in the trash" in people.get(f"/jobs/{job_id}").text
    press(people, f"/jobs/{job_id}/restore")
    assert people.get(f"/v1/jobs/{job_id}").json()["deleted_at"] is None


def test_what_one_may_not_do_is_neither_offered_nor_done(people: TestClient, hands: Worker, seeded: Seeded):
    reader = add_key(hands.database, "reader", ClientRole.READER)
    page = people.get(f"/jobs/{seeded.running}", headers=reader).text
    assert "street-small" in page
    assert not re.findall(r'action="/jobs/', page)
    refused = people.post(f"/jobs/{seeded.running}/cancel", headers={**reader, **FROM_US})
    assert refused.status_code == 403
    assert people.get(f"/v1/jobs/{seeded.running}").json()["state"] == "running"


def test_a_job_of_another_project_is_not_there(people: TestClient, hands: Worker, seeded: Seeded):
    stranger = add_key(hands.database, "stranger", ClientRole.SUBMITTER, project="elsewhere")
    for tab in (*TABS, "/charts/map.csv", "/evaluation/confusion.csv", "/samples/0", "/samples/images/0", "/report"):
        answer = people.get(f"/jobs/{seeded.succeeded}{tab}", headers=stranger)
        assert (answer.status_code, "street-best" in answer.text) == (404, False), tab
    form = {"form": "onnx-fp16"}
    for action in ("cancel", "retry", "delete", "export"):
        sent = people.post(f"/jobs/{seeded.succeeded}/{action}", headers={**stranger, **FROM_US}, data=form)
        assert sent.status_code == 404, action


_OF_JOBS = {
    path.stem: document
    for path in sorted(EXAMPLES.glob("*.yaml"))
    if "parameters" not in (document := yaml.safe_load(path.read_text())) and document.get("task", "distill") in TASKS
}
"""The examples that are no sweeps."""


@pytest.mark.parametrize("name", _OF_JOBS)
def test_the_rail_has_the_stages_that_the_run_has(name: str):
    document = _OF_JOBS[name]
    spec = parse_spec(document)
    expected = [stage.name for stage in find(document.get("task", "distill")) if stage.module.applies(spec)]
    shown = steps(spec.model_dump(mode="json"), JobState.QUEUED, [], 0.0)
    assert [one.name for one in shown] == expected


def test_every_stage_that_there_is_has_words():
    for task, kinds in STAGES.items():
        assert [kind.name for kind in kinds] == [stage.name for stage in find(task)]


def test_a_stage_of_ones_own_stands_where_it_ran(hands: Worker, people: TestClient):
    job_id = submitted(people)
    said = (StageEvent(n=n, at=n, stage=name) for n, name in enumerate(("check", "my_stage", "distill"), 1))
    hands.record(hands.claim(job_id), *said)
    titles = re.findall(
        r"<li class=\"(\w+)\"[^>]*><span class=\"dot\"[^>]*>[^<]*</span><span>([^<]*)",
        people.get(f"/jobs/{job_id}").text,
    )
    assert titles[:3] == [("done", "check the networks"), ("done", "my stage"), ("now", "train the student")]


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_each_chart_has_its_numbers_as_a_table_and_as_csv(people: TestClient, seeded: Seeded):
    page = people.get(f"/jobs/{seeded.succeeded}/charts").text
    names = re.findall(r'data-chart="([a-z0-9-]+)"', page)
    assert {"map", "gap", "map50", "task", "validation", "distillation", "rate", "rest"} <= set(names)
    assert {"speed", "memory", "load", "device"} <= set(names)
    assert "pace" not in names, "the loop has measured its speed itself"
    assert page.count("<caption>") == len(names)
    for name in names:
        answer = people.get(f"/jobs/{seeded.succeeded}/charts/{name}.csv")
        assert (answer.status_code, len(read_csv(answer.text)) >= 39) == (200, True), name
    rows = read_csv(people.get(f"/jobs/{seeded.succeeded}/charts/gap.csv").text)
    figures = read_csv(people.get(f"/jobs/{seeded.succeeded}/charts/map.csv").text)[-1]
    share = 100 * (float(figures["student"]) - float(figures["control"])) / (0.6 - float(figures["control"]))
    assert float(rows[-1]["share of the gap"]) == pytest.approx(share, rel=1e-4)
    assert [*read_csv(people.get(f"/jobs/{seeded.succeeded}/charts/memory.csv").text)[0]][2:] == [
        "GPU, student", "processes, student", "GPU, control", "processes, control",
    ]  # fmt: skip
    assert people.get(f"/jobs/{seeded.succeeded}/charts/none.csv").status_code == 404


def test_steps_are_an_axis_while_a_job_runs(people: TestClient, seeded: Seeded):
    page = people.get(f"/jobs/{seeded.running}/charts").text
    assert '<option value="step">' in page
    assert 'data-steps="25"' in page


def test_a_job_that_has_not_measured_its_speed_has_the_time_between_epochs(people: TestClient, hands: Worker):
    job_id = submitted(people)
    said = [MetricEvent(n=n, at=30 * n, role=Role.STUDENT, step=n, values={"train/loss": 1.0}) for n in (1, 2, 3)]
    hands.record(hands.claim(job_id), *said)
    page = people.get(f"/jobs/{job_id}/charts").text
    assert ('data-chart="pace"' in page, '<option value="step">' in page) == (True, False)
    pace = read_csv(people.get(f"/jobs/{job_id}/charts/pace.csv").text)
    assert float(pace[1]["student"]) == pytest.approx(120, rel=1e-4), "epochs an hour"


def test_a_figure_that_nobody_foresaw_has_a_chart_and_its_name_is_no_formula(people: TestClient, hands: Worker):
    job_id = submitted(people)
    said = [MetricEvent(n=n, at=n, role=Role.STUDENT, step=n, values={"x/=1+1": 1.0, "x/@b,c": 2.0}) for n in (1, 2)]
    hands.record(hands.claim(job_id), *said)
    header = people.get(f"/jobs/{job_id}/charts/rest.csv").text.splitlines()[0]
    assert header == 'epoch,time,"\'=1+1, student","\'@b,c, student"'


@pytest.mark.parametrize("again", [False, True])
def test_a_long_curve_is_thinned_and_keeps_its_extremes(
    client: TestClient, worker: Worker, lease: Lease, *, again: bool
):
    number = 3000
    said = [
        MetricEvent(n=step, at=step, role=Role.STUDENT, step=step, values={MAP: {77: 9.0, 2001: -9.0}.get(step, 0.5)})
        for step in range(1, number + 1)
    ]
    worker.record(lease, *said)
    if again:
        worker.fail(lease, RunFailure(code="store_unavailable", message="gone", retryable=True))
        with worker.database.begin() as session:
            session.connection().exec_driver_sql("UPDATE jobs SET claimable_at = 0")
        fresh = worker.claim(lease.job_id)
        worker.record(
            fresh, *(MetricEvent(n=n, at=n, role=Role.STUDENT, step=2001 + n, values={MAP: 3.0}) for n in (1, 2))
        )
    text = client.get(f"/jobs/{lease.job_id}/charts/map.csv", params={"points": 100}).text
    values = [float(row["student"]) for row in read_csv(text)]
    assert len(values) <= 100
    assert (max(values), min(values)) == (9.0, -9.0)
    assert (3.0 in values) is again
    assert len(read_csv(client.get(f"/jobs/{lease.job_id}/charts/map.csv").text)) == number


def test_a_page_of_curves_asks_as_often_and_weighs_as_much_however_many_points_there_are(
    people: TestClient, hands: Worker
):
    client, lease = people, hands.claim(submitted(people))
    asked: list[str] = []
    app: Any = client.app
    engine = app.state.service.database.engine
    event.listen(engine, "before_cursor_execute", lambda *about: asked.append(about[2]))
    told: list[tuple[int, int]] = []
    for first in (1, 41):
        said = [
            MetricEvent(n=step, at=step, role=Role.STUDENT, step=step, values={MAP: 0.5, "train/loss": 1.0})
            for step in range(first, 40 * first + 1 if first > 1 else 41)
        ]
        hands.record(lease, *said)
        client.get(f"/jobs/{lease.job_id}/charts")  # what is asked once a process
        asked.clear()
        page = client.get(f"/jobs/{lease.job_id}/charts").text
        told.append((len(asked), len(page)))
    (few, small), (many, large) = told
    assert many == few
    assert large < 1.1 * small


def test_points_are_read_at_chosen_steps_as_the_latest_attempt_measured_them(worker: Worker, lease: Lease):
    worker.record(
        lease, *(MetricEvent(n=n, at=n, role=Role.STUDENT, step=n, values={MAP: 0.1 * n}) for n in range(1, 6))
    )
    series = metrics.SeriesName("student", MAP)
    with worker.database.read() as session:
        (extent,) = metrics.extents(session, lease.job_id)
        found = metrics.at_steps(session, lease.job_id, [series], {2, 4, 99})[series]
        assert (extent.series, extent.first, extent.last) == (series, 1, 5)
        assert {step: round(point.value or 0, 3) for step, point in found.items()} == {2: 0.2, 4: 0.4}
        assert metrics.last_step(session, lease.job_id, series) == 5


def test_a_log_is_searched_by_level_and_words_and_read_back(client: TestClient, worker: Worker, lease: Lease):
    levels = ("debug", "info", "warning", "error")
    lines = [LogEvent(n=n, at=n, level=levels[n % 4], message=f"line {n} of 100% <i>") for n in range(1, 451)]
    worker.record(lease, *lines)
    home = f"/jobs/{lease.job_id}/log"

    def shown(**query: Any) -> list[int]:
        page = client.get(home, params=query).text
        assert "<i>" not in page
        return [int(found) for found in re.findall(r"line (\d+) of", page)]

    assert shown() == list(range(251, 451)), "the newest, in order"
    assert shown(level="error", q="LINE")[-1] == 447
    assert shown(q="100% 449") == [449]
    assert shown(q="0_ 449") == [], "no character stands for another"
    older = re.findall(r'<a href="([^"]+)">Older</a>', client.get(home).text)
    assert client.get(older[0].replace("&amp;", "&")).text.count("<time") >= 200
    assert client.get(home, params={"level": "loud"}).status_code == 422


def test_files_have_digest_download_and_lines_that_use_them(people: TestClient, seeded: Seeded):
    page = people.get(f"/jobs/{seeded.succeeded}/files").text
    assert f'href="/v1/jobs/{seeded.succeeded}/artifacts/student.pt" download' in page
    assert 'title="138caa8aa6393e84' in page
    for words in ("in Ultralytics", "onnxruntime", "in C++", "trtexec --onnx=student.onnx"):
        assert words in page, words
    report_page = people.get(f"/jobs/{seeded.succeeded}/report").text
    assert 'sandbox="allow-scripts allow-downloads"' in report_page
    assert people.get(f"/jobs/{seeded.running}/report").status_code == 404


def test_samples_are_the_reports_pictures_and_nothing_else_of_it(people: TestClient, seeded: Seeded):
    page = people.get(f"/jobs/{seeded.succeeded}/samples").text
    assert page.count("<figure>") == 4 + 4, "the report's, and the images of the epochs"
    assert "street &lt;1&gt;.png" in page
    assert "0 of 1 found, 1 wrong" in page
    picture = people.get(f"/jobs/{seeded.succeeded}/samples/2")
    assert (picture.headers["content-type"], picture.content[:3]) == ("image/jpeg", b"\xff\xd8\xff")
    assert people.get(f"/jobs/{seeded.succeeded}/samples/4").status_code == 404


def test_the_student_is_seen_on_the_same_images_after_each_epoch_that_was_kept(people: TestClient, seeded: Seeded):
    address = f"/jobs/{seeded.succeeded}/samples"
    page = people.get(address).text
    assert re.findall(r'href="\?epoch=(\d+)"', page) == ["10", "20", "30", "40"]
    assert "After epoch 40: 8 found, 4 wrong, 0 missed." in page
    first = people.get(f"{address}?epoch=10").text
    assert "After epoch 10: 0 found, 4 wrong, 8 missed." in first
    assert first.count('<rect class="missed" x="32.0" y="48.0" width="96.0" height="120.0"/>'.replace("/>", ">")) == 4
    assert people.get(f"{address}?epoch=11").status_code == 404
    assert people.get(f"{address}/images/3").content[:3] == b"\xff\xd8\xff"
    assert people.get(f"{address}/images/4").status_code == 404
    assert people.get(f"/jobs/{seeded.running}/samples?epoch=10").status_code == 200, "nothing is kept yet"


def test_a_report_that_somebody_has_made_up_gives_pictures_or_nothing():
    made = report("x", "job_1").decode().replace("street &lt;1&gt;.png", "{}")
    for text in texts()[::100]:
        reader = ReportReader()
        reader.feed(made.replace("{}", text).replace("data:image/jpeg", f"{text}data:image/jpeg", 1))
        pictures = [picture for group in reader.groups for row in group.rows for picture in row.pictures]
        assert all(picture.jpeg.startswith(b"\xff\xd8\xff") for picture in pictures)


def test_the_spec_is_told_by_what_differs_with_its_meaning(people: TestClient, seeded: Seeded):
    page = people.get(f"/jobs/{seeded.succeeded}/spec").text
    changed = page.split("Every field")[0]
    assert "training.epochs" in changed
    assert "Passes over the training images" in changed
    assert "training.imgsz" not in changed
    assert "training.imgsz" in page


def test_a_published_student_is_exported_once_more_by_a_form(people: TestClient, hands: Worker):
    job_id = submitted(people, name="teaches")
    lease = hands.claim(job_id)
    hands.publish(lease, "student.pt", b"weights")
    assert press(people, f"/jobs/{job_id}/export", form="onnx-fp16").status_code == 404, "it is not registered yet"
    register(hands, lease, b"weights")
    assert press(people, f"/jobs/{job_id}/export", form="onnx-fp99").status_code == 422
    sent = [press(people, f"/jobs/{job_id}/export", form="onnx-fp16", key="one").headers["location"] for _ in range(2)]
    assert sent[0] == sent[1]
    made = people.get(f"/v1{sent[0]}").json()
    assert made["spec"]["task"] == "evaluate"
    assert made["spec"]["exports"][0]["precision"] == "fp16"
    assert made["spec"]["networks"][0].startswith("model:teaches-student@sha256:")
    assert made["parent_id"] == job_id
    page = people.get(sent[0]).text
    assert (f'<a href="/jobs/{job_id}">' in page, "model:teaches-student@sha256:" in page) == (True, True)


def test_more_exports_have_the_titles_of_the_form_of_a_new_job_and_onnx_is_the_first():
    titles = [one.title for one in job_export.FORMS]
    assert titles[0] == "ONNX", "the first is the one that is chosen"
    assert set(EXPORTS.values()) <= {one.removesuffix(" (needs a GPU)") for one in titles}
    assert {one.endswith("(needs a GPU)") for one in titles if "TensorRT" in one} == {True}
    assert {form.format for form in job_export.FORMS} == EXPORT_FORMATS.keys()


def register(hands: Worker, lease: Lease, data: bytes) -> None:
    from retort.db import artifacts, model_registry
    from retort.db.artifacts import NewArtifact
    from retort.db.session import database_now

    with hands.database.begin() as session:
        row = artifacts.named(session, lease.job_id, "student.pt")
        made = NewArtifact("student.pt", "student", row.sha256, len(data), "x/y", row.key, {"data": {"names": ["a"]}})
        assert model_registry.register_trained(session, lease, made, now=database_now(session))


@pytest.mark.parametrize("kind", ["none", "unknown"])
def test_a_student_that_has_learned_nothing_is_not_offered_for_use(people: TestClient, hands: Worker, kind: str):
    job_id = submitted(people, name=f"green-{kind}")
    hands.succeed(hands.claim(job_id), result(student=0.01, control=0.0, verdict={**VERDICT, "kind": kind}))

    page = people.get(f"/jobs/{job_id}").text
    said = page[page.index("What to do next:") : page.index('id="stages"')]

    assert "train it for longer" in said
    assert "se the student" not in said
    longer = re.search(r'class="button primary" href="([^"]+)"', said)
    assert longer is not None
    assert "has to change before" not in people.get(longer[1].replace("&amp;", "&")).text


def test_a_control_that_was_passed_by_does_not_count_as_done(people: TestClient, hands: Worker):
    job_id = submitted(people)
    said = (StageEvent(n=n, at=n, stage=name) for n, name in enumerate(("check", "distill", "control", "report"), 1))
    lease = hands.claim(job_id)
    hands.record(lease, *said)
    hands.succeed(lease, result(control=None, control_dropped="the job was finished early", verdict=VERDICT))

    page = people.get(f"/jobs/{job_id}").text

    assert re.search(r'<li class="skipped">.*?train the control</span><span class="soft small">skipped</span>', page)
    assert re.search(r'<li class="done">.*?<span>report</span>', page)


@pytest.mark.parametrize(
    ("kind", "step"),
    [("gain", "files"), ("loss", "health"), ("none", "change=training.seeds=3"), ("unknown", "change=control=true")],
)
def test_a_verdict_is_followed_by_what_to_do_next(people: TestClient, hands: Worker, kind: str, step: str):
    said = {**VERDICT, "kind": kind, "sentence": f"This is {kind}."}
    job_id = submitted(people, name=f"judged-{kind}")
    hands.succeed(hands.claim(job_id), result(verdict=said))

    page = people.get(f"/jobs/{job_id}").text

    assert page.index(f"This is {kind}.") < page.index("What to do next:") < page.index('id="stages"')
    first = re.search(r'class="button primary" href="([^"]+)"', page[page.index("What to do next:") :])
    assert first is not None
    assert first[1].endswith(step)
    if first[1].startswith("/new"):
        form = people.get(first[1].replace("&amp;", "&"))
        assert form.status_code == 200
        assert "has to change before" not in form.text


def test_a_job_that_runs_shows_its_networks_beside_each_other_at_the_same_epoch(people: TestClient, seeded: Seeded):
    page = people.get(f"/jobs/{seeded.running}").text

    figure, then = r"mAP50-95</dt><dd>([\d.]+)</dd>", r"at epoch 20; the student had ([\d.]+) then"
    shown = re.search(rf'control, {figure}<dd class="soft">{then}', page)
    assert shown is not None
    assert float(shown[1]) < float(shown[2])
    assert re.search(r"teacher, mAP50-95</dt><dd>60\.0</dd>", page)
    assert re.search(r"<title>42 % street-small · Retort</title>", page)


def test_where_the_hint_names_the_change_that_change_is_what_is_offered_first(people: TestClient, seeded: Seeded):
    page = people.get(f"/jobs/{seeded.failed}").text

    assert [re.sub(r"<.*?>", "", one) for one in re.findall(r'<button class="primary">.*?</button>', page)] == [
        "Retry with this change"
    ]
