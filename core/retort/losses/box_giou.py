"""Box distillation by generalised IoU (Yang et al., BCKD, ICCV 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from retort.losses.base import HeadLoss, Predictions, wide

if TYPE_CHECKING:
    from torch import Tensor


class BoxGIoU(HeadLoss):
    """``sum_i w_i (1 - GIoU(b_s, b_t)) / max(1, sum_i max_c p_t)`` with ``w_i = max_c |p_t - p_s|``, no gradient in w.

    Compares decoded boxes, so it works with and without DFL and between heads of different bin counts.
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


def giou(a: Tensor, b: Tensor, eps: float = 1e-7) -> Tensor:
    """Generalised IoU of paired boxes x1, y1, x2, y2: (..., 4) and (..., 4) to (...), in -1..1.

    A box whose corners are crossed counts as empty; pixels need float32, whose areas do not overflow.
    """
    import torch

    overlap = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    area_a, area_b = ((box[..., 2:] - box[..., :2]).clamp(min=0).prod(-1) for box in (a, b))
    union = area_a + area_b - overlap
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    return overlap / (union + eps) - (hull - union) / (hull + eps)
