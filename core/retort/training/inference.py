"""Run networks in PyTorch or onnxruntime, and detect boxes in image files with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from retort import images as reader
from retort.training import models
from retort.training.environment import num_cores
from retort.training.ultralytics_api import LetterBox, nms, ops, select_device

if TYPE_CHECKING:
    from torch import Tensor

IOU = 0.7
"""Two boxes of one class that overlap more are one: upstream's threshold."""

MOST_DETECTIONS = 3000
"""Boxes of an image that are kept at most: upstream's 300 would make background of the rest."""

Network = Callable[["Tensor"], "Tensor"]
"""From images (N, 3, S, S) in 0..1 to raw output (N, 4 + K, A): boxes as centre and size in pixels, probabilities."""
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Runtime:
    """A network, ready to run."""

    run: Network
    """From images (N, 3, S, S) in 0..1 on *device* to raw output (N, 4 + K, A)."""
    name: str
    """The program that runs it."""
    device: torch.device = CPU
    batches: bool = False
    """Whether N may be more than 1."""
    settings: str | None = None
    """What is set otherwise than the program does by itself, which its users have to set, too."""

    def run_all(self, images: Tensor) -> Tensor:
        """Run any number of images, one by one where necessary."""
        images = images.to(self.device)
        return self.run(images) if self.batches else torch.cat([self.run(image[None]) for image in images])


@dataclass(frozen=True, slots=True)
class Detection:
    """One detection, in pixels of the original image."""

    x1: float
    y1: float
    x2: float
    y2: float
    score: float
    class_id: int


def predict(
    weights: Path,
    images: Sequence[Path],
    *,
    imgsz: int,
    device: str,
    conf: float = 0.25,
    on_image: Callable[[], None] | None = None,
) -> list[list[Detection]]:
    """Detect objects in each image with published *weights*.

    Boxes of one image are ordered by score. *on_image* is called before each image.

    Raises:
        ModelError: the weights cannot be loaded.
        DataError: a file is not an image.

    """
    where = select_device(device, verbose=False)
    network = load_folded(weights).to(where)
    found = []
    for image in images:
        if on_image is not None:
            on_image()
        found.append(detect(network_output(network), image, imgsz=imgsz, device=where, conf=conf))
    return found


def load_folded(weights: Path) -> Any:
    """Load a network for inference, with batch normalisation folded.

    It predicts from the branch that needs NMS.
    """
    network = models.load(weights)
    network.end2end = False  # upstream's default for validation and prediction, also where a one2one branch exists
    return network.fuse(verbose=False).eval()


def network_output(network: Any) -> Network:
    """Return the network's decoded raw output as a function."""

    @torch.inference_mode()
    def run(images: Tensor) -> Tensor:
        found: Tensor = network(images)[0]
        return found

    return run


def wrap_network(network: Any, device: torch.device = CPU) -> Runtime:
    """Run a folded network in PyTorch."""
    return Runtime(network_output(network.to(device)), "PyTorch", device, batches=True)


def load_onnx(path: Path) -> Runtime:
    """Load an ONNX graph into onnxruntime on the CPU.

    It runs on all cores that this process may use.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = num_cores()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {given.name: images.numpy()})[0])

    return Runtime(run, "onnxruntime", batches=not isinstance(given.shape[0], int))


def decoded(output: Any) -> Tensor:
    """Return the decoded output, dropping the raw output of some formats."""
    found: Tensor = output[0] if isinstance(output, (tuple, list)) else output
    return found


def detect(run: Network, image: Path, *, imgsz: int, device: torch.device, conf: float) -> list[Detection]:
    """Detect objects in *image*: letterbox, network, then NMS.

    The image is fitted into a square; boxes that NMS keeps are kept.
    """
    pixels, shape = prepare(image, imgsz)
    raw = run(pixels.to(device))
    (kept,) = nms.non_max_suppression(raw, conf, IOU, max_time_img=10.0, max_det=MOST_DETECTIONS)
    kept[:, :4] = ops.scale_boxes((imgsz, imgsz), kept[:, :4], shape)
    return [Detection(x1, y1, x2, y2, score, int(label)) for x1, y1, x2, y2, score, label in kept.tolist()]


def prepare(image: Path, imgsz: int) -> tuple[Tensor, tuple[int, int]]:
    """Load a letterboxed image and its size.

    The image is (1, 3, imgsz, imgsz) in 0..1.
    """
    bgr = reader.read(image)
    square = LetterBox((imgsz, imgsz), auto=False)(image=bgr)  # H W 3, BGR
    rgb = torch.from_numpy(square[..., ::-1].transpose(2, 0, 1).copy())  # 3 H W, in this order for runtimes that insist
    return rgb[None].float() / 255, bgr.shape[:2]
