"""Localisation distillation of box distance distributions (Zheng et al., LD, CVPR 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from retort.errors import ModelError
from retort.losses.base import HeadLoss, Predictions, divergence, wide

if TYPE_CHECKING:
    from torch import Tensor


class Dfl(HeadLoss):
    """KL between the softmaxes over distance bins of each box side, weighted by the teacher's confidence.

    ``temperature^2 * sum_i w_i mean_sides KL(d_t || d_s) / sum_i w_i`` with ``w_i = max_c p_t``. Both heads need the
    same number of bins; YOLO26 has none.
    """

    kind: Literal["dfl"] = "dfl"
    temperature: float = Field(default=1.0, gt=0, le=20)
    """Softens both distributions before they are compared."""

    needs_classes: ClassVar[bool] = True
    needs_bins: ClassVar[bool] = True
    needs_same_grid: ClassVar[bool] = True

    def __call__(self, student: Predictions, teacher: Predictions) -> Tensor:
        bins = student.distances.shape[-1], teacher.distances.shape[-1]
        if bins[0] != bins[1] or min(bins) < 2:  # unequal bins would broadcast, a single one would always agree
            message = (
                f"the loss dfl needs equal numbers of distance bins; student and teacher have {bins[0]} and {bins[1]}"
            )
            raise ModelError(message, hint="use box_giou, which compares decoded boxes")
        per_anchor = divergence(student.distances, teacher.distances, self.temperature).mean(-1)  # N A
        weight = wide(teacher.scores).sigmoid().amax(-1)
        return (weight * per_anchor).sum() / weight.sum().clamp(min=1e-9)
