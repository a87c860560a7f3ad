"""A frozen detector of any kind that is asked for boxes in each step."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch

from retort.constants import LEVEL_STRIDES
from retort.training.architecture import head_levels
from retort.training.distillation.boxes import TeacherBoxes, boxes_of, cover
from retort.training.distillation.teacher import TeacherOutput
from retort.training.distillation.teacher_resize import resize

if TYPE_CHECKING:
    from torch import Tensor

    from retort.training.teachers.base import BoxNetwork


class BoxTeacher:
    """Teacher that answers with boxes, asked about the student's images.

    With a *ratio* other than 1 it sees them so many times as large. It waits for the device: non-maximum suppression
    keeps as many boxes as there are. On a device that records kernels, it is not recorded.
    """

    recording = None
    """There is none of its kernels."""

    def __init__(self, model: BoxNetwork, student: Any, *, device: torch.device, ratio: Fraction = Fraction(1)) -> None:
        self.model = model.eval().requires_grad_(requires_grad=False).to(device)
        self.names = dict(model.names)
        self.known: Tensor | None = None
        """Classes that the student has too; None for all."""
        self.ratio = ratio
        self.drawn: int | None = None
        """Boxes of each image that are made up instead, where memory is counted and nothing computed."""
        self._levels = head_levels(student)

    @torch.no_grad()
    def __call__(self, images: Tensor, *, reuse_buffers: bool = False) -> TeacherOutput:
        """Answer for *images* (N, 3, H, W) in 0..1, in their pixels.

        Without *reuse_buffers*, a map of each of the student's levels says where the boxes are, by their confidence.
        """
        if self.drawn is not None:
            return TeacherOutput({}, {}, {}, boxes=self._made_up(images, self.drawn))
        with torch.autocast(images.device.type, enabled=False):
            seen = images.float() if self.ratio == 1 else resize(images.float(), self.ratio)
            raw = self.model(seen)
        raw = torch.cat([raw[:, :4] / float(self.ratio), raw[:, 4:]], 1)
        boxes = boxes_of(raw)
        if reuse_buffers:
            return TeacherOutput({}, {}, {}, boxes=boxes)
        height, width = images.shape[-2:]
        grids = {level: (height // LEVEL_STRIDES[level], width // LEVEL_STRIDES[level]) for level in self._levels}
        return TeacherOutput({}, {}, cover(boxes.of_classes(self.known), len(images), grids), boxes=boxes)

    def _made_up(self, images: Tensor, number: int) -> TeacherBoxes:
        rows = images.new_zeros(len(images) * number, 4 + len(self.names), dtype=torch.float32)
        owners = torch.arange(len(images), device=images.device).repeat_interleave(number)
        return TeacherBoxes(owners, rows[:, :4], rows[:, 4:], most=number, candidates=None)

    def answer_in(self, dtype: torch.dtype) -> None:
        """Do nothing: its precision is fixed."""

    def prepare(self, *_: Any) -> None:
        """Do nothing: its kernels are not recorded."""
