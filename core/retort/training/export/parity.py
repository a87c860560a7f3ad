"""Compare an export's output with PyTorch's, and the boxes that come of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retort.training.inference import CPU, IOU, Runtime, load_folded, prepare, wrap_network
from retort.training.ultralytics_api import nms

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCE = 1e-3
"""Largest difference of equal outputs in float32: of scores, and of coordinates relative to the image."""


@dataclass(frozen=True)
class Comparison:
    """Differences between an export and its network."""

    max_relative_error: float
    """Largest difference in the raw output: of a score, or of a coordinate relative to the image."""
    num_images: int
    num_boxes: int
    """Boxes after NMS that PyTorch gives."""
    num_unequal: int
    """Boxes of either side, after NMS, that the other side does not see at the same place before it."""
    num_ties: int = 0
    """Boxes that only one side keeps although both see them: NMS had to choose between equals."""

    @property
    def equal(self) -> bool:
        """Whether the raw outputs agree, and so do the boxes that come of them.

        Which of two equal boxes NMS keeps is chance, and no difference.
        """
        return self.num_unequal == 0 and self.max_relative_error <= TOLERANCE


def compare(weights: Path, runtime: Runtime, images: Sequence[Path], *, imgsz: int, conf: float = 0.25) -> Comparison:
    """Compare *runtime* with the network of *weights* on *images*.

    Raw outputs are compared, and boxes after the same NMS.

    Raises:
        ModelError: the weights cannot be loaded.
        DataError: a file is not an image.

    """
    network, found = wrap_network(load_folded(weights)), Comparison(0.0, 0, 0, 0)
    for image in images:
        pixels, _ = prepare(image, imgsz)
        ours, theirs = network.run_all(pixels).to(CPU)[0], runtime.run_all(pixels).to(CPU)[0]
        one = compare_outputs(ours, theirs, imgsz=imgsz, conf=conf)
        found = Comparison(
            max(found.max_relative_error, one.max_relative_error),
            found.num_images + 1,
            found.num_boxes + one.num_boxes,
            found.num_unequal + one.num_unequal,
            found.num_ties + one.num_ties,
        )
    return found


def compare_outputs(ours: Tensor, theirs: Tensor, *, imgsz: int, conf: float) -> Comparison:
    """Compare the raw outputs (4 + K, A) of one image."""
    mine, others = _kept(ours, conf), _kept(theirs, conf)
    lost, chosen = _unmatched(ours, theirs, mine, others, imgsz)
    added, chosen_too = _unmatched(theirs, ours, others, mine, imgsz)
    error = difference(ours, theirs, imgsz)
    return Comparison(error, 1, len(mine), lost + added, chosen + chosen_too)


def difference(ours: Tensor, theirs: Tensor, imgsz: int) -> float:
    """Return the largest difference of two raw outputs (4 + K, A).

    Coordinates count relative to the image, scores as they are. Outputs of other shapes, or that are not finite, differ
    without bound.
    """
    if ours.shape != theirs.shape or not bool(theirs.isfinite().all()):
        return float("inf")
    away = (ours.float() - theirs.float()).abs()
    away[:4] /= imgsz
    return float(away.max())


def _kept(raw: Tensor, conf: float) -> Tensor:
    """Return the anchors whose boxes NMS keeps."""
    _, (kept,) = nms.non_max_suppression(raw[None].clone(), conf, IOU, max_time_img=10.0, return_idxs=True)
    anchors: Tensor = kept.flatten()
    return anchors


def _unmatched(ours: Tensor, theirs: Tensor, kept: Tensor, others: Tensor, imgsz: int) -> tuple[int, int]:
    """Count the boxes *kept* of one side that the other does not see, and those that only NMS has chosen."""
    if ours.shape != theirs.shape:
        return len(kept), 0
    chosen = set(others.tolist())
    alike = [bool(difference(ours[:, [at]], theirs[:, [at]], imgsz) <= TOLERANCE) for at in kept.tolist()]
    ties = sum(same and at not in chosen for at, same in zip(kept.tolist(), alike, strict=True))
    return alike.count(False), ties
