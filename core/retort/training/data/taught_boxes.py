"""Taught boxes: carry a cached teacher's boxes through the augmentation with the labels.

Like ignore regions they lie among the labels on their way, marked by a class that no label has: which row of the
cache they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from retort.errors import DataError
from retort.files import sha256_of
from retort.training.data.teacher_cache import BadCache, TeacherCache
from retort.training.ultralytics_api import ops

Array = np.ndarray[Any, Any]

FIRST = -2.0
"""Stands for the class of the cache's row 0 on its way through the augmentation; row r is ``FIRST - r``."""
BOXES, PROBABILITIES = "taught_boxes", "taught_probabilities"
"""In a batch: (m, 5), the image's index and the box as centre and size in parts of the image; and (m, K)."""
KEYS = (BOXES, PROBABILITIES)
SIDES, MOST = "taught_sides", "taught_most"
"""What the host knows of them: width and height of each, float64 (m, 2), and how many the fullest image has."""
_AT_ONCE = 8


def load_cache(path: Path) -> TeacherCache:
    """Read what a teacher has said ahead of time.

    Raises:
        DataError: it is damaged.

    """
    try:
        return TeacherCache.load(path)
    except BadCache as error:
        hint = "run the job again: it makes the file anew"
        raise DataError(f"what the teacher said ahead of time cannot be used: {error}", hint=hint) from error


class TaughtImages:
    """The rows of a cache that belong to a data set's images.

    Raises:
        DataError: the cache is damaged, or lacks an image.

    """

    def __init__(self, path: Path, images: Sequence[str]) -> None:
        self._cache = load_cache(path)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            self._rows = self._cache.rows(list(pool.map(sha256_of, map(Path, images))))
        self._probabilities = torch.from_numpy(self._cache.probabilities)
        self._places = {image: place for place, image in enumerate(images)}

    def append(self, index: int, boxes: Array, classes: Array) -> tuple[Array, Array]:
        """Append the teacher boxes of image *index* to boxes (n, 4), classes (n, 1).

        Boxes are centre and size in parts of the image.
        """
        rows = self._rows[index]
        if not rows:
            return boxes, classes
        more = ops.xyxy2xywh(self._cache.corners[rows.start : rows.stop]).astype(boxes.dtype)
        marks = (FIRST - np.arange(rows.start, rows.stop, dtype=np.float64)).astype(np.float32)
        return np.concatenate([boxes, more]), np.concatenate([classes, marks[:, None].astype(classes.dtype)])

    def of_images(self, images: Sequence[str]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return normalised boxes (n, 4), centre and size, of image files, and probabilities."""
        found = []
        for image in images:
            rows = self._rows[self._places[image]]
            boxes = torch.from_numpy(ops.xyxy2xywh(self._cache.corners[rows.start : rows.stop]))
            found.append((boxes, self._probabilities[rows.start : rows.stop]))
        return found

    def replace_labels(self, labels: Sequence[dict[str, Any]]) -> None:
        """Put the boxes in the place of upstream's *labels*, of images that have none."""
        for index, label in enumerate(labels):
            label["bboxes"], label["cls"] = self.append(index, label["bboxes"][:0], label["cls"][:0])

    def split(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Move the teacher boxes of *batch* from its labels to ``BOXES`` and ``PROBABILITIES``."""
        marked = is_taught(batch["cls"].view(-1))
        apart = torch.cat([batch["batch_idx"].view(-1, 1), batch["bboxes"]], 1)[marked]
        rows = (FIRST - batch["cls"].view(-1)[marked].double()).long()
        kept = {name: batch[name][~marked] for name in ("batch_idx", "bboxes", "cls")}
        return {**batch, **kept, BOXES: apart, PROBABILITIES: self._probabilities[rows]}


def count_taught(batch: dict[str, Any]) -> dict[str, Any]:
    """Count the teacher boxes of *batch* while they are in host memory."""
    if BOXES not in batch:
        return batch
    rows = batch[BOXES]
    most = int(rows[:, 0].long().bincount().max()) if len(rows) else 0
    return {**batch, SIDES: rows[:, 3:5].double().numpy(), MOST: most}


def is_taught(classes: Any) -> Any:
    """Return a mask of *classes* that mark teacher boxes, array or tensor."""
    return classes <= FIRST


def joined(batch: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the teacher boxes of *batch*, then those of *more* images, if any.

    Both hold ``KEYS``, what the host knows of them, and their images as ``img``.
    """
    if BOXES not in more:
        return {}
    later = more[BOXES].clone()
    later[:, 0] += len(batch["img"])
    return {
        BOXES: torch.cat([batch[BOXES], later]),
        PROBABILITIES: torch.cat([batch[PROBABILITIES], more[PROBABILITIES]]),
        SIDES: np.concatenate([batch[SIDES], more[SIDES]]),
        MOST: max(batch[MOST], more[MOST]),
    }


def told(boxes: Sequence[torch.Tensor], probabilities: Sequence[torch.Tensor]) -> dict[str, Any]:
    """Return boxes (n, 4) and probabilities (n, K) in batch layout."""
    rows = [torch.cat([torch.full((len(one), 1), float(at)), one], 1) for at, one in enumerate(boxes)]
    return count_taught({BOXES: torch.cat(rows), PROBABILITIES: torch.cat(list(probabilities))})


def drawn(images: int, each: int, num_classes: int, device: torch.device) -> dict[str, Any]:
    """Return random teacher boxes, *each* of *images*, in batch layout, for benchmarks."""
    found = told(
        [torch.tensor([[0.5, 0.5, 0.2, 0.2]] * each)] * images, [torch.full((each, num_classes), 0.5)] * images
    )
    return {name: one.to(device) if isinstance(one, torch.Tensor) else one for name, one in found.items()}
