"""A teacher that was asked ahead of time: its boxes come with the batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch

from retort.constants import LEVEL_STRIDES
from retort.errors import DataError
from retort.training.architecture import head_levels
from retort.training.data import taught_boxes
from retort.training.data.taught_boxes import load_cache
from retort.training.distillation.boxes import TeacherBoxes, cover
from retort.training.distillation.teacher import TeacherOutput
from retort.training.sync_free import most_candidates
from retort.training.teachers.base import BoxNetwork

if TYPE_CHECKING:
    from torch import Tensor


class CachedNetwork(BoxNetwork):
    """Stand-in for the network of a cached teacher: its classes."""

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__(names, "cached")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the network that has left the file *path*.

        Raises:
            DataError: the file is damaged.

        """
        return cls(dict(enumerate(load_cache(path).origin.names)))

    def forward(self, images: Tensor) -> Tensor:
        """Refuse: it was asked ahead of time, about other images.

        Raises:
            DataError: always.

        """
        del images
        raise DataError("a cached teacher answers for the images of its cache alone", hint="docs/teacher-cache.md")


class CachedTeacher:
    """Teacher whose cached boxes lie in the batch, without a forward pass."""

    recording = None
    """There is none: it computes nothing."""
    ratio = 1

    def __init__(self, model: CachedNetwork, student: Any) -> None:
        self.model, self.names = model.eval(), dict(model.names)
        self.known: Tensor | None = None
        """Classes that the student has too; None for all."""
        self._levels, self._strides = head_levels(student), [float(stride) for stride in student.stride]

    def __call__(self, images: Tensor, *, reuse_buffers: bool = False) -> TeacherOutput:
        """Refuse images without what was said of them (``said``).

        Raises:
            DataError: always.

        """
        del reuse_buffers
        self.model(images)
        raise AssertionError

    def said(self, batch: Mapping[str, Any], images: Tensor, *, brief: bool) -> TeacherOutput:
        """Return the cached output for *images* (N, 3, H, W) of *batch*, unlabelled last.

        Unless it is *brief*, a map of each of the student's levels says where the boxes are, by their confidence.
        """
        height, width = images.shape[-2:]
        rows, sides = batch[taught_boxes.BOXES], batch[taught_boxes.SIDES]
        size = torch.tensor([width, height], dtype=torch.float32).to(rows.device, non_blocking=True)
        middle, half = rows[:, 1:3] * size, rows[:, 3:5] * size / 2
        least = self._strides[min(1, len(self._strides) - 1)]
        boxes = TeacherBoxes(
            image=rows[:, 0].long(),
            corners=torch.cat([middle - half, middle + half], 1),
            probabilities=batch[taught_boxes.PROBABILITIES],
            most=batch[taught_boxes.MOST],
            candidates=max(1, most_candidates(sides, (height, width), self._strides, least)),
        )
        if brief:
            return TeacherOutput({}, {}, {}, boxes=boxes)
        grids = {level: (height // LEVEL_STRIDES[level], width // LEVEL_STRIDES[level]) for level in self._levels}
        return TeacherOutput({}, {}, cover(boxes.of_classes(self.known), len(images), grids), boxes=boxes)

    def answer_in(self, dtype: torch.dtype) -> None:
        """Do nothing: it computes nothing."""

    def prepare(self, *_: Any) -> None:
        """Do nothing: there are no kernels to record."""
