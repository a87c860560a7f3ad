"""How jobs, events and results look."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from pydantic import TypeAdapter
from results import result
from retort.cli import options, render
from retort.errors import UserError
from retort.spec.exported import AnyExport
from retort.spec.result import parse_result
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from stored_results import EXPORTS, advice, candidate, worth


def drawn(renderable: object, width: int = 120) -> str:
    console = Console(width=width, no_color=True)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_the_table_puts_teacher_student_and_control_side_by_side():
    text = drawn(render.result_table(result(0.5, 0.4, 0.3)))

    assert [line.split()[0] for line in text.splitlines()[1:]] == ["teacher", "student", "control"]
    for told in ("0.5000", "0.4000", "3,007,598", "6.2 MB", "8.2 ms"):
        assert told in text


def test_the_verdict_that_was_stored_is_told_word_by_word_with_its_caveats():
    told = " ".join(drawn(part) for part in render.result_parts(result(0.5, 0.4, 0.3)))

    assert "No difference is shown, says the one judge." in told
    assert "- One seed is no proof." in told


def test_what_the_teacher_could_be_worth_stands_class_by_class_beside_what_it_was_and_fits_80_columns():
    parts = render.result_parts(result(0.6, 0.45, 0.4, worth=worth(gained=0.05)))
    told = "".join(drawn(part, 80) for part in parts).splitlines()

    assert [line.split() for line in told if line.startswith(("red", "mean"))] == [
        ["red", "0.6000", "0.4000", "+20.0", "+5.0"], ["mean", "+20.0", "+5.0"],
    ]  # fmt: skip
    assert "At most +0.2, by control." in told
    assert max(map(len, told)) <= 80


def test_of_many_classes_those_in_which_the_teacher_leads_most_are_shown_and_the_others_counted():
    classes = {
        f"class {n}": {"teacher": 0.5, "plain": 0.5 - n / 100, "most": n / 100, "gained": 0.0} for n in range(14)
    }
    parts = render.result_parts(result(worth=worth(gained=0.05, per_class=classes)))
    told = "".join(drawn(part) for part in parts)

    assert "class 13" in told
    assert "class 3 " not in told
    assert "mean, 4 more" in told


def test_advice_says_what_each_candidate_can_be_worth_and_what_the_student_reached_alone():
    plain = {"epochs": 5, "map50": 0.5, "map": 0.3, "per_class": {}}
    given = advice(candidate(worth=worth("fit", epochs=5)), candidate("old.pt", worth=None))
    told = drawn(render.result_parts(parse_result({**given, "student": {**given["student"], "plain": plain}}))[0], 160)

    lines = told.splitlines()
    assert "worth at most" in lines[0]
    assert [("+20.0" in line, line.split()[0]) for line in lines[2:]] == [
        (False, "student,"), (True, "yolo11s"), (False, "old"),
    ]  # fmt: skip
    assert "0.3000" in lines[2]


def test_a_result_from_before_verdicts_is_given_none_now():
    told = " ".join(drawn(part) for part in render.result_parts(result(0.5, 0.4, 0.3, verdict=None)))

    assert "from before a verdict was kept" in told
    assert "0.1000" not in told


@pytest.mark.parametrize(
    ("event", "told"),
    [
        ({"type": "progress", "at": 0.0, "data": {"progress": 0.5}}, None),
        ({"type": "stage", "at": 0.0, "data": {"stage": "distill"}}, "stage       distill"),
        ({"type": "log", "at": 0.0, "level": "warning", "message": "few images"}, "log         warning: few images"),
        (
            {
                "type": "health",
                "at": 0.0,
                "level": "error",
                "message": "it rose",
                "data": {
                    "rule": "loss_exploding",
                    "verdict": "critical",
                    "epoch": 3,
                    "cause": "Too fast.",
                    "advice": "Slow.",
                },
            },
            "health      error: loss_exploding, epoch 3: it rose. Too fast. Slow.",
        ),
        (
            {"type": "metric", "at": 0.0, "data": {"role": "student", "step": 2, "values": {"val/mAP50": 0.5}}},
            "metric      student epoch 2  mAP50 0.5000",
        ),
    ],
)
def test_an_event_is_a_line_unless_it_says_nothing_to_people(event: dict[str, Any], told: str | None):
    line = render.event_line(event)

    assert line is None if told is None else line and line.endswith(told)


def test_the_internal_record_of_what_is_saved_is_not_shown_to_people():
    assert render.event_line({"type": "saved", "at": 0.0, "data": {"stage": "distill", "epoch": 3}}) is None


def test_epochs_are_told_of_how_many_for_student_and_control_but_not_for_a_teacher():
    def line(role: str) -> str | None:
        event = {"type": "metric", "at": 0.0, "data": {"role": role, "step": 3, "values": {"val/mAP50": 0.5}}}
        return render.event_line(event, 24)

    assert "student epoch 3 of 24  mAP50" in str(line("student"))
    assert "teacher epoch 3  mAP50" in str(line("teacher"))


def test_exports_are_told_beside_what_the_student_has_where_they_are_judged():
    wide = {"shape": [384, 640], "boxes": "nms", "conf": 0.25, "settings": "the CPU in 2 threads"}
    exports = [
        TypeAdapter(AnyExport).validate_python({**EXPORTS["passed"], "base_map": 0.4567, **more}) for more in ({}, wide)
    ]

    assert render.export_notes(exports) == [
        "student.onnx: judged in squares, where the student in PyTorch has 0.4567",
        "student.onnx: judged at 384 by 640, where the student in PyTorch has 0.4567 with NMS at a score of 0.25",
        "student.onnx: run by PyTorch on the CPU in 2 threads",
    ]


METRICS = {
    "val/mAP50": 0.51234, "val/mAP50-95": 0.41234, "train/loss": 1.5, "train/kd_loss": 0.25, "train/box_loss": 2.0,
    "train/kd/class_logits": 0.5, "train/kd/masked_generative": 0.25,
}  # fmt: skip


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_a_narrow_terminal_shows_fewer_columns_and_every_one_whole(width: int):
    console = Console(width=width, no_color=True, force_terminal=True, file=io.StringIO())
    with Live(console=console, auto_refresh=False) as live:
        board = render.Board(live, 100)
        event = {"type": "metric", "data": {"role": "student", "step": 3, "values": METRICS}}
        board.show({"name": "cells", "state": "running", "progress": 0.5}, [event])
        text = drawn(live.renderable, width)

    assert "student  3 of 100" in text
    assert "0.5123" in text
    assert "0.4123" in text
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert max(map(len, text.splitlines())) <= width
    assert ("masked_generative" in text) == (width == 200)


@pytest.mark.parametrize(
    ("job", "told"),
    [
        ({"state": "running", "queue": None}, ""),
        ({"state": "queued", "queue": {"reason": "turn", "ahead": 0}}, "next in the queue"),
        ({"state": "queued", "queue": {"reason": "turn", "ahead": 3}}, "3 jobs before it"),
        (
            {
                "state": "queued",
                "queue": {"reason": "retry", "until": "2026-11-28T10:00:05Z", "message": None},
                "attempts": [{"number": 2, "failure": {"message": "no memory", "code": "out_of_memory"}}],
            },
            "attempt 2 failed: no memory [out_of_memory]; tried again at ",
        ),
        (
            {"state": "queued", "queue": {"reason": "no_worker", "message": "no worker is running"}},
            "no worker is running",
        ),
    ],
    ids=["running", "next", "later", "retry", "no worker"],
)
def test_for_what_a_job_waits_is_told(job: dict[str, Any], told: str):
    assert render.waiting_text(job).startswith(told)
    assert bool(render.waiting_text(job)) == bool(told)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3600, "1:00:00"), (None, "")]
)
def test_durations_are_for_people(seconds: float | None, text: str):
    assert render.duration(seconds) == text


def test_moments_are_read_in_both_of_their_forms():
    assert render.clock("1970-01-01T00:00:05Z") == render.clock(5.0)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_hostile_name_commands_no_terminal(monkeypatch: pytest.MonkeyPatch, capsys: Any, *, terminal: bool):
    monkeypatch.setenv("FORCE_COLOR" if terminal else "NO_COLOR", "1")
    hostile = "a\x1b]0;owned\x07\x9b31m\u202eb"
    table = Table("name")
    table.add_row(hostile)
    render.console().print(Group(table, Text(hostile, style="red")))
    options.say(hostile)
    options.note(hostile)
    options.emit({"name": hostile})
    options.report(UserError(hostile, hint=hostile), as_json=True)

    out, err = capsys.readouterr()
    assert not {"\x07", "\x9b", "\u202e"} & set(out + err)
    assert "\x1b]" not in out + err
    assert out.count("a\\x1b]0;owned") == 3
    assert "a\\x1b]0;owned\\x07\\x9b31m\\u202eb\n" in out
    assert '"name": "a\\u001b]0;owned\\u0007\\u009b31m\\u202eb"' in out
    assert json.loads(err.partition("\n")[2])["error"]["code"] == "bad_request"


def worker(host: str, gpus: int, *devices: tuple[str, str, str | None, str | None]) -> dict[str, Any]:
    keys = ("kind", "name", "product", "refused")
    told = [dict(zip(keys, one, strict=True)) for one in devices]
    since = "2026-01-05T09:00:00Z"
    return {"name": f"{host}:1", "host": host, "slots": 1, "gpus": gpus, "devices": told, "started_at": since}


def test_the_list_of_workers_says_which_of_them_are_drained():
    text = drawn(render.workers_page([{**worker("a", 1), "drained_at": "2026-01-05T09:00:00Z"}, worker("b", 1)]))
    assert [line.split()[1] for line in text.splitlines() if "is drained" in line] == ["a:1"]


def test_the_list_of_workers_says_what_each_trains_on_and_why_it_leaves_a_gpu_alone():
    old = "the driver is too old"
    text = drawn(render.workers_page([
        worker("two", 2, ("gpu", "0", "NVIDIA L4", None), ("gpu", "1", "NVIDIA L4", None), ("gpu", "2", "V100", old)),
        worker("none", 0, ("gpu", "0", None, old), ("cpu", "cpu", None, "not allowed")),
        worker("stands-in", 0, ("gpu", "0", None, old), ("cpu", "cpu", None, None)),
        worker("plain", 0, ("cpu", "cpu", None, None)),
        {key: value for key, value in worker("from-before", 4).items() if key != "devices"},
    ]))  # fmt: skip
    rows = {line.split()[0]: " ".join(line.split()[1:5]) for line in text.splitlines()[1:6]}

    assert rows["two"].startswith("2 x NVIDIA L4")
    assert [rows[host].split()[0] for host in ("none", "stands-in", "plain", "from-before")] == [
        "none",
        "CPU",
        "CPU",
        "4",
    ]
    assert f"GPU 2 (V100) of two is not used: {old}" in text
    assert text.count(old) == 3
