"""Boxes in image files, several at a time: the same as one by one, in the order of the files."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from retort.errors import DataError
from retort.training.detection import MOST_DETECTIONS, Detection, Detector, load_detector
from retort.training.inference import IOU, halve, load_folded, network_output, prepare
from retort.training.ultralytics_api import nms, ops

SIDE = 96


@pytest.fixture(scope="module")
def weights(published: Callable[..., Path]) -> Path:
    return published("yolov8n")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, data_yaml: Path) -> list[Path]:
    """Ten images of several shapes."""
    folder = tmp_path_factory.mktemp("shapes")
    found = []
    for number, path in enumerate(sorted((data_yaml.parent / "images/train").iterdir())[:10]):
        found.append(folder / f"{number}.png")
        Image.open(path).resize((60 + 17 * number, 130 - 9 * number)).save(found[-1])
    return found


class Counted:
    """A network that counts its calls, and for which more than *fits* images are too many."""

    def __init__(self, weights: Path, fits: int = 100) -> None:
        self.run = network_output(load_folded(weights))
        self.fits = fits
        self.calls: list[int] = []

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.calls.append(len(images))
        if len(images) > self.fits:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.run(images)


def assert_alike(found: list[list[Detection]], expected: list[list[Detection]]) -> None:
    """Equal to a thousandth of a pixel: sums of a batch differ in their last bits."""
    assert [len(boxes) for boxes in found] == [len(boxes) for boxes in expected]
    assert sum(map(len, found)) > 20
    for ours, theirs in zip(found, expected, strict=True):
        assert np.array(list(map(astuple, ours))) == pytest.approx(np.array(list(map(astuple, theirs))), abs=1e-3)


def test_a_batch_finds_in_each_image_what_it_alone_would_show_in_the_order_of_the_files(
    weights: Path, files: list[Path]
) -> None:
    """Each image was a call of the network, opened and copied while the network waited."""
    network, seen = Counted(weights), []
    with Detector(network, imgsz=SIDE, conf=0.1, most=4) as detector:
        together = detector(files, on_image=lambda: seen.append(1))
    assert network.calls == [4, 4, 2]
    assert len(seen) == len(files)
    alone = Counted(weights)
    with Detector(alone, imgsz=SIDE, conf=0.1) as detector:
        expected = detector(files)
        assert detector(files[::-1]) == expected[::-1]
    assert alone.calls == [1] * 20
    assert_alike(together, expected)


def test_on_a_cpu_labels_are_the_same_to_the_bit_as_of_one_image_at_a_time(weights: Path, files: list[Path]) -> None:
    network = network_output(load_folded(weights))
    with load_detector(weights, imgsz=SIDE, device="cpu", conf=0.1) as detector:
        found = detector(files[:3])
    for path, boxes in zip(files, found, strict=False):
        image, shape = prepare(path, SIDE)
        (kept,) = nms.non_max_suppression(network(image), 0.1, IOU, max_time_img=10.0, max_det=MOST_DETECTIONS)
        kept[:, :4] = ops.scale_boxes((SIDE, SIDE), kept[:, :4], shape)
        assert [[*map(float, astuple(box))] for box in boxes] == kept.tolist()


def test_a_batch_that_does_not_fit_is_halved_and_loses_no_image(weights: Path, files: list[Path]) -> None:
    network, said = Counted(weights, fits=2), []
    with Detector(network, imgsz=SIDE, conf=0.1, most=8, log=said.append) as detector:
        found = detector(files)
        assert detector.batches.most == 2
    assert network.calls == [8, 4, 2, 2, 2, 2, 2]
    assert said == [
        "8 images at a time do not fit into the memory: going on with 4",
        "4 images at a time do not fit into the memory: going on with 2",
    ]
    with Detector(Counted(weights), imgsz=SIDE, conf=0.1) as detector:
        assert_alike(found, detector(files))


def test_one_image_that_does_not_fit_ends_it_and_so_does_another_error(weights: Path, files: list[Path]) -> None:
    detector = Detector(Counted(weights, fits=0), imgsz=SIDE, conf=0.1)
    with detector, pytest.raises(torch.cuda.OutOfMemoryError):
        detector(files)

    def broken(_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("shapes do not fit")

    with Detector(broken, imgsz=SIDE, conf=0.1, most=4) as detector, pytest.raises(RuntimeError, match="shapes"):
        detector(files)


def test_an_image_that_cannot_be_opened_is_named_and_costs_the_others_nothing(
    weights: Path, files: list[Path], tmp_path: Path
) -> None:
    torn = tmp_path / "torn.png"
    torn.write_bytes(files[0].read_bytes()[:200])
    with Detector(Counted(weights), imgsz=SIDE, conf=0.1, most=4) as detector:
        with pytest.raises(DataError, match=r"torn\.png"):
            detector([*files[:3], torn, *files[3:]])
        assert len(detector(files)) == len(files)


def test_nothing_is_left_of_it_but_what_it_found(weights: Path, files: list[Path]) -> None:
    detector: Any = load_detector(weights, imgsz=SIDE, device="cpu")
    with detector:
        detector(files[:3])
        assert [one for one in threading.enumerate() if one.name.startswith("open-images")]
    assert not [one for one in threading.enumerate() if one.name.startswith("open-images")]
    with pytest.raises(AssertionError, match="closed"):
        detector._boxes([(torch.zeros(3, SIDE, SIDE, dtype=torch.uint8), (1, 1))])


@pytest.mark.parametrize("name", ["yolov8n", "yolo26n"])
def test_in_half_precision_corners_are_not_rounded_to_half_pixels(name: str, published: Callable[..., Path]) -> None:
    """Upstream decodes them in the precision of the weights."""
    images = torch.rand(1, 3, 64, 640, generator=torch.Generator().manual_seed(0))
    exact = network_output(load_folded(published(name)))(images)
    ours = network_output(halve(load_folded(published(name))))(images.half())
    plain = network_output(load_folded(published(name)).half())(images.half())
    assert ours.dtype == torch.float32
    assert plain.dtype == torch.float16
    error, rounded = (float((one[:, :4].float() - exact[:, :4]).abs().max()) for one in (ours, plain))
    assert error < rounded / 2
