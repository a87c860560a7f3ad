"""Binary class distillation for sigmoid heads (Yang et al., BCKD, ICCV 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from retort.losses.base import ClassBalance, HeadLoss, Predictions, focal_sum

if TYPE_CHECKING:
    from torch import Tensor


class ClassLogits(HeadLoss):
    """Quality-weighted binary cross-entropy to the teacher's class probabilities, over all anchors.

    ``sum w_c |p_t - p_s|^beta * BCE(p_s, p_t) / max(1, sum_i max_c p_t)`` with ``p = sigmoid(z / temperature)``, times
    temperature squared. w_c weighs the classes (``Predictions.class_weights``), 1 without ``class_balance``. The
    divisor is the teacher's confidence mass, the soft count of its positives (the paper divides by assigned positives);
    it needs no labels.
    """

    kind: Literal["class_logits"] = "class_logits"
    temperature: float = Field(default=1.0, gt=0, le=2)
    """Above 1 the background drowns the foreground: 8400 anchors against a few positives."""
    beta: float = Field(default=1.0, ge=0, le=4)
    """Power of the difference in probability that weights each class of each anchor."""
    class_balance: ClassBalance = 0.0
    """0 leaves each class the share that its objects have, 1 gives all classes the same."""

    needs_classes: ClassVar[bool] = True

    def __call__(self, student: Predictions, teacher: Predictions) -> Tensor:
        found = focal_sum(
            student.scores, teacher, temperature=self.temperature, beta=self.beta, class_balance=self.class_balance
        )
        return self.temperature**2 * found / teacher.confidence().sum().clamp(min=1)
