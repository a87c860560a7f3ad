"""How jobs, events and results look."""

from __future__ import annotations

from typing import Any

import pytest
from results import result
from retort.cli import render
from rich.console import Console


def drawn(renderable: object) -> str:
    console = Console(width=120, no_color=True)
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


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3600, "1:00:00"), (None, "")]
)
def test_durations_are_for_people(seconds: float | None, text: str):
    assert render.duration(seconds) == text


def test_moments_are_read_in_both_of_their_forms():
    assert render.clock("1970-01-01T00:00:05Z") == render.clock(5.0)
