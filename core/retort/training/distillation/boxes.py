"""Boxes of a teacher, and what they are on the student's anchors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from retort.constants import LEVEL_STRIDES, Level
from retort.losses import Predictions
from retort.training.inference import IOU
from retort.training.sync_free import Assigner, most_candidates
from retort.training.ultralytics_api import nms, ops

if TYPE_CHECKING:
    from torch import Tensor

LEAST_SCORE = 0.05
"""Boxes whose most probable class is less probable teach nothing."""
MOST_BOXES = 300
"""Of an image."""
_LEAST = 1e-9
"""Probability of a class where no box is: as a logit about -21."""


@dataclass(frozen=True, slots=True)
class TeacherBoxes:
    """Boxes of a teacher for a batch, with the probabilities of its classes."""

    image: Tensor
    """Which image of the batch each is of, (M,) int64."""
    corners: Tensor
    """x1, y1, x2, y2 in the student's input pixels, (M, 4)."""
    probabilities: Tensor
    """Of the teacher's classes, in 0..1, (M, K)."""
    most: int | None = None
    """Boxes of the image that has most; None asks the device, which waits."""
    candidates: int | None = None
    """Anchors within boxes at most (``most_candidates``); None asks the device, which waits."""

    def counted(self, shape: tuple[int, int], strides: Sequence[float]) -> TeacherBoxes:
        """Return the boxes with both bounds, counted while they are in the host's memory.

        *shape* is height and width of the student's input in pixels, *strides* are those of its levels.
        """
        assert self.corners.device.type == "cpu", "counted before they are copied to a device"
        sides = (self.corners[:, 2:] - self.corners[:, :2]).double() / torch.tensor([shape[1], shape[0]])
        most = int(self.image.bincount().max()) if len(self.image) else 0
        least = float(strides[min(1, len(strides) - 1)])
        return replace(self, most=most, candidates=max(1, most_candidates(sides.numpy(), shape, strides, least)))

    def to(self, device: torch.device) -> TeacherBoxes:
        """Return the boxes on *device*."""
        image, corners, probabilities = (
            one.to(device, non_blocking=True) for one in (self.image, self.corners, self.probabilities)
        )
        return replace(self, image=image, corners=corners, probabilities=probabilities)

    def of_classes(self, classes: Tensor | None) -> TeacherBoxes:
        """Return the boxes with the probabilities of *classes* only.

        These are indices in the wanted order; None keeps all.
        """
        return self if classes is None else replace(self, probabilities=self.probabilities.index_select(1, classes))


def boxes_of(raw: Tensor) -> TeacherBoxes:
    """Return the boxes of raw output (N, 4 + K, A) after non-maximum suppression.

    It goes class by class. Each box keeps the probabilities of all classes. They have ``LEAST_SCORE`` at least, and
    there are ``MOST_BOXES`` of an image at most, the most certain.
    """
    raw = raw.float()
    _, kept = nms.non_max_suppression(raw, LEAST_SCORE, IOU, max_det=MOST_BOXES, max_time_img=10.0, return_idxs=True)
    counts = torch.tensor([len(places) for places in kept], device=raw.device)
    image = torch.arange(len(raw), device=raw.device).repeat_interleave(counts)
    rows = raw[image, :, torch.cat([places.flatten().long() for places in kept])]  # M 4+K
    most = max((len(places) for places in kept), default=0)
    return TeacherBoxes(image, ops.xywh2xyxy(rows[:, :4]), rows[:, 4:].clamp(0, 1), most)


def as_predictions(
    boxes: TeacherBoxes, student: Predictions, assigner: Assigner, points: Tensor, classes: Tensor | None = None
) -> Predictions:
    """Return *boxes* as dense predictions on the anchors of *student*.

    The task-aligned *assigner* (Feng et al., TOOD, ICCV 2021) assigns anchors to the boxes as it does to labels, each
    box as one of its most probable class. An assigned anchor gets the box and, as class probabilities, the box's times
    the normalised alignment. All other anchors get probability 0 and the student's own box, from which nothing is
    apart.

    Args:
        boxes: of all images of the batch, in any order.
        student: with boxes, (N, A, 4), reduced to the K classes that both name.
        assigner: with the settings of the branch's own; its bound of candidates is set anew.
        points: centres of the anchors in pixels, (A, 2).
        classes: the teacher's K classes that the student has too, in the student's order; None for all.

    """
    labels, corners, probabilities, known = _padded(boxes.of_classes(classes), len(student.scores))
    own = student.boxes.detach().float()
    scores = student.scores.detach().float().sigmoid()
    assigner.most = boxes.candidates
    _, given, aligned, _, source = assigner(scores, own, points.float(), labels, corners, known)
    taken = probabilities.gather(1, source[..., None].expand(-1, -1, probabilities.shape[-1]))  # N A K
    alignment = aligned.sum(-1, keepdim=True)  # N A 1
    found = taken * alignment
    return Predictions(
        scores=found.clamp(_LEAST, 1 - 1e-6).logit(),
        boxes=torch.where(alignment > 0, given, own),
        distances=own.new_zeros(1, 1, 4, 1),
    )


def listed(boxes: TeacherBoxes, number: int, classes: Tensor | None = None) -> Predictions:
    """Return *boxes* of *number* images as predictions, one per box.

    There are as many of each image as the fullest has; those that stand in have probability 0. *classes* as in
    ``as_predictions``.
    """
    _, corners, probabilities, _ = _padded(boxes.of_classes(classes), number)
    scores = probabilities.clamp(_LEAST, 1 - 1e-6).logit()
    return Predictions(scores=scores, boxes=corners, distances=corners.new_zeros(1, 1, 4, 1))


def _padded(boxes: TeacherBoxes, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return labels (N, B, 1), corners (N, B, 4), probabilities (N, B, K), and which are boxes (N, B, 1).

    N is the *number* of images and B the boxes of the fullest.
    """
    order = boxes.image.argsort(stable=True)
    images, corners = boxes.image[order], boxes.corners[order].float()
    probabilities = boxes.probabilities[order].float()
    counts = images.new_zeros(number + 1).index_add_(0, images + 1, torch.ones_like(images))
    most = boxes.most if boxes.most is not None else int(counts.max())
    place = torch.arange(len(images), device=images.device) - counts.cumsum(0)[images]
    best, labels = probabilities.max(-1)
    sure = (best >= LEAST_SCORE).float()[:, None]
    found = []
    for values in (labels[:, None], corners, probabilities, sure):
        padded = values.new_zeros(number, max(1, most), values.shape[1])
        padded[images, place] = values
        found.append(padded)
    labels, corners, probabilities, known = found
    return labels, corners, probabilities, known


def cover(boxes: TeacherBoxes, number: int, grids: Mapping[Level, tuple[int, int]]) -> dict[Level, Tensor]:
    """Return the highest box probability at each cell, by level.

    Maps are (N, 1, H, W). *grids* are the cells of each level of the student, for *number* images. It stands for a
    confidence where pictures and probes show one.
    """
    best = boxes.probabilities.float().amax(-1) if len(boxes.image) else boxes.corners.new_zeros(0)
    found = {}
    for level, (height, width) in grids.items():
        stride = LEVEL_STRIDES.get(level, LEVEL_STRIDES[Level.P5])
        rows, columns = ((torch.arange(n, device=best.device) + 0.5) * stride for n in (height, width))
        x1, y1, x2, y2 = boxes.corners.float().unbind(-1)
        inside = ((rows >= y1[:, None]) & (rows <= y2[:, None]))[:, :, None]
        inside = inside & ((columns >= x1[:, None]) & (columns <= x2[:, None]))[:, None]  # M H W
        values = (inside * best[:, None, None]).flatten(1)
        flat = values.new_zeros(number, height * width)
        flat = flat.scatter_reduce(0, boxes.image[:, None].expand_as(values), values, "amax")
        found[level] = flat.reshape(number, 1, height, width)
    return found


def same_assigner(criterion: Any) -> Assigner:
    """Return an assigner with the settings of a branch's *criterion*."""
    return Assigner.like(criterion.assigner)
