"""The commands that delete, restore, pin, count and prune, against a real service."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cli.commands import Retort

Submitted = Callable[[str, int], str]


def test_a_job_is_deleted_restored_pinned_and_counted(served: Retort, submitted: Submitted, tmp_path: Path):
    job_id = submitted("finish", 1)
    refused = served("delete", job_id, "--json")
    assert refused.code == 0 or refused.error["code"] == "wrong_state"
    served("wait", job_id, "--timeout", 60)

    assert served("keep", job_id).out == f"{job_id} is pinned\n"
    assert served("delete", job_id, "--json").error["code"] == "wrong_state"
    assert served("keep", job_id, "--off").out == f"{job_id} is not pinned\n"

    assert served("delete", job_id).out == f"{job_id} is deleted\n"
    assert job_id not in served("ls", "--json").out
    assert served("restore", job_id, "--json").json == [{"name": job_id, "state": "restored"}]
    assert job_id in served("ls", "--json").out

    names = (
        [path.name for path in tmp_path.iterdir()] if served("download", job_id, "--out", tmp_path).code == 0 else []
    )
    assert "run.log" in names
    assert served("delete", f"{job_id}/run.log").code == 0
    assert served("download", job_id, "run.log", "--out", tmp_path, "--json").error["code"] == "artifact_not_found"
    assert served("restore", f"{job_id}/run.log").code == 0

    usage = served("usage", "--json").json
    assert sum(one["size_bytes"] for one in usage["stored"]) > 0
    assert "jobs: " in served("usage").out


def test_what_names_nothing_is_told_how_it_is_written(served: Retort):
    assert "NAME@DIGEST" in served("delete", "model:x@y").err
    assert served("delete", "no-such-job", "--json").error["code"] == "job_not_found"


def test_pruning_with_nothing_to_take_says_so_and_a_dry_run_takes_nothing(served: Retort):
    told = served("prune", "--dry-run")
    assert told.code == 0
    assert "went" not in told.out
    assert served("prune", "--json").json[-1]["done"] is True
