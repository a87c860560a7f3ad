"""A run whose data changes under it ends with a word."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from core.runs import document, start
from retort.data.prepare import prepare
from retort.data.verification import verify
from retort.errors import DataChanged
from retort.protocol import journal
from retort.protocol.events import ArtifactEvent, FailedEvent, StageEvent
from retort.settings import Settings
from retort.spec import parse_spec
from support.checkpoints import checkpoint


def spoil(image: Path) -> None:
    """Change the picture, and neither its name nor its size."""
    data = bytearray(image.read_bytes())
    data[-20] ^= 1
    image.write_bytes(data)


def test_data_that_changed_before_the_first_stage_ends_the_run_as_data_changed(tmp_path: Path):
    work = tmp_path / "work"
    prepare(parse_spec(document(tmp_path)), Settings(home=tmp_path, fetch_weights=False), work, attempt=1, device="cpu")
    spoil(tmp_path / "data/images/val/0.png")
    command = [sys.executable, "-m", "retort.run", str(work / "spec.json"), str(work), "--foreground"]
    assert subprocess.run(command, cwd=work, capture_output=True, check=False).returncode == 1
    last = journal.read(work / "journal-1.jsonl")[0][-1]
    assert isinstance(last, FailedEvent)
    assert last.failure.code == "data_changed"
    assert not last.failure.retryable
    assert "images/val/0.png has changed" in last.failure.message


def test_weights_that_change_between_intake_and_the_first_stage_end_the_run_too(tmp_path: Path):
    for name in ("teacher.pt", "start.pt"):
        (tmp_path / "models").mkdir(exist_ok=True)
        (tmp_path / "models" / name).write_bytes(checkpoint((), note=name))
    document_of_two = document(
        tmp_path, teacher={"weights": "teacher.pt"}, student={"model": "yolov8n", "weights": "start.pt"}
    )
    work = tmp_path / "work"
    settings = Settings(home=tmp_path, fetch_weights=False)
    inputs = prepare(parse_spec(document_of_two), settings, work, attempt=1, device="cpu")
    (tmp_path / "models/start.pt").unlink()
    verify(work)
    inputs.weights["start.pt"].write_bytes(b"other")
    with pytest.raises(DataChanged, match=r"start\.pt has changed"):
        verify(work)


@pytest.mark.train
def test_data_that_changes_while_a_network_trains_ends_the_run_before_anything_is_published(tmp_path: Path):
    running = start(tmp_path, document(tmp_path))
    running.until(lambda event: isinstance(event, StageEvent) and event.stage == "train_teacher")
    spoil(tmp_path / "data/images/train/0.png")
    running.wait()
    last = running.said()[-1]
    assert isinstance(last, FailedEvent), running.log()
    assert last.failure.code == "data_changed"
    assert not any(isinstance(event, ArtifactEvent) for event in running.said())
