"""Mistakes on validation images are counted by class and size, and the worst images are kept first."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image
from retort.report import mistakes
from retort.report.mistakes import ImageBoxes, gather
from retort.report.samples import DrawnBox
from retort.spec.mistakes import Confusion, Mistakes, OutcomeCounts

SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
NAMES = ("red", "blue")
LARGE, MEDIUM, SMALL = (0.0, 0.0, 100.0, 120.0), (200.0, 10.0, 250.0, 60.0), (300.0, 200.0, 310.0, 220.0)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for path in paths:
        Image.new("RGB", (640, 320), "grey").save(path)
    return paths


def student(pictures: list[Path]) -> list[ImageBoxes]:
    """Nothing wrong; a miss and a wrong one; a box of the wrong class; a wrong one that is hardly certain."""
    return [
        ImageBoxes(pictures[0], [DrawnBox(LARGE, 0)], [DrawnBox(LARGE, 0, 0.9)]),
        ImageBoxes(pictures[1], [DrawnBox(SMALL, 0)], [DrawnBox(MEDIUM, 0, 0.8)]),
        ImageBoxes(pictures[2], [DrawnBox(MEDIUM, 0)], [DrawnBox(MEDIUM, 1, 0.95)]),
        ImageBoxes(pictures[3], [], [DrawnBox(SMALL, 1, 0.3)]),
    ]


def made(pictures: list[Path]) -> Mistakes:
    found = student(pictures)
    perfect = [
        ImageBoxes(one.path, one.labels, [DrawnBox(box.box, box.class_id, 0.9) for box in one.labels]) for one in found
    ]
    return gather({"student": found, "teacher": perfect}, NAMES, SIZES)


def test_every_box_of_every_image_is_counted_by_class_and_by_size(pictures: list[Path]):
    told = made(pictures)
    ours = told.networks["student"]
    assert (told.num_images, told.num_mistaken) == (4, 3)
    assert ours.total == OutcomeCounts(found=1, wrong=3, missed=2)
    assert ours.per_class == {"red": OutcomeCounts(found=1, wrong=1, missed=2), "blue": OutcomeCounts(wrong=2)}
    assert ours.by_size == {
        "small": OutcomeCounts(wrong=1, missed=1), "medium": OutcomeCounts(wrong=2, missed=1),
        "large": OutcomeCounts(found=1),
    }  # fmt: skip
    assert ours.confusions == (Confusion(label="red", seen="blue", number=1),)
    assert told.networks["teacher"].total == OutcomeCounts(found=3)


def test_the_worst_images_come_first_with_their_boxes_and_a_small_copy(pictures: list[Path]):
    told = made(pictures)
    assert [one.file for one in told.images] == ["2.png", "1.png", "3.png"]
    assert [one.cost for one in told.images] == [1.95, 1.8, 0.3]
    first = told.images[0]
    assert {(box.outcome, box.name, box.score) for box in first.boxes} == {
        ("wrong", "blue", 0.95),
        ("missed", "red", None),
    }
    assert {(box.x1, box.y2) for box in first.boxes} == {(200 / 640, 60 / 320)}
    assert first.networks["teacher"] == OutcomeCounts(found=1)
    with Image.open(io.BytesIO(base64.b64decode(first.jpeg))) as copy:
        assert copy.size == (first.width, first.height) == (480, 240)


def test_the_worst_of_a_rare_class_are_kept_beside_the_worst_of_all(
    pictures: list[Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(mistakes, "MOST_IMAGES", 1)
    monkeypatch.setattr(mistakes, "MOST_OF_A_CLASS", 1)
    many = [ImageBoxes(pictures[1], [DrawnBox(LARGE, 0)], []) for _ in range(5)]
    rare = ImageBoxes(pictures[3], [], [DrawnBox(SMALL, 1, 0.3)])
    told = gather({"student": [*many, rare]}, NAMES, SIZES)
    assert [one.file for one in told.images] == ["1.png", "3.png"]
    assert told.networks["student"].total == OutcomeCounts(wrong=1, missed=5)
