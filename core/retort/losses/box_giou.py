"""Box distillation by generalised IoU (Yang et al., BCKD, ICCV 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from retort.losses.base import ClassBalance, HeadLoss, Predictions, giou, wide

if TYPE_CHECKING:
    from torch import Tensor


class BoxGIoU(HeadLoss):
    """``sum_i w_i (1 - GIoU(b_s, b_t)) / max(1, sum_i max_c p_t)`` with ``w_i = max_c w_c |p_t - p_s|``.

    No gradient in w; w_c weighs the classes (``Predictions.class_weights``), 1 without ``class_balance``.
    Compares decoded boxes, so it works with and without DFL and between heads of different bin counts.
    The divisor is the teacher's confidence mass, the soft count of its positives, as in ``class_logits``.
    GIoU: Rezatofighi et al., CVPR 2019.
    """

    kind: Literal["box_giou"] = "box_giou"

    class_balance: ClassBalance = 0.0
    """0 leaves each class the share that its objects have, 1 gives all classes the same."""

    needs_classes: ClassVar[bool] = True
    needs_boxes: ClassVar[bool] = True

    def __call__(self, student: Predictions, teacher: Predictions) -> Tensor:
        p_t = teacher.probabilities
        gap = (p_t - wide(student.scores.detach()).sigmoid()).abs()  # N A K
        if self.class_balance:
            gap = gap * teacher.class_weights(self.class_balance)
        mass = p_t.amax(-1).sum().clamp(min=1)
        return (gap.amax(-1) * (1 - giou(wide(student.boxes), wide(teacher.boxes)))).sum() / mass
