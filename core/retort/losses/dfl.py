"""Localisation distillation of box distance distributions (Zheng et al., LD, CVPR 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from retort.errors import TeacherMismatch
from retort.losses.base import ClassBalance, HeadLoss, Predictions, divergence_sum, giou, wide

if TYPE_CHECKING:
    from torch import Tensor


class Dfl(HeadLoss):
    """KL between the softmaxes over distance bins of each box side, weighted by the teacher's confidence.

    ``temperature^2 * sum_i w_i mean_sides KL(d_t || d_s) / sum_i w_i`` with
    ``w_i = max_c w_c p_t``; w_c weighs the classes (``Predictions.class_weights``), 1 without ``class_balance``. Both
    heads need the same number of bins, on the same grid; YOLO26 has none. Elsewhere it is refused or, with
    ``otherwise: giou``, D_i is ``1 - GIoU(b_t, b_s)`` in place of the KL.
    """

    kind: Literal["dfl"] = "dfl"
    temperature: float = Field(default=1.0, gt=0, le=20)
    """Softens both distributions before they are compared."""
    otherwise: Literal["refuse", "giou"] = "refuse"
    """What to do where the heads' distance bins or grids differ: refuse the job, or compare decoded boxes."""

    class_balance: ClassBalance = 0.0
    """0 leaves each class the share that its objects have, 1 gives all classes the same."""

    needs_classes: ClassVar[bool] = True
    needs_bins: ClassVar[bool] = True
    needs_same_grid: ClassVar[bool] = True

    def falls_back(self) -> bool:
        """Only where the spec says so."""
        return self.otherwise == "giou"

    def __call__(self, student: Predictions, teacher: Predictions) -> Tensor:
        weight = teacher.confidence(self.class_balance)  # N A
        bins = student.distances.shape[-1], teacher.distances.shape[-1]
        if bins[0] == bins[1] and min(bins) > 1:
            apart = divergence_sum(student.distances, teacher.distances, weight, self.temperature)
        elif self.falls_back():
            apart = (weight * (1 - giou(wide(student.boxes), wide(teacher.boxes)))).sum()
        else:  # unequal bins would broadcast, a single one would always agree
            message = (
                f"the loss dfl needs equal numbers of distance bins; student and teacher have {bins[0]} and {bins[1]}"
            )
            raise TeacherMismatch(message, hint="otherwise: giou, or box_giou, which compares decoded boxes")
        return apart / weight.sum().clamp(min=1e-9)
