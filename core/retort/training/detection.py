"""Detect boxes in image files, several at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch

from retort.training import teachers
from retort.training.environment import num_cores
from retort.training.halving import HalvedBatches
from retort.training.inference import CPU, IOU, Network, halve, letterboxed, load_folded, network_output
from retort.training.teachers.base import BoxNetwork, box_output
from retort.training.ultralytics_api import nms, ops, select_device

if TYPE_CHECKING:
    from torch import Tensor

MOST_DETECTIONS = 3000
"""Boxes of an image that are kept at most: upstream's 300 would make background of the rest."""
BATCH = 32
"""Images that a GPU is given at a time. A CPU is given one: its sums would differ in the last bit with the number."""
_AHEAD = 2
"""Batches whose images are being opened, or wait, while one is in the network."""
_MOST_THREADS = 8

Opened = tuple["Tensor", tuple[int, int]]
"""Pixels of a letterboxed image, uint8 (3, S, S), and its height and width before."""


@dataclass(frozen=True, slots=True)
class Detection:
    """One detection, in pixels of the original image."""

    x1: float
    y1: float
    x2: float
    y2: float
    score: float
    class_id: int


class Detector:
    """A network that detects objects in image files.

    It is a context, in which it holds memory and threads. Images are opened by threads ahead of the network, each
    fitted into a square. A batch that does not fit into the memory is halved, and so are those after it.
    """

    def __init__(
        self,
        run: Network,
        *,
        imgsz: int,
        conf: float,
        device: torch.device = CPU,
        dtype: torch.dtype = torch.float32,
        most: int = 1,
        log: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._run: Network | None = run
        self._imgsz, self._conf, self._device, self._dtype = imgsz, conf, device, dtype
        self.batches = HalvedBatches(most, device, log, what="images")
        self._threads = ThreadPoolExecutor(min(_MOST_THREADS, num_cores()), thread_name_prefix="open-images")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, images: Sequence[Path], *, on_image: Callable[[], None] | None = None) -> list[list[Detection]]:
        """Detect objects in each image, most certain first.

        *on_image* is called before each image.

        Raises:
            DataError: a file is not an image.

        """
        found: list[list[Detection]] = []
        rest, waiting = iter(images), deque[Future[Opened]]()
        try:
            while len(found) < len(images):
                self._open_more(rest, waiting)
                batch = []
                for _ in range(min(self.batches.most, len(waiting))):
                    if on_image is not None:
                        on_image()
                    batch.append(waiting.popleft().result())
                found += self.batches(batch, self._boxes)
        finally:
            for future in waiting:
                future.cancel()
        return found

    def close(self) -> None:
        """Let go of the network, the threads and the memory."""
        self._threads.shutdown(cancel_futures=True)
        self._run = None
        self.batches.free()

    def _open_more(self, rest: Iterator[Path], waiting: deque[Future[Opened]]) -> None:
        while len(waiting) < max(_AHEAD * self.batches.most, _MOST_THREADS) and (image := next(rest, None)) is not None:
            waiting.append(self._threads.submit(letterboxed, image, self._imgsz))

    @torch.inference_mode()
    def _boxes(self, batch: Sequence[Opened]) -> list[list[Detection]]:
        """Return the boxes that NMS keeps, image by image, with one copy from the device."""
        assert self._run is not None, "the detector is closed"
        pixels = torch.stack([one for one, _ in batch]).to(self._device)  # N 3 S S
        raw = self._run(pixels.to(self._dtype) / 255).float()  # N 4+K A
        kept = nms.non_max_suppression(raw, self._conf, IOU, max_time_img=10.0, max_det=MOST_DETECTIONS)
        for boxes, (_, shape) in zip(kept, batch, strict=True):
            boxes[:, :4] = ops.scale_boxes((self._imgsz, self._imgsz), boxes[:, :4], shape)
        rows = iter(torch.cat(kept).cpu().tolist())
        return [[_detection(next(rows)) for _ in boxes] for boxes in kept]


def _detection(row: Sequence[float]) -> Detection:
    x1, y1, x2, y2, score, label = row
    return Detection(x1, y1, x2, y2, score, int(label))


def load_detector(
    weights: Path, *, imgsz: int, device: str, conf: float = 0.25, log: Callable[[str], None] = lambda _: None
) -> Detector:
    """Load published *weights* to detect objects with.

    On a GPU they compute in float16, on many images at a time.

    Raises:
        ModelError: the weights cannot be loaded.

    """
    where = select_device(device, verbose=False)
    if isinstance(found := teachers.load(weights), BoxNetwork):
        return Detector(box_output(found.to(where)), imgsz=imgsz, conf=conf, device=where, log=log)
    network = load_folded(weights).to(where)
    if where.type != "cuda":
        return Detector(network_output(network), imgsz=imgsz, conf=conf, device=where, log=log)
    run = network_output(halve(network))
    return Detector(run, imgsz=imgsz, conf=conf, device=where, dtype=torch.float16, most=BATCH, log=log)


def predict(
    weights: Path, images: Sequence[Path], *, imgsz: int, device: str, conf: float = 0.25
) -> list[list[Detection]]:
    """Detect objects in each image with published *weights*.

    Boxes of one image are ordered by score.

    Raises:
        ModelError: the weights cannot be loaded.
        DataError: a file is not an image.

    """
    with load_detector(weights, imgsz=imgsz, device=device, conf=conf) as detector:
        return detector(images)
