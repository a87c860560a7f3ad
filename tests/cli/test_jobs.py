"""The commands that speak to a service, against a real one."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.commands import SPEC, Retort
from core.tracking import records

Submitted = Callable[[str, int], str]


def test_submit_prints_the_id_and_wait_says_how_the_job_ended(served: Retort, submitted: Submitted):
    job_id = submitted("finish", 2)

    ended = served("wait", job_id, "--timeout", 30)

    assert ended.code == 0
    assert "succeeded" in ended.out


def test_a_failed_job_is_exit_code_one_with_its_reason_and_hint(served: Retort, submitted: Submitted):
    ended = served("wait", submitted("diverged", 1), "--timeout", 30)

    assert ended.code == 1
    assert "the loss is not a number [diverged]" in ended.out
    assert "hint: lower training.lr" in ended.out


def test_a_cancelled_job_is_exit_code_two_and_one_that_goes_on_is_three(served: Retort, submitted: Submitted):
    job_id = submitted("wait", 1)
    late = served("wait", job_id, "--timeout", 0.5)
    cancelled = served("cancel", job_id)
    ended = served("wait", job_id, "--timeout", 30, "--json")

    assert late.code == 3
    assert cancelled.code == 0
    assert (ended.code, ended.json["state"]) == (2, "cancelled")


def test_a_finished_job_cannot_be_cancelled(served: Retort, submitted: Submitted):
    job_id = submitted("finish", 1)
    served("wait", job_id, "--timeout", 30)

    refused = served("cancel", job_id, "--json")

    assert (refused.code, refused.error["code"]) == (4, "job_already_finished")
    assert refused.error["request_id"]


def test_watch_prints_lines_where_there_is_no_terminal(served: Retort, submitted: Submitted):
    ended = served("watch", submitted("finish", 3))

    assert ended.code == 0
    assert "student epoch 3 of 3  mAP50 0.5000  mAP50-95 0.0300  loss 0.3333" in ended.out


def test_submit_and_watch_is_one_command_and_its_code_is_the_jobs(served: Retort):
    ended = served("submit", SPEC, "--set", "name=diverged", "--set", "training.epochs=1", "--watch", "--json")
    *events, job = [json.loads(line) for line in ended.out.splitlines()]

    assert ended.code == 1
    assert job["state"] == "failed"
    assert [event["seq"] for event in events][:2] == [1, 2]


def test_logs_are_the_events_in_order_and_follow_ends_with_the_job(served: Retort, submitted: Submitted):
    job_id = submitted("finish", 2)
    followed = [json.loads(line) for line in served("logs", "-f", job_id, "--json").out.splitlines()]
    read = [json.loads(line) for line in served("logs", job_id, "--json").out.splitlines()]

    assert [event["seq"] for event in followed] == list(range(1, len(followed) + 1))
    assert followed == read
    assert followed[-1]["data"]["state"] == "succeeded"


def test_a_job_may_be_named_by_an_end_or_a_beginning_of_its_id(served: Retort, submitted: Submitted):
    submitted("finish", 1)
    job_id = submitted("finish", 1)

    assert served("get", job_id[-8:], "--json").json["id"] == job_id
    assert served("get", job_id.removeprefix("job_")[:31], "--json").json["id"] == job_id
    assert served("get", "job_", "--json").error["code"] == "job_ambiguous"
    assert served("get", "nonsense", "--json").error["code"] == "job_not_found"


def test_ls_shows_the_newest_first_and_filters(served: Retort, submitted: Submitted):
    older, newer = submitted("diverged", 1), submitted("finish", 1)
    for job_id in (older, newer):
        served("wait", job_id, "--timeout", 30)

    assert [job["id"] for job in served("ls", "--json", "--limit", 2).json] == [newer, older]
    assert {job["state"] for job in served("ls", "--state", "failed", "--json").json} == {"failed"}
    assert newer in served("ls").out


def test_the_same_idempotency_key_makes_one_job(served: Retort):
    twice = [served("submit", SPEC, "--set", "name=finish", "--idempotency-key", "twice").out for _ in range(2)]

    assert twice[0] == twice[1]


def test_a_spec_may_come_from_stdin(served: Retort, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    class Stdin:
        buffer = io.BytesIO(SPEC.read_bytes())

    monkeypatch.setattr("sys.stdin", Stdin)
    monkeypatch.chdir(tmp_path)
    job_id = served("submit", "-", "--set", "name=finish", "--set", "training.epochs=1").out.strip()

    assert served("get", job_id, "--json").json["spec"]["data"]["path"] == str((tmp_path / "../data/digits").resolve())


def test_every_mistake_in_a_spec_is_told(served: Retort):
    told = served("submit", SPEC, "--set", "training.epoch=3", "--set", "student.model=yolov9")

    assert told.code == 4
    assert "training.epoch: unknown field 'epoch' (did you mean 'epochs'?)" in told.err
    assert "student.model: is not one of the known values" in told.err
    assert "did you mean yolov9t?" in told.err
    assert told.out == ""


def test_download_fetches_everything_into_the_folder_asked_for(served: Retort, submitted: Submitted, tmp_path: Path):
    job_id = submitted("finish", 1)
    served("wait", job_id, "--timeout", 30)

    done = served("download", job_id, "--out", tmp_path, "--json")

    assert done.code == 0
    assert (tmp_path / "student.pt").read_bytes() == b"student"
    assert (tmp_path / "checkpoints" / "student-epoch-0001.pt").read_bytes() == b"checkpoint"
    assert {item["name"] for item in done.json} >= {"student.pt", "checkpoints/student-epoch-0001.pt"}


def test_the_curves_are_downloaded_as_event_files_for_tensorboard(served: Retort, submitted: Submitted, tmp_path: Path):
    job_id = submitted("finish", 2)
    served("wait", job_id, "--timeout", 30)

    done = served("download", job_id, "tensorboard", "student.pt", "--out", tmp_path, "--json")

    assert (done.code, [item["name"] for item in done.json]) == (0, ["student.pt", "tensorboard"])
    with zipfile.ZipFile(tmp_path / "tensorboard.zip") as file:
        file.extractall(tmp_path / "logs")
    assert records.scalars(tmp_path / "logs")["student/val/mAP50-95"] == {1: 0.01, 2: 0.02}


def test_an_artifact_that_is_not_there_is_told_with_what_is(served: Retort, submitted: Submitted, tmp_path: Path):
    job_id = submitted("finish", 1)
    served("wait", job_id, "--timeout", 30)

    refused = served("download", job_id, "student.onnx", "--out", tmp_path)

    assert refused.code == 4
    assert "student.pt" in refused.err
    assert not list(tmp_path.iterdir())


def test_a_service_that_is_not_there_is_one_clear_line(retort: Retort):
    told = retort("ls", "--url", "http://127.0.0.1:9")

    assert told.code == 4
    assert told.err.startswith("error: no answer from http://127.0.0.1:9")
    assert "retort up" in told.err
