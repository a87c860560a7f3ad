"""What people see on a terminal of 80 columns and of 200, in a real pseudo-terminal, and what pipes get."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.commands import Retort, environment
from retort.errors import UNPRINTABLE
from support.terminal import Shown, in_terminal

Submitted = Callable[[str, int], str]
COMMAND = [sys.executable, "-m", "retort.cli"]


@pytest.fixture
def shown(service: str, key: str, tmp_path: Path) -> Callable[..., Shown]:
    """Run a command in a terminal."""

    def run(*arguments: str, **about: object) -> Shown:
        more = about.pop("env", {})
        assert isinstance(more, dict)
        given = {**environment(url=service, key=key), "XDG_STATE_HOME": str(tmp_path), "BROWSER": "", "DISPLAY": ""}
        return in_terminal([*COMMAND, *arguments], {**given, **more}, **about)  # type: ignore[arg-type]

    return run


@pytest.mark.parametrize("columns", [80, 200])
def test_watch_is_read_whole_and_ends_with_the_verdict_the_report_and_the_next_command(
    shown: Callable[..., Shown], served: Retort, submitted: Submitted, columns: int
):
    job_id = served("clone", submitted("edge-student", 24), "--json").json["id"]
    seen = shown("watch", job_id, columns=columns)

    assert seen.code == 0
    assert max(map(len, seen.lines)) <= columns
    assert "No difference is shown, says the one judge." in seen.text
    assert re.search(r"student +yolov8n +0\.4500 +0\.4500", seen.text)
    assert f"/jobs/{job_id}/report" in seen.text.replace("\n", "")
    assert f"/jobs/{job_id}" in seen.lines[0] + seen.lines[1], "the page, before anything is trained"
    assert seen.lines[-2] == f"next: retort download {job_id[-12:]} --out edge-student"
    assert "\N{HORIZONTAL ELLIPSIS}" not in seen.text
    assert "saved" not in seen.text


def test_the_board_shows_the_epoch_the_figures_and_the_course_of_the_student(
    shown: Callable[..., Shown], submitted: Submitted
):
    seen = shown("watch", submitted("train", 60))

    assert seen.code == 0
    assert re.search(r"student +60 of 60 +0\.5000 +0\.0006 +0\.0167", seen.text)
    assert re.search(r"student's mAP50-95 +▁[▁▂▃▄▅▆▇█]+█ +best 0\.0006 at epoch 60", seen.text)


def test_watch_says_why_a_retry_waits_and_what_a_review_needs(served: Retort, submitted: Submitted):
    retried = served("watch", submitted("flaky", 2))
    assert retried.code == 0
    assert re.search(r"waits: attempt 1 failed: bad luck \[unlucky\]; tried again at \d\d:\d\d:\d\d", retried.out)
    job_id = submitted("review", 2)
    waits = served("watch", job_id)
    served("cancel", job_id)
    assert waits.code == 5
    assert "retort review sheet" in waits.err
    assert re.search(r"next: retort review complete [0-9a-f]{12}$", waits.err.strip())


def test_top_shows_jobs_queue_and_workers_and_ends_by_ctrl_c(
    shown: Callable[..., Shown], served: Retort, submitted: Submitted
):
    first, second = submitted("wait", 1), submitted("wait", 1)
    stops: list[signal.Signals] = [signal.SIGINT]
    seen = shown("top", "--every", "0.2", answers=lambda raw: stops.pop() if stops and "CPU" in raw else None)
    for job_id in (first, second):
        served("cancel", job_id)

    assert seen.code == 0
    assert "1 running, 1 queued" in seen.text
    assert re.search(rf"{second[-12:]} +wait +queued .*next in the queue", seen.text)
    assert re.search(r"CPU +1 of 1", seen.text)
    assert max(map(len, seen.lines)) <= 80


def test_a_pipe_gets_one_picture_without_a_single_command_to_a_terminal(served: Retort, submitted: Submitted):
    submitted("finish", 1)
    for told in (served("top"), served("ls"), served("compare", submitted("finish", 2), "@last~1")):
        assert told.code == 0
        assert not UNPRINTABLE.findall(told.out.replace("\n", ""))


def test_colour_that_is_forced_into_a_pipe_moves_no_cursor(service: str, key: str, submitted: Submitted):
    given = {**environment(url=service, key=key), "FORCE_COLOR": "1"}
    done = subprocess.run(
        [*COMMAND, "watch", submitted("finish", 2)], env=given, capture_output=True, text=True, check=True
    )

    assert "succeeded" in done.stdout
    assert not UNPRINTABLE.findall(re.sub(r"\x1b\[[0-9;]*m|\n", "", done.stdout))


def test_documents_are_one_for_a_question_and_one_a_line_for_a_follower(served: Retort, submitted: Submitted):
    job_id = submitted("finish", 3)
    followed = served("watch", job_id, "--json").out.splitlines()
    assert [json.loads(line) for line in followed][-1]["state"] == "succeeded"
    once = served("top", "--once", "--json").json
    assert {"jobs", "ended", "workers", "url", "trouble"} == set(once)
    assert once["ended"][0]["id"] == job_id


def test_open_prints_the_address_into_a_pipe_and_a_link_on_a_terminal_without_browser(
    shown: Callable[..., Shown], served: Retort, service: str, submitted: Submitted
):
    job_id = submitted("finish", 1)
    assert served("open", job_id).out == f"{service}/jobs/{job_id}\n"
    assert served("open", "--json").json == {"url": f"{service}/", "link": None}
    seen = shown("open", job_id, columns=200)
    assert seen.lines[0].startswith(f"{service}/login?next=/jobs/{job_id}#rtl_")
    assert "once, within ten minutes" in seen.text


def test_open_starts_the_browser_with_a_link_that_logs_in_and_does_not_print_the_secret(
    shown: Callable[..., Shown], service: str, submitted: Submitted, tmp_path: Path
):
    browser = tmp_path / "browser.sh"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/address\n')
    browser.chmod(0o755)
    job_id = submitted("finish", 1)
    seen = shown("open", job_id, columns=200, env={"BROWSER": str(browser)})

    assert (tmp_path / "address").read_text().startswith(f"{service}/login?next=/jobs/{job_id}#rtl_")
    assert seen.lines == [f"{service}/jobs/{job_id}", ""]
