"""``@last`` is the job that a command has made last from this machine, at the service that is asked."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.commands import Retort
from retort.cli import last_jobs
from retort.errors import UserError

URL = "http://127.0.0.1:8000"
IDS = [f"job_{number:032x}" for number in range(300)]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of what is remembered."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "retort" / "jobs"


def test_jobs_are_counted_back_from_the_last_and_one_counts_where_it_was_made_last():
    for one in (0, 1, 0, 2):
        last_jobs.remember(URL, IDS[one])

    assert [last_jobs.recall(URL, text) for text in ("@last", "@last~0", "@last~1", "@last~2")] == [
        IDS[2], IDS[2], IDS[0], IDS[1],
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["@last~1", "@lasting", "@last~", "@last~-1", "@last~x", "@last~99999", "@last\n"])
def test_what_names_no_job_is_refused(text: str):
    last_jobs.remember(URL, IDS[0])
    with pytest.raises(UserError) as refused:
        last_jobs.recall(URL, text)

    assert refused.value.code == "job_not_found"
    assert refused.value.hint


def test_another_service_has_made_other_jobs():
    last_jobs.remember(URL, IDS[0])
    last_jobs.remember("http://localhost:8000", IDS[1])
    last_jobs.remember("https://retort.example.org/", IDS[2])

    assert last_jobs.made(URL) == [IDS[0]]
    assert last_jobs.made("https://retort.example.org") == [IDS[2]]
    with pytest.raises(UserError, match="no job was made from here at http://elsewhere"):
        last_jobs.recall("http://elsewhere", "@last")


def test_the_file_is_nobody_elses_business_and_does_not_grow_for_ever(state: Path):
    for one in IDS * 4:
        last_jobs.remember(URL, one)
    (path,) = state.iterdir()

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_size < 40_000
    assert last_jobs.made(URL)[:2] == [IDS[-1], IDS[-2]]


def test_a_damaged_file_and_a_folder_that_takes_nothing_hinder_no_command(state: Path):
    last_jobs.remember(URL, IDS[0])
    (path,) = state.iterdir()
    path.write_bytes(b"\xff\x00 job_1\njob_" + os.urandom(16) + b"\n" + IDS[1].encode() + b"\n")
    assert last_jobs.made(URL) == [IDS[1]]
    path.unlink()
    path.mkdir()
    last_jobs.remember(URL, IDS[2])
    assert last_jobs.made(URL) == []


def test_every_command_that_makes_a_job_makes_it_the_last(served: Retort, submitted: Callable[[str, int], str]):
    first = submitted("diverged", 1)
    assert served("wait", "@last", "--timeout", 60).code == 1
    again = served("retry", "@last", "--json")
    assert again.code == 0, again.err
    retried = again.json["id"]
    cloned = served("clone", "@last~1").out.strip()

    assert [served("get", text, "--json").json["id"] for text in ("@last", "@last~1", "@last~2")] == [
        cloned, retried, first,
    ]  # fmt: skip
    assert served("get", "@last~9999", "--json").error["code"] == "job_not_found"
    assert served("wait", "@last", "--timeout", 60).code == 1
    assert served("delete", "@last").out == f"{cloned} is deleted\n"
