"""What the student saw after some epochs: a few checkpoints, a few images, a bounded number of boxes."""

from __future__ import annotations

from pathlib import Path

import pytest
from retort.report.sample_epochs import MOST_BOXES, chosen, sampled
from retort.report.samples import DrawnBox
from retort.spec.mistakes import OutcomeCounts


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ([], []), ([7], [7]), ([10, 20, 23], [10, 20, 23]),
        (range(1, 101), [1, 12, 23, 34, 45, 56, 67, 78, 89, 100]), (range(1, 12), [1, 2, 3, 4, 5, 7, 8, 9, 10, 11]),
    ],
    ids=str,
)  # fmt: skip
def test_at_most_ten_checkpoints_are_looked_at_the_first_and_the_last_among_them(
    tmp_path: Path, known: list[int], expected: list[int]
):
    for epoch in known:
        (tmp_path / f"student-epoch-{epoch:04d}.pt").touch()
    (tmp_path / "student-epoch-0001.pt.part").touch()
    (tmp_path / "other.pt").touch()
    found = chosen(tmp_path)
    assert [epoch for epoch, _ in found] == expected
    assert all(int(path.stem[-4:]) == epoch for epoch, path in found)


def test_counts_are_of_all_boxes_and_of_many_the_missed_and_the_most_certain_are_kept():
    box = (-10.0, 20.0, 50.0, 60.0)
    many = [DrawnBox(box, 1, at / 200, "wrong") for at in range(100)]
    marks = [[*many, DrawnBox(box, 0, None, "missed"), DrawnBox(box, 0, 0.9, "found")], []]
    told = sampled(3, marks, [(100, 80), (10, 10)], ["red", "blue"])
    assert (told.epoch, told.total) == (3, OutcomeCounts(found=1, wrong=100, missed=1))
    first, second = told.boxes
    assert (len(first), len(second)) == (MOST_BOXES, 0)
    assert [(one.outcome, one.name, one.score) for one in first[:3]] == [
        ("missed", "red", None), ("found", "red", 0.9), ("wrong", "blue", 0.495),
    ]  # fmt: skip
    assert (first[0].x1, first[0].y1, first[0].x2, first[0].y2) == (0.0, 0.25, 0.5, 0.75), "inside the image"
