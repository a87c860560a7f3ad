"""A training reads the labels that were checked, and goes on only with the data that it began with."""

from __future__ import annotations

from pathlib import Path

import pytest
from core.test_run_data import spoil
from core.training.pictures import draw
from retort.data import datasets
from retort.training.checkpoint import data_identity
from retort.training.ultralytics_api import check_det_dataset
from ultralytics.data.utils import verify_image_label


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


POLYGONS = (
    "0 0.1 0.1 0.35 0.1 0.35 0.4",
    "1 0.5 0.5 0.9 0.52 0.7 0.97 0.501 0.8",
    "0 0.1 0.1 0.35 0.1 0.35 0.4",
    "1 0.123456789 0.2 0.3 0.987654321 0.111 0.5 0.2 0.2 0.25 0.3",
)


def test_polygons_become_the_boxes_that_ultralytics_makes_of_them_and_are_counted(tmp_path: Path) -> None:
    root = draw(tmp_path / "set", num_train=2, num_val=1).parent
    label = root / "labels/train/1.txt"
    label.write_text("\n".join(POLYGONS))
    given = verify_image_label((str(root / "images/train/1.png"), str(label), "", False, 2, 0, 0, False))
    found = datasets.locate(str(root), (tmp_path,))
    assert found.warnings[-1] == "polygons that become the boxes around them: 4 (as Ultralytics reads them)"
    laid = datasets.overlay(found, tmp_path / "overlay").parent / "labels/train/1.txt"
    ours = verify_image_label((str(root / "images/train/1.png"), str(laid), "", False, 2, 0, 0, False))
    assert sorted(ours[1].tolist()) == [pytest.approx(row, abs=1e-6) for row in sorted(given[1].tolist())]
    assert len(ours[1]) == 3
