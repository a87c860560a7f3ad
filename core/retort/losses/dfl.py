"""Localisation distillation of box distance distributions (Zheng et al., LD, CVPR 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from retort.losses.base import HeadLoss, Predictions

if TYPE_CHECKING:
    from torch import Tensor


class Dfl(HeadLoss):
    """KL between the softmaxes over distance bins of each box side, weighted by the teacher's confidence.

    ``temperature^2 * sum_i w_i mean_sides KL(d_t || d_s) / sum_i w_i`` with ``w_i = max_c p_t``. Both heads need the
    same number of bins; YOLO26 has none.
    """

    kind: Literal["dfl"] = "dfl"
    temperature: float = Field(default=1.0, gt=0, le=20)

    needs_classes: ClassVar[bool] = True

    def __call__(self, student: Predictions, teacher: Predictions) -> Tensor:
        tau = self.temperature
        log_q = (student.distances / tau).log_softmax(-1)  # N A 4 R
        log_p = (teacher.distances / tau).log_softmax(-1)
        divergence = (log_p.exp() * (log_p - log_q)).sum(-1).mean(-1)  # N A
        weight = teacher.scores.sigmoid().amax(-1)
        return tau**2 * (weight * divergence).sum() / weight.sum().clamp(min=1e-9)
