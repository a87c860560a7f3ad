"""``retort datasets`` and ``retort submit --push``, against a whole service."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli.commands import Retort
from support.worker_harness import write_dataset


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_dataset(tmp_path)
    return (tmp_path / "data").rename(tmp_path / "bccd")


def test_a_folder_is_pushed_shown_and_deleted(served: Retort, folder: Path):
    pushed = served("datasets", "push", folder, "--name", "cells")
    reference = pushed.out.strip()
    assert (pushed.code, reference.partition("@")[0]) == (0, "dataset:cells"), pushed.err
    assert "warning" in pushed.err, "what is doubtful is told"
    digits = reference.rpartition(":")[2][:12]

    (shown,) = [one for one in served("datasets", "list", "--json").json if one["name"] == "cells"]
    assert (shown["reference"], shown["state"]) == (reference, "ready")
    assert f"cells@{digits}" in served("datasets", "list").out
    assert "thing: 1 train, 1 val" in served("datasets", "show", "cells").out
    assert served("datasets", "show", f"cells@{digits}", "--json").json["classes"] == ["thing"]
    assert served("datasets", "push", folder, "--name", "cells").out.strip() == reference, "again is harmless"

    assert served("datasets", "rm", f"cells@{digits}").code == 0
    gone = served("datasets", "show", f"cells@{digits}")
    assert (gone.code, "there is no dataset" in gone.err) == (4, True)


def test_submit_sends_the_folder_of_the_data_along(served: Retort, folder: Path, tmp_path: Path):
    done = served(
        "submit", "--data", folder, "--teacher", "yolo11s.pt", "--set", "name=pushed", "--push", "--json"
    )  # fmt: skip
    assert done.code == 0, done.err
    job = done.json
    assert job["spec"]["data"]["dataset"].startswith("dataset:bccd@sha256:")
    assert job["spec"]["data"]["path"] is None
    needed = served("datasets", "rm", job["spec"]["data"]["dataset"])
    assert (needed.code, job["id"] in needed.err) == (4, True), "a spec names it"
    missing = served("submit", "--data", tmp_path / "none", "--teacher", "yolo11s.pt", "--push")
    assert (missing.code, "not on this machine" in missing.err) == (4, True)


def test_a_broken_dataset_is_refused_with_file_and_line(served: Retort, folder: Path):
    (folder / "labels" / "train" / "one.txt").write_text("0 0.5 0.5 0.2\n")
    refused = served("datasets", "push", folder, "--name", "broken")
    assert (refused.code, "labels/train/one.txt:1" in refused.err) == (4, True)
