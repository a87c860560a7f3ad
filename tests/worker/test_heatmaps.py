"""A training's maps are there while it runs, and no job fails over one that cannot be stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from retort.constants import HEATMAPS, Role
from retort.protocol.events import ArtifactEvent
from retort.storage import Store
from retort_worker.uploader import ArtifactUploader

PATIENCE_S = 60.0


@pytest.fixture
def uploader(tmp_path: Path) -> Iterator[ArtifactUploader]:
    (tmp_path / "work").mkdir()
    with closing(ArtifactUploader(Store(f"file://{tmp_path / 'store'}"), tmp_path / "work", "job_1", 1)) as made:
        yield made


def sheet(epoch: int) -> ArtifactEvent:
    name = f"{HEATMAPS}epoch-{epoch:04d}.jpg"
    about = {"epoch": epoch, "width": 640, "height": 178}
    return ArtifactEvent(n=epoch, at=0.0, name=name, role=Role.STUDENT, path=f"{epoch}.jpg", metadata=about)


def test_a_map_is_announced_at_once_and_another_artifact_at_the_end(uploader: ArtifactUploader, tmp_path: Path):
    (tmp_path / "work" / "1.jpg").write_bytes(b"a sheet")
    uploader.on_event(sheet(1))
    uploader.on_event(sheet(1).model_copy(update={"name": "student.pt"}))
    uploader.wait(PATIENCE_S)

    [announced] = uploader.pending().artifacts
    assert (announced.name, announced.metadata["epoch"]) == (f"{HEATMAPS}epoch-0001.jpg", 1)
    assert {one.name for one in uploader.uploaded()} == {announced.name, "student.pt"}


def test_a_map_that_cannot_be_stored_is_told_and_fails_no_job(uploader: ArtifactUploader):
    uploader.on_event(sheet(2))
    uploader.wait(PATIENCE_S)

    assert uploader.failure() is None
    assert [one.name for one in uploader.lost()] == [f"storage of {HEATMAPS}epoch-0002.jpg"]
