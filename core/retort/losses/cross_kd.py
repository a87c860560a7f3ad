"""Cross-head distillation (Wang et al., CrossKD, CVPR 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from retort.losses.base import ClassBalance, CrossedLoss, Predictions, divergence_sum, focal_sum, giou, wide

if TYPE_CHECKING:
    from torch import Tensor


class CrossKD(CrossedLoss):
    """The teacher's head, fed with the student's intermediate head features x, must say what it says to its own.

    ``sum w_c |p_t - p_x|^beta BCE(p_x, p_t) / max(1, sum_i max_c p_t) + box_weight * sum_i w_i D_i / sum_i w_i`` with
    ``w_i = max_c w_c p_t``; w_c weighs the classes (``Predictions.class_weights``), 1 without ``class_balance``. D is
    the mean over sides of ``KL(d_t || d_x)``, or ``1 - GIoU(b_x, b_t)`` where the teacher's head has no distance bins.
    The student's own head is left to the ground truth.
    """

    kind: Literal["cross_kd"] = "cross_kd"

    needs_same_grid: ClassVar[bool] = True

    beta: float = Field(default=1.0, ge=0, le=4)
    """Power of the difference in probability that weights each class of each anchor."""
    box_weight: float = Field(default=4.0, ge=0, le=100)
    """Factor of the boxes' part; the classes' part has 1."""
    class_balance: ClassBalance = 0.0
    """0 leaves each class the share that its objects have, 1 gives all classes the same."""

    def __call__(self, student: Predictions, teacher: Predictions) -> Tensor:
        confident = teacher.confidence(self.class_balance)  # N A
        if teacher.distances.shape[-1] > 1:
            apart = divergence_sum(student.distances, teacher.distances, confident, 1.0)
        else:
            apart = (confident * (1 - giou(wide(student.boxes), wide(teacher.boxes)))).sum()
        cells = focal_sum(student.scores, teacher, temperature=1.0, beta=self.beta, class_balance=self.class_balance)
        classes = cells / teacher.confidence().sum().clamp(min=1)
        return classes + self.box_weight * apart / confident.sum().clamp(min=1e-9)
