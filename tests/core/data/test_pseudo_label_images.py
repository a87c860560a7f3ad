"""Images for a teacher to label: found, named safely, and laid out with the labels that its own are compared with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from core.data.test_datasets import add, describe
from retort.data import datasets, unlabelled
from retort.data.datasets import Dataset
from retort.data.unlabelled import PseudoLabelImages
from retort.errors import DataError, SpecError
from retort.review.models import IMAGE
from retort.spec import PseudoLabelsSpec


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    root = tmp_path / "set"
    for split in ("train", "val"):
        add(root, f"images/{split}/0.png", color=ord(split[0]))
    describe(root)
    return datasets.locate(str(root), (tmp_path,))


def locate(tmp_path: Path, dataset: Dataset, path: str = "new", **wanted: Any) -> PseudoLabelImages:
    return unlabelled.locate_pseudo_label_images(PseudoLabelsSpec(path=path, **wanted), (tmp_path,), dataset)


def test_images_get_names_that_are_safe_everywhere_and_their_own(tmp_path: Path, dataset: Dataset):
    files = ["a b/ü x.png", "a-b/ -x.png", "A-B/-X.jpg", "..hidden.png", "plain.png", f"{'l' * 200}.png", "日本.png"]
    for number, file in enumerate(files):
        add(tmp_path / "new", file, boxes=None, color=number)
    found = locate(tmp_path, dataset)
    assert len({name.casefold() for name in found.images}) == len(files)
    assert all(re.match(IMAGE, name) for name in found.images)
    assert {"plain", "hidden", "a-b-x", "image"} <= found.images.keys()
    facts = unlabelled.overlay_pseudo_label_images(found, tmp_path / "laid")
    links = {path.stem: path.resolve() for path in (facts.folder / "images").iterdir()}
    assert links == {name: path.resolve() for name, path in found.images.items()}
    assert facts.files["plain"] == "plain.png"


def test_labels_are_found_as_in_a_data_set_or_beside_the_images_and_laid_out_apart(tmp_path: Path, dataset: Dataset):
    add(tmp_path / "new", "images/a.png", color=1)
    beside = add(tmp_path / "new", "images/b.png", boxes=None, color=2)
    beside.with_suffix(".txt").write_text("1 0.5 0.5 0.1 0.1\n")
    add(tmp_path / "new", "images/c.png", boxes=None, color=3)
    for path in ("new", "new/images"):
        found = locate(tmp_path, dataset, path)
        labels = sorted(label.relative_to(tmp_path).as_posix() for label in found.labels.values())
        assert labels == ["new/images/b.txt", "new/labels/a.txt"]
    facts = unlabelled.overlay_pseudo_label_images(found, tmp_path / "laid")
    assert (facts.num_labels, len(facts.files)) == (2, 3)
    assert sorted(path.name for path in (facts.folder / "labels").iterdir()) == ["a.txt", "b.txt"]


def test_existing_labels_are_of_one_class_where_all_classes_are_one(tmp_path: Path, dataset: Dataset):
    image = add(tmp_path / "new", "images/b.png", boxes=None, color=2)
    image.with_suffix(".txt").write_text("1 0.5 0.5 0.1 0.1\n0 0.5 0.5 0.1 0.1\n0 0.3 0.3 0.1 0.1\n")
    facts = unlabelled.overlay_pseudo_label_images(
        locate(tmp_path, dataset.as_one_class(), "new/images"), tmp_path / "laid"
    )
    assert (facts.folder / "labels" / "b.txt").read_text() == "0 0.5 0.5 0.1 0.1\n0 0.3 0.3 0.1 0.1\n"


@pytest.mark.parametrize("content", ["5 0.5 0.5 0.1 0.1\n", "0 0.5\n", b"\xff\x80"])
def test_a_label_that_cannot_be_read_is_not_compared_with_and_does_not_stop_the_job(
    tmp_path: Path, dataset: Dataset, content: str | bytes
):
    add(tmp_path / "new", "images/a.png")
    label = tmp_path / "new/labels/a.txt"
    label.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = locate(tmp_path, dataset)
    assert found.labels == {}
    (note,) = found.notes
    assert note.startswith("pseudo_labels: a.txt is not compared")


def test_the_digest_is_of_images_and_labels(tmp_path: Path, dataset: Dataset):
    add(tmp_path / "new", "images/a.png")
    first = locate(tmp_path, dataset).digest
    assert locate(tmp_path, dataset).digest == first
    (tmp_path / "new/labels/a.txt").write_text("1 0.5 0.5 0.2 0.2\n")
    second = locate(tmp_path, dataset).digest
    add(tmp_path / "new", "images/a.png", boxes=None, color=7)
    assert len({first, second, locate(tmp_path, dataset).digest}) == 3


def test_a_class_that_the_data_does_not_have_is_refused_with_those_that_it_has(tmp_path: Path, dataset: Dataset):
    add(tmp_path / "new", "a.png")
    with pytest.raises(SpecError) as caught:
        locate(tmp_path, dataset, per_class={"cat": 0.7, "Dog": 0.6})
    (problem,) = caught.value.problems
    assert (problem.path, problem.hint) == ("pseudo_labels.per_class.Dog", "the data set has: cat, dog")


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path, dataset: Dataset):
    with pytest.raises(DataError, match="no folder"):
        locate(tmp_path, dataset, "nowhere")
