"""A teacher is asked ahead of time: views undo what they did, and what they see in common is one box."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from retort.spec import ViewName
from retort.training.box_fusion import fuse
from retort.training.data.teacher_cache import BadCache, CachedBoxes, CacheOrigin, TeacherCache
from retort.training.detection import predict
from retort.training.distillation.boxes import TeacherBoxes
from retort.training.teaching_ahead import (
    SCORE_FROM,
    AheadTeacher,
    load_ahead_teacher,
    origin_of,
    views_of,
)

WHOLE = np.array([[0.0, 0.0, 1.0, 1.0]])


class Bright:
    """A teacher that sees one box: the bright part of an image, of the class that its brightest channel says."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, images: torch.Tensor) -> TeacherBoxes:
        found: list[tuple[int, list[float], list[float]]] = []
        self.sizes += [images.shape[-1]] * len(images)
        for number, image in enumerate(images):
            y, x = torch.where(image.amax(0) > 0.7)
            if len(x):
                shares = image[:, y, x].mean(1)
                box = [float(x.min()), float(y.min()), float(x.max()) + 1, float(y.max()) + 1]
                found.append((number, box, shares.tolist()))
        numbers, boxes, classes = ([one[place] for one in found] for place in range(3))
        return TeacherBoxes(
            torch.tensor(numbers, dtype=torch.int64), torch.tensor(boxes).view(-1, 4), torch.tensor(classes).view(-1, 3)
        )


def picture(path: Path, box: tuple[int, int, int, int], size: tuple[int, int] = (160, 120)) -> Path:
    image = np.zeros((size[1], size[0], 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = (20, 40, 250)  # BGR
    cv2.imwrite(str(path), image)
    return path


@pytest.mark.parametrize("views", [(), ("flip",), ("scales",), ("tiles",), ("flip", "scales", "tiles")])
def test_each_view_finds_the_box_where_it_is(tmp_path: Path, views: tuple[ViewName, ...]) -> None:
    # Towards one corner, so that a view that is not undone would be seen; inside of one tile.
    file, teacher = picture(tmp_path / "one.png", (16, 12, 48, 36)), Bright()
    with AheadTeacher(teacher, views_of(views, 128), torch.device("cpu"), print) as ahead:
        (found,) = ahead([file], lambda: None)
    assert len(found.corners) == 1
    assert np.abs(found.corners[0] - [0.1, 0.1, 0.3, 0.3]).max() < 0.02
    assert found.probabilities[0].argmax() == 0
    assert abs(found.probabilities[0, 0] - 250 / 255) < 0.1
    expected = {"flip": [128], "scales": [96, 160], "tiles": [128] * 4}
    assert sorted(teacher.sizes) == sorted([128, *(size for view in views for size in expected[view])])


def test_a_box_that_a_tile_cuts_is_not_taken_from_it(tmp_path: Path) -> None:
    file = picture(tmp_path / "one.png", (60, 45, 140, 100))  # reaches over the edges of all four tiles
    with AheadTeacher(Bright(), views_of(("tiles",), 128), torch.device("cpu"), print) as ahead:
        (found,) = ahead([file], lambda: None)
    assert len(found.corners) == 1
    assert np.abs(found.corners[0] - [60 / 160, 45 / 120, 140 / 160, 100 / 120]).max() < 0.02
    assert found.probabilities[0, 0] > 0.9  # the whole image alone shows it, and has seen it


def test_views_that_do_not_fit_into_the_memory_are_asked_in_halves(tmp_path: Path) -> None:
    files = [picture(tmp_path / f"{n}.png", (16, 12, 48 + n, 36)) for n in range(5)]
    told: list[str] = []

    class Small(Bright):
        def __call__(self, images: torch.Tensor) -> TeacherBoxes:
            if len(images) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().__call__(images)

    with AheadTeacher(Small(), views_of(("flip",), 64), torch.device("cpu"), told.append) as ahead:
        ahead.batches.most = 8
        found = list(ahead(files, lambda: None))
    assert [len(one.corners) for one in found] == [1] * 5
    assert told == [
        "8 views at a time do not fit into the memory: going on with 4",
        "4 views at a time do not fit into the memory: going on with 2",
    ]


def test_a_yolo_network_is_asked_for_all_its_classes(data_yaml: Path, published: Callable[..., Path]) -> None:
    images, knows = sorted((data_yaml.parent / "images/val").iterdir())[:3], published("yolov8n")
    with load_ahead_teacher(knows, views_of((), 96), "cpu") as ahead:
        found = list(ahead(images, lambda: None))
    plain = predict(knows, images, imgsz=96, device="cpu", conf=SCORE_FROM)
    assert sum(map(len, plain)) > 4
    for image, ours, theirs in zip(images, found, plain, strict=True):
        height, width = cv2.imread(str(image)).shape[:2]
        assert len(ours.corners)
        assert ours.probabilities.shape[1] == 3
        best = theirs[0]
        corners = np.array([best.x1 / width, best.y1 / height, best.x2 / width, best.y2 / height])
        assert np.abs(ours.corners[0] - corners).max() < 1e-4
        assert ours.probabilities[0].argmax() == best.class_id
        assert abs(float(ours.probabilities[0].max()) - best.score) < 1e-3
        assert (np.diff(ours.probabilities.max(1)) <= 0).all()


def test_boxes_of_several_views_are_one_box_weighted_by_their_scores() -> None:
    corners = np.array([[0.1, 0.1, 0.3, 0.3], [0.1, 0.1, 0.34, 0.3], [0.6, 0.6, 0.9, 0.9]])
    classes = np.array([[0.8, 0.1], [0.4, 0.3], [0.2, 0.6]])
    boxes, merged = fuse(corners, classes, np.array([0, 1, 1]), np.concatenate([WHOLE, WHOLE]))
    assert np.allclose(boxes[0], [0.1, 0.1, (0.8 * 0.3 + 0.4 * 0.34) / 1.2, 0.3])
    assert np.allclose(merged[0], [0.6, 0.2])
    # One view of two has seen the other box.
    assert np.allclose(boxes[1], corners[2])
    assert np.allclose(merged[1], [0.1, 0.3])


def test_a_view_that_does_not_show_the_place_has_no_say() -> None:
    windows = np.concatenate([WHOLE, [[0.0, 0.0, 0.5, 0.5]]])
    _, merged = fuse(np.array([[0.6, 0.6, 0.9, 0.9]]), np.array([[0.2, 0.6]]), np.array([0]), windows)
    assert np.allclose(merged, [[0.2, 0.6]])


def test_two_boxes_of_one_view_stay_two() -> None:
    corners = np.array([[0.1, 0.1, 0.3, 0.3], [0.1, 0.1, 0.32, 0.3]])
    boxes, _ = fuse(corners, np.array([[0.9], [0.8]]), np.array([0, 0]), WHOLE)
    assert len(boxes) == 2


def boxes_of(number: int, seed: int = 0) -> CachedBoxes:
    draw = np.random.default_rng(seed)
    low = draw.uniform(0, 0.5, (number, 2))
    corners = np.concatenate([low, low + 0.3], 1).astype(np.float32)
    return CachedBoxes(corners, draw.uniform(size=(number, 2)).astype(np.float16))


ORIGIN = CacheOrigin("ab" * 32, ("cat", "dog"), 640, (), SCORE_FROM, "a test")
IMAGES = {"11" * 32: boxes_of(3), "00" * 32: boxes_of(0), "22" * 32: boxes_of(2, 1)}


def test_a_cache_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = TeacherCache.of(ORIGIN, IMAGES)
    made.save(tmp_path / "one.npz")
    found = TeacherCache.load(tmp_path / "one.npz", made.digest)
    assert found.origin == ORIGIN
    for image, boxes in found.by_image().items():
        assert np.array_equal(boxes.corners, IMAGES[image].corners)
        assert np.array_equal(boxes.probabilities, IMAGES[image].probabilities)
    assert found.rows(["22" * 32, "00" * 32]) == [range(3, 5), range(0)]
    made.save(tmp_path / "again.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()


CHANGES: dict[str, Any] = {
    "teacher": "cd" * 32, "imgsz": 1280, "views": ("flip",), "names": ("cat", "cow"), "score_from": 0.1,
}  # fmt: skip


@pytest.mark.parametrize("field", CHANGES)
def test_another_teacher_input_or_view_has_another_digest(field: str) -> None:
    other = CacheOrigin(**{**{name: getattr(ORIGIN, name) for name in ORIGIN.__slots__}, field: CHANGES[field]})
    assert other.digest(IMAGES) != ORIGIN.digest(IMAGES)


def test_other_images_have_another_digest_and_their_order_does_not_count() -> None:
    assert ORIGIN.digest([*IMAGES, "33" * 32]) != ORIGIN.digest(IMAGES)
    assert ORIGIN.digest([*reversed(IMAGES), "00" * 32]) == ORIGIN.digest(IMAGES)


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9, 0.99])
def test_a_file_with_a_changed_byte_is_found_out(tmp_path: Path, place: float) -> None:
    TeacherCache.of(ORIGIN, {f"{n:064x}": boxes_of(20, n) for n in range(30)}).save(tmp_path / "one.npz")
    content = bytearray((tmp_path / "one.npz").read_bytes())
    content[int(place * len(content))] ^= 255
    (tmp_path / "one.npz").write_bytes(content)
    try:
        found = TeacherCache.load(tmp_path / "one.npz")
    except BadCache:
        return
    assert found.by_image().keys() == {f"{n:064x}" for n in range(30)}  # a byte of the archive that says nothing


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04" + bytes(40)])
def test_a_file_that_is_no_cache_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "one.npz").write_bytes(content)
    with pytest.raises(BadCache, match="cannot be read"):
        TeacherCache.load(tmp_path / "one.npz")


def test_a_cache_of_something_else_is_told(tmp_path: Path) -> None:
    TeacherCache.of(ORIGIN, IMAGES).save(tmp_path / "one.npz")
    with pytest.raises(BadCache, match="another teacher, other views or other images"):
        TeacherCache.load(tmp_path / "one.npz", "ff" * 32)


def test_the_origin_of_a_teacher_is_its_classes_and_input(published: Callable[..., Path]) -> None:
    found = origin_of("ab" * 32, published("yolov8n"), 96, ("tiles", "flip"))
    assert (found.names, found.imgsz, found.views) == (("red", "green", "blue"), 96, ("flip", "tiles"))
