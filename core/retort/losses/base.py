"""Define the base classes and inputs of distillation losses.

Losses are values: they validate, serialise and appear in the JSON Schema. They receive tensors and import torch for
type checking only, so that the API validates a whole spec without it. One file declares one loss; writing the file
registers it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import AfterValidator, ConfigDict, Field

from retort.constants import HEAD_LEVELS, Level
from retort.schema import InputModel, distinct, require_tag

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class Predictions:
    """Raw outputs of one Detect branch over A anchors, the class axis reduced to the K classes both sides name."""

    scores: Tensor
    """Class logits, (N, A, K)."""
    boxes: Tensor
    """Decoded boxes x1, y1, x2, y2 in input pixels, (N, A, 4); empty where no loss needs them."""
    distances: Tensor
    """Logits over the R distance bins of each side, (N, A, 4, R); R = 1 is a head without DFL."""
    mass: Tensor | None = None
    """Mean over batches of each class's mass, (K,); None takes this batch's (``class_mass``)."""

    @cached_property
    def probabilities(self) -> Tensor:
        """Class probabilities, (N, A, K), in float32 or wider.

        They are a teacher's, whom several terms ask for them.
        """
        return wide(self.scores.detach()).sigmoid()

    def confidence(self, class_balance: float = 0.0) -> Tensor:
        """Return the highest class probability of each anchor, weighted by class where they are balanced: (N, A)."""
        if class_balance == 0:
            return wide(self.scores.amax(-1)).sigmoid()
        return (self.probabilities * self.class_weights(class_balance)).amax(-1)

    def class_mass(self) -> Tensor:
        """Return how much there is of each class in the batch, (K,): the sum of ``p_c^3`` over all anchors.

        Cubes, so that thousands of doubtful anchors make no mass; a sure anchor has the mass 1.
        """
        return self.probabilities.pow(3).sum((0, 1))

    def class_weights(self, class_balance: float) -> Tensor:
        """Return a weight for each class, (K,), by how much there is of it.

        ``w_c = m_c^-g sum m / sum m^(1-g)`` with the mass ``m_c`` of ``class_mass``, as a mean over batches where one
        is kept, and *class_balance* g: at 1 each class has the same share of the whole mass, which stays what it is.
        It is bounded by ``LEAST_CLASS_WEIGHT`` and ``LARGEST_CLASS_WEIGHT``, and taken by the share ``m_c / (m_c + 1)``
        of its way from 1, so that it is smooth in the mass and a class that is not there keeps weight 1. Inverse
        frequency as in class-balanced losses (Cui et al., CVPR 2019), with the teacher's predictions in place of
        labels: mAP is a mean over classes, whatever their numbers.
        """
        mass = self.class_mass() if self.mass is None else self.mass.to(wide(self.scores[:0]).dtype)
        return class_weights(mass, class_balance)


LEAST_CLASS_WEIGHT, LARGEST_CLASS_WEIGHT = 0.25, 10.0
"""A common class keeps a quarter of its say, and no rare one, which a few anchors would teach, gets more than this."""


def class_weights(mass: Tensor, class_balance: float) -> Tensor:
    """Return a weight for each class, (K,), by its *mass*, (K,), as ``Predictions.class_weights`` says."""
    mass = mass.clamp(min=1e-12)
    wanted = mass**-class_balance * mass.sum() / (mass ** (1 - class_balance)).sum()
    bounded = wanted.clamp(LEAST_CLASS_WEIGHT, LARGEST_CLASS_WEIGHT)
    return 1 + (bounded - 1) * mass / (mass + 1)


ClassBalance = Annotated[float, Field(ge=0, le=1)]
"""How far rare classes are raised, by ``Predictions.class_weights``: 0 weights anchors alike, 1 classes."""

Levels = Annotated[
    tuple[Annotated[Level, Field(strict=False)], ...],
    Field(min_length=1, strict=False, json_schema_extra={"uniqueItems": True}),
    AfterValidator(distinct),
]
"""Where to tap both networks, each level once."""


class Loss(InputModel, ABC):
    """One term of the distillation objective."""

    model_config = ConfigDict(json_schema_extra=require_tag("kind"))

    weight: float = Field(default=1.0, ge=0, le=1000)
    """Factor of the term; with a balance, its share of the task loss or of the task's gradient."""

    needs_classes: ClassVar[bool] = False
    """Whether teacher and student must have class names in common."""
    needs_boxes: ClassVar[bool] = False
    """Whether it compares decoded boxes."""
    needs_bins: ClassVar[bool] = False
    """Whether teacher and student must have distance bins (DFL), and the same number of them."""
    needs_same_grid: ClassVar[bool] = False
    """Whether the teacher's anchors must be the student's, one by one: it must see the images in the same size."""
    needs_dense: ClassVar[bool] = False
    """Whether the teacher must answer at every anchor: one that gives boxes alone cannot teach it."""

    def falls_back(self) -> bool:
        """Return True if it compares decoded boxes where bins or grids differ, instead of being refused."""
        return False


class HeadLoss(Loss):
    """Response-based: compares what the two Detect heads predict."""

    @abstractmethod
    def __call__(self, student: Predictions, teacher: Predictions) -> Tensor:
        """Return the scalar loss in float32 or wider; only *student* carries gradient."""


class CrossedLoss(HeadLoss):
    """Response-based, where *student* is what the teacher's head makes of the student's intermediate head features.

    Both sides have the teacher's bins, and its classes reduced to those that both networks name.
    """

    needs_classes: ClassVar[bool] = True

    def build(self, student_channels: int, teacher_channels: int) -> nn.Module:
        """Return the trainable adapter of one head branch at one level: a 1x1 convolution.

        It has no bias, which the alignment of means that follows would remove. It begins as the identity where the
        widths are equal, and elsewhere as a map that keeps lengths or projects, so that nothing is lost at the start.
        """
        from torch import nn

        adapter = nn.Conv2d(student_channels, teacher_channels, kernel_size=1, bias=False)
        begin = nn.init.dirac_ if student_channels == teacher_channels else nn.init.orthogonal_
        begin(adapter.weight)
        return adapter


def can_be_taught(loss: Loss) -> bool:
    """Return True if *loss* can compare a student with boxes alone.

    Terms on features, on the teacher's head, and on distance bins cannot, nor those on every anchor: most have no box.
    """
    if isinstance(loss, FeatureLoss | CrossedLoss) or loss.needs_dense:
        return False
    return not loss.needs_bins or loss.falls_back()


class FeatureLoss(Loss):
    """Feature-based: compares feature maps at the named levels."""

    levels: Levels = HEAD_LEVELS
    """Where to tap both networks."""

    needs_confidence: ClassVar[bool] = False
    """Whether it reads the teacher's confidence, for which the teacher's head must be computed."""

    def build(self, student_channels: int, teacher_channels: int) -> nn.Module:
        """Return the trainable projector from student to teacher channels: a single 1x1 convolution."""
        from torch import nn

        return nn.Conv2d(student_channels, teacher_channels, kernel_size=1)

    def through(self, projector: nn.Module, student: Tensor, teacher: Tensor, confidence: Tensor | None) -> Tensor:
        """Return the loss of student features (N, C_s, H, W) that have not been projected yet.

        For a loss that can do without the projected features, which are larger than all else that it computes.
        """
        return self(projector(student), teacher, confidence)

    def prepare(self, student: Tensor, generator: torch.Generator) -> Tensor:
        """Return what the projector reads in place of the student's features (N, C, H, W), of the same shape.

        Chance comes from *generator* alone, which lies on the features' device and is seeded for each step.
        """
        return student

    @abstractmethod
    def __call__(self, student: Tensor, teacher: Tensor, confidence: Tensor | None) -> Tensor:
        """Return the scalar loss of one level in float32 or wider; only *student* carries gradient.

        student: projected student features, (N, C, H, W)
        teacher: teacher features, (N, C, H, W)
        confidence: the teacher's highest class probability at each position, (N, 1, H, W); None where no loss needs it
        """


def wide(x: Tensor) -> Tensor:
    """Return *x* in float32 at least: sums of squares and areas in pixels leave the range of half precision."""
    return x.float() if x.dtype.itemsize < 4 else x


def soften(logits: Tensor, temperature: float) -> Tensor:
    """Return *logits* in float32 at least, over the temperature; a division by 1 would be a pass over memory."""
    return wide(logits) if temperature == 1 else wide(logits) / temperature


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL from the teacher's to the student's softmax over the last axis of logits: (..., R) to (...).

    Times temperature squared, so that the gradient's size does not depend on it (Hinton et al., 2015).
    """
    log_q, log_p = (soften(logits, temperature).log_softmax(-1) for logits in (student, teacher))
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(-1)


def standardise(features: Tensor, eps: float = 1e-6) -> Tensor:
    """Zero mean and unit variance for each channel over batch and space: (N, C, H, W) to the same.

    *eps* is added to the variance: a constant channel becomes zero, and its gradient stays finite.
    """
    x = wide(features)
    centred = x - x.mean((0, 2, 3), keepdim=True)
    return centred / (centred.square().mean((0, 2, 3), keepdim=True) + eps).sqrt()


def quality_focal(student: Tensor, teacher: Tensor, *, temperature: float, beta: float) -> Tensor:
    """``|p_t - p_s|^beta BCE(p_s, p_t)`` with ``p = sigmoid(z / temperature)``, for each logit: (...) to (...).

    Quality focal loss (Li et al., NeurIPS 2020) with the teacher's probability in place of the quality.
    """
    from torch.nn.functional import softplus

    z_s, p_t = soften(student, temperature), soften(teacher, temperature).sigmoid()
    gap = (p_t - z_s.sigmoid()).abs()
    if beta != 1:
        gap = gap.clamp(min=1e-12) ** beta  # a power below 1 has no gradient at 0
    return gap * (softplus(z_s) - z_s * p_t)


def focal_sum(
    student: Tensor, teacher: Predictions, *, temperature: float, beta: float, class_balance: float
) -> Tensor:
    """Return the sum of ``quality_focal`` over logits (N, A, K).

    Each class has its weight: ``Predictions.class_weights``.
    """
    weights = None if class_balance == 0 else teacher.class_weights(class_balance)
    if temperature == beta == 1:
        from retort import loss_gradients

        return loss_gradients.focal_sum(student, teacher.probabilities, weights)
    cells = quality_focal(student, teacher.scores, temperature=temperature, beta=beta)
    return cells.sum() if weights is None else (cells.sum((0, 1)) * weights).sum()


def divergence_sum(student: Tensor, teacher: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """Return the weighted sum of ``divergence`` over anchors, a mean over their sides.

    The logits are (N, A, 4, R), *weights* (N, A).
    """
    from retort import loss_gradients

    return loss_gradients.divergence_sum(student, teacher, weights, temperature)


def giou(a: Tensor, b: Tensor, eps: float = 1e-7) -> Tensor:
    """Generalised IoU of paired boxes x1, y1, x2, y2: (..., 4) and (..., 4) to (...), in -1..1.

    A box whose corners are crossed counts as empty; pixels need float32, whose areas do not overflow.
    Rezatofighi et al., CVPR 2019.
    """
    import torch

    overlap = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    area_a, area_b = ((box[..., 2:] - box[..., :2]).clamp(min=0).prod(-1) for box in (a, b))
    union = area_a + area_b - overlap
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    return overlap / (union + eps) - (hull - union) / (hull + eps)
