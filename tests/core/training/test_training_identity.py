"""A training reads the labels that were checked, and goes on only with the data that it began with."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from core.training.pictures import draw
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from retort.data import datasets
from retort.data.labels import copy_labels, read_labels
from retort.errors import DataError
from retort.files import sha256_of
from retort.training.checkpoint import data_identity
from retort.training.ultralytics_api import check_det_dataset
from ultralytics.data.utils import verify_image_label


def replace_image(path: Path, colour: str) -> None:
    """Write another picture of the same name and size."""
    Image.new("RGB", (96, 96), colour).save(path)
    path.write_bytes(path.read_bytes().ljust(1000, b"\0"))


def test_a_resume_tells_images_apart_that_have_equal_names_and_sizes(tmp_path: Path):
    draw(tmp_path / "set", num_train=3, num_val=2)
    replace_image(tmp_path / "set/images/train/1.png", "red")

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
    replace_image(tmp_path / "set/images/train/1.png", "blue")
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


usual = st.floats(0.05, 0.95)
shares = st.sampled_from([usual] * 9 + [st.floats(-0.02, 1.02, allow_subnormal=False)]).flatmap(lambda one: one)
classes = st.sampled_from(["0", "1"] * 8 + ["1.0", "1e0", "-0", "2", "01", "0_1", "\uff11"])


@st.composite
def lines(draw: st.DrawFn) -> str:
    numbers = draw(st.sampled_from([(shares,) * n for n in (4, 4, 6, 8, 12, 4, 4, 6, 5)]))
    columns = [draw(classes), *(draw(st.sampled_from(["{:.6f}", "{!r}", "{:e}"])).format(draw(one)) for one in numbers)]
    return draw(st.sampled_from([" ", "\t", "  ", "\u00a0"])).join(columns) + draw(st.sampled_from(["", " ", "\r"]))


files = st.tuples(
    st.lists(lines(), max_size=4).flatmap(lambda some: st.lists(st.sampled_from([*some, ""]), max_size=6)),
    st.sampled_from(["\n", "\r\n", "\n\n", "\f"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]),
)


@settings(max_examples=300)
@given(file=files)
def test_ultralytics_reads_every_label_that_is_accepted_as_the_same_boxes(
    laid_out: tuple[Path, Path], file: tuple[list[str], str, str]
) -> None:
    """No label file passes the check and costs its image in the training, whatever form its lines have."""
    label, target = laid_out
    some, newline, encoding = file
    label.write_bytes(newline.join(some).encode(encoding))
    try:
        content = read_labels(label, 2, label.parent.parent)
    except DataError:
        return
    if content.problems:
        return
    copy_labels(label, target, sha256_of(label), 2)
    image = target.parent.parent / "images" / "0.png"
    _, found, *_, corrupt, message = verify_image_label((str(image), str(target), "", False, 2, 0, 0, False))
    assert not corrupt, message
    theirs = sorted(map(tuple, found.tolist()))
    ours = sorted(tuple(np.float32(value) for value in box) for box in content.boxes)
    assert theirs == [pytest.approx(box, abs=1e-6) for box in ours]


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A label file that a person wrote, and its copy in a job's folder, beside an image."""
    folder = tmp_path_factory.mktemp("labels")
    draw(folder / "set", num_train=1, num_val=1)
    for kind in ("images", "labels"):
        (folder / "laid" / kind).mkdir(parents=True)
    shutil.copy(folder / "set/images/train/0.png", folder / "laid/images/0.png")
    return (folder / "set/labels/train/0.txt").resolve(), folder / "laid/labels/0.txt"
