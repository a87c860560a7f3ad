"""Each file of the annotation corpus gives the right boxes, or a refusal with file, place and remedy."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml
from core.data import annotation_corpus as corpus
from core.data.annotation_corpus import AnnotationCase, BoxShares
from core.review import export_corpus
from retort.data import datasets
from retort.data.conversion.convert import locate_converted
from retort.data.datasets import Dataset, overlay
from retort.errors import DataError

Files = Callable[[AnnotationCase], Mapping[str, str | bytes | None]]
GROUPS: dict[str, tuple[list[AnnotationCase], Files]] = {
    "yolo": ([*corpus.yolo()], corpus.yolo_set),
    "coco": ([*corpus.coco_documents()], corpus.coco_set),
    "other": ([*corpus.other_tools()], corpus.other_set),
    "voc": ([*corpus.voc()], corpus.voc_set),
}
CASES = [pytest.param(group, case, id=f"{group}-{case.name}") for group, (cases, _) in GROUPS.items() for case in cases]


def located(root: Path, job: Path) -> Dataset:
    """Find the data set as a job does."""
    found = locate_converted(str(root), [root], job / "converted")
    return found or datasets.locate(str(root), [root], most_missing=0.5)


def taught(found: Dataset, image: Path, job: Path) -> list[BoxShares]:
    """Return the boxes in the file that Ultralytics is given for an image, read by nothing of ours."""
    laid = overlay(found, job / "laid")
    names = yaml.safe_load(laid.read_text())["names"]
    split = "train" if image in {path.resolve() for path in found.train} else "val"
    stem = next(path.stem for path in (laid.parent / "images" / split).iterdir() if path.resolve() == image)
    label = laid.parent / "labels" / split / f"{stem}.txt"
    boxes = []
    for line in label.read_text(encoding="utf-8-sig").splitlines() if label.exists() else ():
        if line.strip():
            number, x, y, width, height = map(float, line.split())
            boxes.append((names[int(number)], x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    return [*dict.fromkeys(boxes)]  # Ultralytics removes equal ones


def near(boxes: tuple[BoxShares, ...]) -> list[tuple[object, ...]]:
    return [(name, *(pytest.approx(side, abs=1e-6) for side in sides)) for name, *sides in boxes]


@pytest.mark.parametrize(("group", "case"), CASES)
def test_a_file_gives_the_right_boxes_or_a_refusal_with_file_place_and_remedy(
    tmp_path: Path, group: str, case: AnnotationCase
):
    corpus.write(GROUPS[group][1](case), tmp_path / "set")

    if not case.told:
        image = (tmp_path / "set" / case.image).resolve()
        assert taught(located(tmp_path / "set", tmp_path), image, tmp_path) == near(case.boxes)
        return
    with pytest.raises(DataError) as caught:
        located(tmp_path / "set", tmp_path)
    assert case.told in caught.value.message
    assert Path(case.file).stem in caught.value.message
    assert re.search(r":\d+: |line \d+|has no (categories|images)|is looked for at", caught.value.message)
    assert caught.value.hint


def test_the_corpus_is_as_large_as_it_is_told_to_be():
    numbers = {group: len(cases) for group, (cases, _) in GROUPS.items()} | {
        group: len(list(make())) for group, make in export_corpus.GROUPS.items()
    }
    assert sum(numbers.values()) >= 120, numbers


def test_the_documentation_counts_the_corpora_as_they_are():
    told = {group: [bool(case.told) for case in cases] for group, (cases, _) in GROUPS.items()}
    told |= {form: [bool(case.told) for case in make()] for form, make in export_corpus.GROUPS.items()}
    titles = {
        "yolo": "YOLO label files", "coco": "COCO JSON", "voc": "Pascal VOC XML", "cvat": "CVAT's XML",
        "label_studio": "Label Studio's JSON", "other": "own forms", None: "together",
    }  # fmt: skip
    counted = {name: (len(told[name]), told[name].count(False), told[name].count(True)) for name in told}
    page = (Path(__file__).parents[3] / "docs" / "annotations.md").read_text()
    for name, title in titles.items():
        numbers = counted[name] if name else tuple(map(sum, zip(*counted.values(), strict=True)))
        row = " \\| ".join(map(str, numbers))
        assert re.search(rf"\| [^|\n]*{title}[^|\n]* \| {row} \|", page), (title, numbers)
