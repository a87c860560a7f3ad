"""Check on real tensors that distillation works, before and during training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from retort.errors import NotDistilling
from retort.losses import FeatureLoss
from retort.training.distillation.objective import projector_key
from retort.training.health.metrics import first_teacher, forward_pass, gradient, preserve_state, trainable

if TYPE_CHECKING:
    from torch import Tensor, nn

    from retort.training.distillation.distiller import Distiller, TeacherSlot

LEAST_SHARE = 1e-6
"""Norm of a term's gradient, before its weight, over the task's: what is smaller is lost in the rounding of a sum."""
MAGNIFIED = 1024.0
"""Factor on losses whose gradients are measured: under mixed precision small ones would vanish in half."""


class LivenessChecks:
    """Liveness checks of one training.

    A broken check raises NotDistilling, which says what broke and what to change. Every check uses values of its own
    process only, so that each rank of a parallel training may call it.
    """

    def __init__(self, model: Distiller) -> None:
        self._checksums = [checksum(one.teacher.model) for one in model.slots]

    def start(self, model: Distiller, optimizer: Any) -> None:
        """Check before the first step who is trained and who is not."""
        check_optimizer(model, optimizer)
        self._check_teachers(model)

    def first_batch(self, model: Distiller, batch: dict[str, Any]) -> None:
        """Check on the first batch that every term and projector carries gradient."""
        check_gradients(model, batch)
        self._check_teachers(model)

    def _check_teachers(self, model: Distiller) -> None:
        for one, expected in zip(model.slots, self._checksums, strict=True):
            check_teacher(one.teacher.model, expected)

    def epoch(self, model: Distiller, items: Mapping[str, float]) -> None:
        """Check an epoch by the means of its loss items.

        They are labelled as by ``Distiller.loss``.
        """
        _, spec = first_teacher(model)
        weights = {label: loss.weight for label, loss in zip(spec.labels, spec.losses, strict=True)}
        check_terms(items, weights)
        self._check_teachers(model)


def check_optimizer(model: Distiller, optimizer: Any) -> None:
    """Insist that the optimizer trains student and projectors only.

    It has to train all of them, and nothing of the teacher.

    Raises:
        NotDistilling: it does not.

    """
    rates = {
        id(parameter): max(group["lr"], group.get("initial_lr", 0.0))
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for name, parameter in model.projectors.named_parameters():
        if rates.get(id(parameter), 0.0) <= 0 or not parameter.requires_grad:
            raise NotDistilling(
                f"the projector {name} is not trained: it has no learning rate above 0, or requires no gradient",
                hint="every projector's parameters belong into the optimizer; report this, it is not the spec's fault",
            )
    if not any(rates.get(id(parameter), 0.0) > 0 for parameter in trainable(model.student_model)):
        raise NotDistilling("nothing of the student is trained", hint="a learning rate above 0")
    if any(id(parameter) in rates for one in model.slots for parameter in one.teacher.model.parameters()):
        raise NotDistilling(
            "the optimizer holds parameters of the teacher",
            hint="the teacher must stay outside the module that is trained; report this, it is not the spec's fault",
        )


def check_teacher(teacher: nn.Module, expected: int) -> None:
    """Insist that the network *teacher* is frozen and unchanged.

    It is in eval mode, without gradient, and byte for byte what it was.

    Raises:
        NotDistilling: it is not.

    """
    training = [name or "itself" for name, module in teacher.named_modules() if module.training]
    if training:
        raise NotDistilling(
            f"the teacher is in train mode ({len(training)} modules, such as {training[0]})",
            hint="call eval() on the teacher, and train() never: its answers would depend on the batch",
        )
    if any(parameter.requires_grad or parameter.grad is not None for parameter in teacher.parameters()):
        raise NotDistilling(
            "gradients reach the teacher", hint="the teacher's parameters must not require gradients, nor hold any"
        )
    if checksum(teacher) != expected:
        raise NotDistilling("the teacher's weights have changed", hint="nothing may write to the teacher")


def check_gradients(model: Distiller, batch: dict[str, Any]) -> dict[str, float]:
    """Insist that each term's gradient reaches student and projectors.

    Each term is above zero, moves the student, and reaches its projectors. No trace is left. A term is measured before
    its weight and schedule: those are wishes, and what becomes of them is judged each epoch.

    Returns:
        The norm of each term's gradient with respect to the student, over the task's.

    Raises:
        NotDistilling: a term teaches nothing.

    """
    shares: dict[str, float] = {}
    with preserve_state(model):
        forward = forward_pass(model, batch)
        task = float(gradient(forward.task * MAGNIFIED, trainable(model.student_model)).norm())
        for one, output in zip(model.slots, forward.teacher_outputs, strict=True):
            found = _check_teacher_output(model, one, (forward.features, forward.branches, output), task)
            shares |= {label: min(share, shares.get(label, share)) for label, share in found.items()}
    return shares


def _check_teacher_output(
    model: Distiller, one: TeacherSlot, seen: tuple[Any, Any, Any], task: float
) -> dict[str, float]:
    """Check the terms under one teacher; return each one's share."""
    spec, own = one.objective, one.adapters(model.projectors)
    shares: dict[str, float] = {}
    for index, (label, loss, term) in enumerate(zip(spec.labels, spec.losses, spec.terms(*seen, own), strict=True)):
        if loss.weight == 0:
            continue
        check_value(label, float(term.detach()))
        length = float(gradient(term * MAGNIFIED, trainable(model.student_model)).norm())
        shares[label] = _share(label, length, task)
        for level in loss.levels if isinstance(loss, FeatureLoss) else ():
            _check_projector(own, projector_key(index, level), term)
    if any(parameter.grad is not None for parameter in one.teacher.model.parameters()):
        raise NotDistilling("gradients reach the teacher", hint="the teacher must be asked without gradient")
    return shares


def check_terms(items: Mapping[str, float], weights: Mapping[str, float]) -> None:
    """Insist that each weighted term was above zero in an epoch.

    The mean of an epoch that distilled counts.

    Args:
        items: means by label: ``kd/<label>`` of each term, and the schedule's as ``kd/weight``.
        weights: of each term, by label.

    Raises:
        NotDistilling: one was not.

    """
    if not items.get("kd/weight", 0.0) > 0:
        return
    for label, weight in weights.items():
        if weight > 0:
            check_value(label, items.get(f"kd/{label}", 0.0))


def check_value(label: str, value: float) -> None:
    """Insist that a term's value is finite and above zero."""
    if not math.isfinite(value):
        raise NotDistilling(
            f"the distillation term {label} is not finite", hint="a teacher in float32 (amp: false), or another loss"
        )
    if value <= 0:
        raise NotDistilling(
            f"the distillation term {label} is {value:g}: it teaches nothing",
            hint="a teacher that differs from the student and knows its classes, or another loss",
        )


def check_rank(teacher_map: float | None, student_map: float | None, *, refuse: bool) -> str | None:
    """Insist that the teacher's mAP is not below the student's.

    Both count at the start; None where either was not measured.

    Returns:
        What to warn of.

    Raises:
        NotDistilling: it is below, and *refuse* says so.

    """
    if teacher_map is None or student_map is None or teacher_map >= student_map:
        return None
    said = f"the teacher is weaker than its student: mAP50-95 {teacher_map:.3f} against {student_map:.3f}"
    if refuse:
        hint = (
            "a better teacher, or one fine-tuned on this data (retort advise compares candidates); "
            "distillation.weak_teacher: warn trains all the same"
        )
        raise NotDistilling(said, hint=hint)
    return said


@torch.no_grad()
def checksum(module: nn.Module) -> int:
    """Sum the bytes of all weights and buffers.

    Each tensor counts by its place; one number leaves the device.
    """
    sums = [
        tensor.contiguous().flatten().view(torch.uint8).sum(dtype=torch.int64) * place
        for place, tensor in enumerate(module.state_dict().values(), start=1)
        if tensor.numel()
    ]
    return int(torch.stack(sums).sum()) if sums else 0


def _share(label: str, term: float, task: float) -> float:
    if not math.isfinite(term):
        raise NotDistilling(f"the gradient of the distillation term {label} is not finite", hint="amp: false")
    if term <= LEAST_SHARE * task:
        raise NotDistilling(
            f"the distillation term {label} does not change the student's gradient: {term:.1e} against {task:.1e}",
            hint="another loss, or a teacher that sees something in these images",
        )
    return term / task if task else math.inf


def _check_projector(projectors: nn.ModuleDict, key: str, term: Tensor) -> None:
    parameters = trainable(projectors[key]) if key in projectors else []
    if not parameters:
        return
    length = float(gradient(term * MAGNIFIED, parameters).norm())
    if not math.isfinite(length):
        raise NotDistilling(f"the gradient of the projector {key} is not finite", hint="amp: false")
    if length == 0:
        raise NotDistilling(
            f"no gradient reaches the projector {key}", hint="the loss must compare features behind the projector"
        )
