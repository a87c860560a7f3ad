"""Resize a teacher's input, and map its outputs to the student's grid."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import adaptive_max_pool2d, interpolate

from retort.constants import HEAD_LEVELS, LEVEL_STRIDES, Level
from retort.errors import TeacherMismatch
from retort.losses import Loss
from retort.training.architecture import head_levels
from retort.training.criterion import make_anchors
from retort.training.distillation.feature_taps import Decoder, Raw
from retort.training.distillation.teacher import MemoryPool, Teacher, TeacherOutput, confidence

if TYPE_CHECKING:
    from torch import Tensor

STRIDES = {level: LEVEL_STRIDES[level] for level in HEAD_LEVELS}
"""Of every network whose input can be resized, in pixels of that input."""


def paired_levels(ratio: Fraction) -> dict[Level, Level]:
    """Return the teacher's level for each of the student's levels.

    The teacher's image is *ratio* times as large. A teacher's level of stride s has the stride s / ratio in the
    student's pixels; the nearest on a logarithmic scale is taken. The backbone's last layer has no neighbours and stays
    with its like.
    """
    pairs = {
        student: min(HEAD_LEVELS, key=lambda theirs: abs(math.log(STRIDES[theirs] / ratio / stride)))
        for student, stride in STRIDES.items()
    }
    return {Level.BACKBONE: Level.BACKBONE, **pairs}


def check_same_grid(losses: tuple[Loss, ...], labels: list[str], ratio: Fraction) -> None:
    """Refuse losses that need equal anchor grids, where grids differ.

    They pair anchors one by one, so strides must be equal in the student's pixels at all levels.

    Raises:
        TeacherMismatch: a loss needs the same grid, and the teacher has another one.

    """
    pairs = paired_levels(ratio)
    if all(STRIDES[teacher] == STRIDES[student] * ratio for student, teacher in pairs.items() if student in STRIDES):
        return
    for label, loss in zip(labels, losses, strict=True):
        if loss.needs_same_grid and not loss.falls_back():
            message = (
                f"the loss {label} needs a teacher that sees the images in the student's size, not {ratio} times it"
            )
            raise TeacherMismatch(message, hint="use box_giou, which compares decoded boxes")


def check_resizable(ratio: Fraction, *networks: Any) -> None:
    """Refuse to resize a teacher's answers where a head reads unusual levels.

    Raises:
        TeacherMismatch: the teacher's input has another size, and one of *networks* has other levels than P3 to P5.

    """
    odd = [levels for levels in map(head_levels, networks) if levels != HEAD_LEVELS]
    if ratio != 1 and odd:
        message = f"a network with the levels {', '.join(odd[0])} needs a teacher that sees images in the same size"
        raise TeacherMismatch(message, hint="leave the teacher's imgsz out")


class ResizedTeacher:
    """Teacher that sees images *ratio* times as large as its student.

    *teacher* is asked about the same images, and its answers are laid on the student's grid. Feature maps are
    interpolated. What the head says is not: a box between two objects' boxes belongs to neither, and a class between
    two anchors' belongs to no box. Each of the student's anchors is answered by one of the teacher's, for classes and
    box alike: the nearest or, where the teacher's grid is finer, the most confident of those whose cells overlap the
    student's. So the peaks of a one2one branch survive, and every box keeps its own class.
    """

    def __init__(self, teacher: Teacher, ratio: Fraction) -> None:
        self._teacher = teacher
        self.ratio = ratio
        self.pairs = paired_levels(ratio)
        self._decode = Decoder(torch.tensor([float(STRIDES[level]) for level in HEAD_LEVELS]))

    def __getattr__(self, name: str) -> Any:
        """Be the teacher in everything else: its network, names and precision."""
        return getattr(self._teacher, name)

    def prepare(self, number: int, height: int, width: int, pool: MemoryPool | None = None) -> None:
        """Prepare the teacher for images of the student's size."""
        self._teacher.prepare(number, int(height * self.ratio), int(width * self.ratio), pool)

    @torch.no_grad()
    def __call__(self, images: Tensor, *, reuse_buffers: bool = False) -> TeacherOutput:
        """Answer for *images* (N, 3, H, W) in 0..1, given in the student's size."""
        output = self._teacher(resize(images, self.ratio), reuse_buffers=reuse_buffers)
        side = (images.shape[-2], images.shape[-1])
        grids = {level: (side[0] // stride, side[1] // stride) for level, stride in STRIDES.items()}
        branches = {name: self._branch(raw, grids) for name, raw in output.branches.items()}
        return TeacherOutput(
            features={
                student: fit_map(output.features[teacher], grids.get(student, grids[Level.P5]))
                for student, teacher in self.pairs.items()
                if teacher in output.features
            },
            branches=branches,
            confidence=confidence(branches.values(), self._teacher.known) if branches else {},
        )

    def _branch(self, raw: Raw, grids: Mapping[Level, tuple[int, int]]) -> Raw:
        """Return a branch on the student's grid; its boxes as distances without bins, in the student's strides."""
        predicted = self._decode(raw, None)
        corners = predicted.boxes.transpose(1, 2) / float(self.ratio)  # N 4 A, in the student's pixels
        shapes = [tuple(feature.shape[-2:]) for feature in raw["feats"]]
        sizes = [height * width for height, width in shapes]
        levels = list(zip(torch.split(raw["scores"], sizes, -1), torch.split(corners, sizes, -1), shapes, strict=True))
        scores, boxes = [], []
        for student in HEAD_LEVELS:
            all_scores, all_boxes, shape = levels[HEAD_LEVELS.index(self.pairs[student])]
            known = self._teacher.known
            counting = all_scores if known is None else all_scores.index_select(1, known)
            chosen = source_anchors(counting.amax(1), shape, grids[student])  # N A'
            scores.append(_take(all_scores, chosen))
            boxes.append(_take(all_boxes, chosen))
        feats = [raw["scores"].new_empty(len(corners), 0, *grids[level]) for level in HEAD_LEVELS]  # for their shapes
        return {"boxes": _distances(torch.cat(boxes, -1), feats), "scores": torch.cat(scores, -1), "feats": feats}


def resize(images: Tensor, ratio: Fraction) -> Tensor:
    """Return *images* (N, 3, H, W) resized *ratio* times, bilinear.

    They are antialiased where they shrink.
    """
    size = [int(side * ratio) for side in images.shape[-2:]]
    return interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=ratio < 1)


def fit_map(features: Tensor, grid: tuple[int, int]) -> Tensor:
    """Interpolate *features* (N, C, H, W) to *grid*.

    They are antialiased where they shrink. An equal grid is left alone.
    """
    if tuple(features.shape[-2:]) == grid:
        return features
    x = features.float()  # antialiasing has no half-precision kernel on every device
    return interpolate(x, size=grid, mode="bilinear", align_corners=False, antialias=grid[0] < x.shape[-2])


def source_anchors(confidences: Tensor, shape: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Return the source anchor for each cell of *grid*.

    A map of *shape* answers for the cells: (N, A) to (N, A'). It is the nearest, or the most confident of those under
    the cell where *shape* is finer than *grid*.
    """
    if grid[0] < shape[0]:
        maps = confidences.float().reshape(-1, 1, *shape)
        _, found = adaptive_max_pool2d(maps, grid, return_indices=True)
        return found.flatten(1)
    rows, columns = (
        ((torch.arange(cells, device=confidences.device) + 0.5) * (there / cells)).long()
        for cells, there in zip(grid, shape, strict=True)
    )
    return (rows[:, None] * shape[1] + columns).flatten().expand(len(confidences), -1)


def _take(values: Tensor, chosen: Tensor) -> Tensor:
    """Gather anchors: (N, K, A) and (N, A') to (N, K, A')."""
    return values.gather(-1, chosen[:, None].expand(-1, values.shape[1], -1))


def _distances(corners: Tensor, feats: list[Tensor]) -> Tensor:
    """Return corners (N, 4, A) in pixels as a head without bins gives them: sides' distances in strides, (N, 4, A)."""
    strides = [float(STRIDES[level]) for level in HEAD_LEVELS]
    anchors, scales = make_anchors([feat.float() for feat in feats], strides, 0.5)  # A 2, A 1
    points, cells = anchors.T, corners / scales.T
    return torch.cat([points - cells[:, :2], cells[:, 2:] - points], 1)


def ratio_of(teacher: int | None, student: int) -> Fraction:
    """Return the teacher's image side over the student's.

    A side of None is the student's.
    """
    return Fraction(teacher or student, student)
