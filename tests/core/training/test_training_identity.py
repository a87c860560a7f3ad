"""A training goes on only with the very data that it began with."""

from __future__ import annotations

from pathlib import Path

from core.test_run_data import spoil
from core.training.pictures import draw
from retort.data import datasets
from retort.training.checkpoint import data_identity
from retort.training.ultralytics_api import check_det_dataset


def test_a_resume_tells_images_apart_that_have_equal_names_and_sizes(tmp_path: Path):
    draw(tmp_path / "set", num_train=3, num_val=2)

    def identity(folder: str) -> str:
        dataset = datasets.locate(str(tmp_path / "set"), (tmp_path,))
        return data_identity(check_det_dataset(str(datasets.overlay(dataset, tmp_path / folder))))

    first = identity("first")
    assert identity("again") == first
    laid = tmp_path / "first/images/train/0.png"
    laid.unlink()
    laid.write_bytes(b"written anew by Ultralytics, with another size")
    data = check_det_dataset(str(tmp_path / "first/data.yaml"))
    assert data_identity(data) == first
    image = tmp_path / "set/images/train/1.png"
    size = image.stat().st_size
    spoil(image)
    assert image.stat().st_size == size
    assert identity("changed") != first
