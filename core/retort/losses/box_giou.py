"""Box distillation by generalised IoU (Yang et al., BCKD, ICCV 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from retort.losses.base import HeadLoss, Predictions, giou, wide

if TYPE_CHECKING:
    from torch import Tensor


class BoxGIoU(HeadLoss):
    """``sum_i w_i (1 - GIoU(b_s, b_t)) / max(1, sum_i max_c p_t)`` with ``w_i = max_c |p_t - p_s|``, no gradient in w.

    Compares decoded boxes, so it works with and without DFL and between heads of different bin counts.
    The divisor is the teacher's confidence mass, the soft count of its positives, as in ``class_logits``.
    GIoU: Rezatofighi et al., CVPR 2019.
    """

    kind: Literal["box_giou"] = "box_giou"

    needs_classes: ClassVar[bool] = True
    needs_boxes: ClassVar[bool] = True

    def __call__(self, student: Predictions, teacher: Predictions) -> Tensor:
        p_t = wide(teacher.scores).sigmoid()
        weight = (p_t - wide(student.scores).sigmoid()).abs().amax(-1).detach()  # N A
        mass = p_t.amax(-1).sum().clamp(min=1)
        return (weight * (1 - giou(wide(student.boxes), wide(teacher.boxes)))).sum() / mass
