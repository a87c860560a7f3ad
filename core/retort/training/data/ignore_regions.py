"""Ignore regions: exclude uncertain pseudo-labels from the loss.

They lie beside the labels, in ``ignore`` for the last folder ``labels``, and go through the augmentation with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from retort.training.criterion import make_anchors

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = "ignore"
MARK = -1.0
"""Stands for the class of such a box on its way through the augmentation."""
KEY = "ignored"
"""In a batch: (M, 5), the image's index and the box as centre and size, in parts of the image."""
Array = np.ndarray[Any, Any]


def read(images: Sequence[str]) -> list[Array]:
    """Return the ignored boxes of each image file.

    They are float32 (n, 4): centre and size in parts of the image.
    """
    return [_of(Path(image)) for image in images]


def _of(image: Path) -> Array:
    parts = list(image.with_suffix(".txt").parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = FOLDER
            break
    path = Path(*parts)
    lines = path.read_text().splitlines() if parts[-1] != image.name and path.is_file() else []
    boxes = [[float(value) for value in line.split()[1:5]] for line in lines if line.strip()]
    return np.array(boxes, np.float32).reshape(-1, 4)


def append_ignored(boxes: Array, classes: Array, more: Array) -> tuple[Array, Array]:
    """Append *more* boxes, marked as ignored, to boxes and classes.

    Boxes are (n, 4), classes (n, 1).
    """
    if not len(more):
        return boxes, classes
    marks = np.full((len(more), 1), MARK, classes.dtype)
    return np.concatenate([boxes, more.astype(boxes.dtype)]), np.concatenate([classes, marks])


def split_ignored(batch: dict[str, Any]) -> dict[str, Any]:
    """Return *batch* with its marked boxes moved from labels to ``KEY``.

    Labels are in the host's memory still: on a GPU the question alone would wait for it.
    """
    marked = batch["cls"].view(-1) == MARK
    if not bool(marked.any()):
        return batch
    apart = torch.cat([batch["batch_idx"].view(-1, 1), batch["bboxes"]], 1)[marked]
    kept = {name: batch[name][~marked] for name in ("batch_idx", "bboxes", "cls")}
    return {**batch, **kept, KEY: apart}


def apply_ignore(criteria: Iterable[Any], batch: dict[str, Any]) -> None:
    """Stop upstream's *criteria* from learning background in ignored boxes.

    The boxes are those of *batch*, until the criteria are given another one.
    """
    for criterion in criteria:
        plain = getattr(criterion.bce, "plain", criterion.bce)
        criterion.bce = IgnoreRegionLoss(plain, covered(batch, criterion.stride)) if KEY in batch else plain


@contextmanager
def ignoring(criteria: Iterable[Any], batch: dict[str, Any]) -> Iterator[None]:
    """Ignore the marked boxes of *batch* inside the block alone."""
    known = list(criteria)
    apply_ignore(known, batch)
    try:
        yield
    finally:
        apply_ignore(known, {})


class IgnoreRegionLoss:
    """Binary cross-entropy without unassigned anchors in ignored regions.

    It is 0 where an anchor is covered and no object has been assigned to it.
    """

    def __init__(self, plain: Any, covered: Tensor) -> None:
        self.plain = plain
        self._covered = covered  # N A

    def __call__(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each anchor and class: (N, A, K)."""
        found: Tensor = self.plain(scores, targets)
        spared = self._covered & (targets.amax(-1) == 0)
        return found.masked_fill(spared[..., None], 0.0)


def covered(batch: dict[str, Any], strides: Tensor) -> Tensor:
    """Return a mask of anchors in ignored boxes, (N, A).

    Anchors are in head order.
    """
    images, boxes = batch["img"], batch[KEY]
    height, width = images.shape[2:]
    maps = [torch.empty(1, 1, height // int(s), width // int(s), device=images.device) for s in strides]
    centres, steps = make_anchors(maps, strides.to(images.device), 0.5)
    centres = centres * steps  # A 2, pixels
    size = torch.tensor([width, height], device=images.device)
    middle, half = boxes[:, 1:3] * size, boxes[:, 3:5] * size / 2
    inside = ((centres[None] - middle[:, None]).abs() <= half[:, None]).all(-1)  # M A
    found = torch.zeros(len(images), len(centres), dtype=torch.int32, device=images.device)
    found.index_add_(0, boxes[:, 0].long(), inside.int())
    return found > 0
