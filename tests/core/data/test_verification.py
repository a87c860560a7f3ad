"""A job's data stay what intake saw: labels are copies, and images that change are noticed."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path

import pytest
from core.data.test_datasets import ANYWHERE, add, describe
from PIL import Image
from retort.data import datasets, verification
from retort.data.datasets import Dataset
from retort.data.labels import copy_labels
from retort.data.verification import record, verify
from retort.errors import DataChanged
from retort.images import jpeg_end


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(3):
        for split in ("train", "val"):
            add(tmp_path / "set", f"images/{split}/{number}.png", color=number + 10 * (split == "val"))
    describe(tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture
def dataset(root: Path, tmp_path: Path) -> Dataset:
    """The set, as an intake into the folder *tmp_path* has seen it."""
    found = datasets.locate(str(root), ANYWHERE)
    record(found.records, tmp_path)
    return found


def test_labels_that_are_edited_after_intake_do_not_reach_a_running_job(root: Path, dataset: Dataset, tmp_path: Path):
    laid = datasets.overlay(dataset, tmp_path / "laid").parent
    label = root / "labels/train/0.txt"
    before = label.read_text()
    label.write_text("1 0.1 0.1 0.1 0.1\n")
    assert (laid / "labels/train/0.txt").read_text() == before
    assert not (laid / "labels/train/0.txt").is_symlink()


def test_a_label_that_changes_between_the_check_and_the_copy_is_noticed(root: Path, dataset: Dataset, tmp_path: Path):
    (root / "labels/train/0.txt").write_text("1 0.1 0.1 0.1 0.1\n")
    with pytest.raises(DataChanged, match=r"labels/train/0\.txt has changed"):
        copy_labels(root / "labels/train/0.txt", tmp_path / "0.txt", dataset.label_digests[dataset.train[0]], 2)
    (root / "labels/train/0.txt").unlink()
    with pytest.raises(DataChanged, match="and is gone"):
        copy_labels(root / "labels/train/0.txt", tmp_path / "0.txt", dataset.label_digests[dataset.train[0]], 2)


@pytest.mark.parametrize("kept", [False, True], ids=["other time", "same time"])
def test_an_image_of_the_same_size_with_other_content_is_noticed_and_named(
    root: Path, dataset: Dataset, tmp_path: Path, *, kept: bool
):
    image = root / "images/val/1.png"
    before = image.stat()
    data = bytearray(image.read_bytes())
    data[-20] ^= 1
    image.write_bytes(data)
    if kept:
        os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert str(image) in {seen.path for seen in dataset.records}
    with pytest.raises(DataChanged, match=r"images/val/1\.png has changed since the job read it$") as caught:
        verify(tmp_path)
    assert caught.value.code == "data_changed"
    assert not caught.value.retryable


@pytest.mark.parametrize("change", ["longer", "removed", "folder"])
def test_an_image_that_grew_or_is_gone_is_noticed(root: Path, dataset: Dataset, tmp_path: Path, change: str):
    image = dataset.train[0]
    if change == "longer":
        image.write_bytes(image.read_bytes() + b"\0")
    elif change == "removed":
        image.unlink()
    else:
        shutil.rmtree(root)
    with pytest.raises(DataChanged, match="more" if change == "folder" else "has changed"):
        verify(tmp_path)


def test_an_image_that_was_only_touched_is_no_other_and_is_read_once(dataset: Dataset, tmp_path: Path):
    os.utime(dataset.train[0], ns=(0, 12345))
    verify(tmp_path)
    kept = json.loads((tmp_path / verification.FILE).read_text())
    assert kept[0][2] == 12345
    verify(tmp_path)


def test_labels_that_are_edited_during_a_job_are_known_at_its_end_by_their_names(
    root: Path, dataset: Dataset, tmp_path: Path
):
    record(dataset.label_records(), tmp_path, verification.COPIED)
    assert verification.changed_files(tmp_path, verification.COPIED) == []
    (root / "labels/train/0.txt").write_text("1 0.1 0.1 0.1 0.1\n")
    assert verification.changed_files(tmp_path, verification.COPIED) == [str(root / "labels/train/0.txt")]
    verify(tmp_path)  # the job reads its copies, so it goes on


def test_a_folder_without_a_record_has_nothing_to_verify(tmp_path: Path):
    verify(tmp_path)


def _jpeg(**options: object) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((64, 48), 80).convert("RGB").save(buffer, "JPEG", **options)
    return buffer.getvalue()


JPEGS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 1},
    "comment": {"comment": b"\xff\xd9 is in here, and \xff\xda"},
}


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("more", [b"\0", b"\0" * 4096, b"SEFH\xff\xd9phone", b"\xff"])
def test_a_jpeg_with_bytes_behind_its_end_is_laid_out_as_its_own_image(
    tmp_path: Path, root: Path, kind: str, more: bytes
):
    whole = _jpeg(**JPEGS[kind])
    given = root / "images/train/0.png"  # what counts is the content
    given.write_bytes(whole + more)
    before = given.read_bytes(), given.stat().st_mtime_ns
    laid = datasets.overlay(datasets.locate(str(root), ANYWHERE), tmp_path / "laid").parent / "images/train/0.png"
    assert laid.read_bytes() == whole
    assert (given.read_bytes(), given.stat().st_mtime_ns) == before


@pytest.mark.parametrize("kind", JPEGS)
def test_the_end_of_a_jpeg_is_its_own_and_not_that_of_what_is_inside(kind: str):
    whole = _jpeg(**JPEGS[kind])
    assert jpeg_end(whole) == len(whole)
    assert jpeg_end(whole + whole) == len(whole)
    assert jpeg_end(whole[: len(whole) // 2]) is None
    assert jpeg_end(b"\x89PNG") is None
