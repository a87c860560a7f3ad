"""Compare an export's boxes with PyTorch's, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from retort.training.inference import CPU, Detection, Runtime, detect, load_folded, prepare, wrap_network

TOLERANCE = 1e-3
"""Largest difference of equal boxes: of scores, and of coordinates relative to the image."""


@dataclass(frozen=True)
class Comparison:
    """Differences between an export and its network."""

    max_relative_error: float
    """Largest difference in the raw output, relative to its largest value."""
    num_images: int
    num_boxes: int
    """Boxes after NMS that PyTorch gives."""
    num_unequal: int
    """Boxes of either side that have no equal on the other."""

    @property
    def equal(self) -> bool:
        """Whether boxes and raw outputs of both sides agree.

        Boxes agree where every box of one side has its equal on the other.
        """
        return self.num_unequal == 0 and self.max_relative_error <= TOLERANCE


def compare(weights: Path, runtime: Runtime, images: Sequence[Path], *, imgsz: int, conf: float = 0.25) -> Comparison:
    """Compare *runtime* with the network of *weights* on *images*.

    Raw outputs are compared, and boxes after the same NMS.

    Raises:
        ModelError: the weights cannot be loaded.
        DataError: a file is not an image.

    """
    sides = wrap_network(load_folded(weights)), runtime
    error, count, unequal = 0.0, 0, 0
    for image in images:
        pixels, shape = prepare(image, imgsz)
        student, teacher = (side.run_all(pixels).to(CPU) for side in sides)
        error = max(error, float((student - teacher).abs().max() / student.abs().max()))
        # A little below the threshold too, where the other side may find a box that one side has just above it.
        found = [detect(side.run_all, image, imgsz=imgsz, device=side.device, conf=conf - TOLERANCE) for side in sides]
        unequal += sum(num_unmatched(a, b, conf=conf, size=max(shape)) for a, b in (found, found[::-1]))
        count += sum(box.score >= conf for box in found[0])
    return Comparison(error, len(images), count, unequal)


def num_unmatched(boxes: Sequence[Detection], others: Sequence[Detection], *, conf: float, size: int) -> int:
    """Count the *boxes* that have no equal among *others*.

    Only boxes with a score of *conf* count.
    """
    return sum(not any(boxes_equal(box, other, size) for other in others) for box in boxes if box.score >= conf)


def boxes_equal(a: Detection, b: Detection, size: int) -> bool:
    """Return True if two boxes are equal, up to rounding.

    They are boxes in an image of *size* pixels.
    """
    corners = ((a.x1, b.x1), (a.y1, b.y1), (a.x2, b.x2), (a.y2, b.y2))
    close = all(abs(x - y) <= TOLERANCE * size for x, y in corners)
    return close and abs(a.score - b.score) <= TOLERANCE and a.class_id == b.class_id
