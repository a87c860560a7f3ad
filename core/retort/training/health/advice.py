"""Advise by health rule on changes of a job's spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from retort.losses import FeatureLoss, Loss
from retort.losses.class_logits import ClassLogits
from retort.losses.softmax_kl import SoftmaxKL
from retort.spec import DistillationSpec, TrainingSpec

LARGEST_WEIGHT = 1000.0
"""Of a loss in a spec."""
LARGEST_BETA = 4.0
"""Of ``class_logits`` in a spec."""
LEARNING_RATE = 1e-4
"""A careful one for AdamW, in place of ``optimizer: auto``."""


@dataclass(frozen=True, slots=True)
class Advice:
    """Advice of a health rule."""

    text: str = ""
    """What no field of the spec does; empty where the changes say all."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """New values by dotted field of the job's spec."""
    present: Mapping[str, Any] = field(default_factory=dict)
    """The values that they have, where they have one."""

    def __str__(self) -> str:
        """Say it in sentences."""
        said = [
            f"Set {name} to {_shown(value)}{f' (it is {_shown(self.present[name])})' if name in self.present else ''}."
            for name, value in self.changes.items()
        ]
        return " ".join([*said, *([self.text] if self.text else [])])


Advise = Callable[[DistillationSpec, TrainingSpec], Advice]


def only(text: str) -> Advise:
    """Advise the same for each spec, as none of its fields is the matter."""
    return lambda distillation, training: Advice(text)  # noqa: ARG005 - whatever they are


def slower(distillation: DistillationSpec, training: TrainingSpec) -> Advice:
    """Advise a lower learning rate, and a temperature that is not below 1."""
    changes: dict[str, Any] = {}
    present: dict[str, Any] = {}
    if training.optimizer == "auto":
        changes |= {"training.optimizer": "AdamW", "training.lr": LEARNING_RATE}
        present["training.optimizer"] = "auto"
    else:
        changes["training.lr"] = _rounded(training.lr / 10)
        present["training.lr"] = training.lr
    if (training.head_lr_multiplier or 1.0) > 1:
        changes["training.head_lr_multiplier"] = 1.0
        present["training.head_lr_multiplier"] = training.head_lr_multiplier
    for index, loss in enumerate(distillation.losses):
        if getattr(loss, "temperature", 1.0) < 1:
            changes[f"distillation.losses.{index}.temperature"] = 1.0
            present[f"distillation.losses.{index}.temperature"] = loss.temperature
    return Advice("", changes, present)


def foreground(distillation: DistillationSpec, training: TrainingSpec) -> Advice:  # noqa: ARG001
    """Advise class terms that look at the objects."""
    changes: dict[str, Any] = {}
    present: dict[str, Any] = {}
    for index, loss in enumerate(distillation.losses):
        name = f"distillation.losses.{index}"
        if isinstance(loss, SoftmaxKL):
            changes[name] = {"kind": "class_logits", "weight": loss.weight}
            present[name] = loss.model_dump(mode="json")
        elif isinstance(loss, ClassLogits) and loss.temperature > 1:
            changes[f"{name}.temperature"], present[f"{name}.temperature"] = 1.0, loss.temperature
        elif isinstance(loss, ClassLogits) and loss.beta < LARGEST_BETA:
            changes[f"{name}.beta"] = min(LARGEST_BETA, loss.beta + 1)
            present[f"{name}.beta"] = loss.beta
        elif isinstance(loss, ClassLogits) and loss.weight:
            changes[f"{name}.weight"], present[f"{name}.weight"] = _rounded(loss.weight / 2), loss.weight
    return Advice("" if changes else "A teacher that is surer of the objects.", changes, present)


def louder_classes(distillation: DistillationSpec, training: TrainingSpec) -> Advice:  # noqa: ARG001
    """Advise class terms with more weight, or one where there is none."""
    terms = [number for number, loss in enumerate(distillation.losses) if isinstance(loss, (ClassLogits, SoftmaxKL))]
    if not terms:
        losses = [loss.model_dump(mode="json") for loss in distillation.losses]
        return Advice(
            "It adds a term that compares classes.",
            {"distillation.losses": [*losses, {"kind": "class_logits", "weight": 1.0}]},
        )
    more = _weights(distillation, terms, 2.0)
    return Advice("If that does not help, take a teacher one or two sizes above the student.", *more)


def louder_features(distillation: DistillationSpec, training: TrainingSpec) -> Advice:  # noqa: ARG001
    """Advise feature terms with more weight."""
    terms = [number for number, loss in enumerate(distillation.losses) if isinstance(loss, FeatureLoss)]
    return Advice("Or leave the level out of the term's levels.", *_weights(distillation, terms, 2.0))


def quieter(distillation: DistillationSpec, training: TrainingSpec) -> Advice:  # noqa: ARG001
    """Advise weights that leave the task its share of the gradient."""
    if distillation.balance == "gradient":
        return Advice("", *_weights(distillation, range(len(distillation.losses)), 0.5))
    return _as_shares(distillation)


def louder(distillation: DistillationSpec, training: TrainingSpec) -> Advice:  # noqa: ARG001
    """Advise weights that are felt."""
    if distillation.balance == "gradient":
        more = _weights(distillation, range(len(distillation.losses)), 2.0)
        return Advice("" if more[0] else "Other losses, or a teacher that knows what the student does not.", *more)
    return _as_shares(distillation)


def shorter(text: str) -> Advise:
    """Advise to end the distillation earlier, where that is not so yet, beside *text*."""

    def advise(distillation: DistillationSpec, training: TrainingSpec) -> Advice:
        schedule = distillation.schedule
        name = "distillation.schedule.decay"
        if schedule.decay == "none":
            return Advice(text, {name: "cosine"}, {name: "none"})
        if schedule.floor > 0:
            name = "distillation.schedule.floor"
            return Advice(text, {name: 0.0}, {name: schedule.floor})
        name = "distillation.schedule.stop_with_mosaic"
        if not schedule.stop_with_mosaic and 0 < training.close_mosaic < training.epochs:
            return Advice(text, {name: True}, {name: False})
        return Advice(text, *_weights(distillation, range(len(distillation.losses)), 0.5))

    return advise


def _as_shares(distillation: DistillationSpec) -> Advice:
    """Let weights be shares of the task's gradient that add up to 1."""
    whole = sum(loss.weight for loss in distillation.losses)
    changes: dict[str, Any] = {"distillation.balance": "gradient"}
    present: dict[str, Any] = {"distillation.balance": distillation.balance}
    for index, loss in enumerate(distillation.losses):
        if (share := _rounded(loss.weight / whole)) != loss.weight:
            changes[f"distillation.losses.{index}.weight"] = share
            present[f"distillation.losses.{index}.weight"] = loss.weight
    return Advice("Weights are then shares of the task's gradient.", changes, present)


def _weights(
    distillation: DistillationSpec, terms: range | list[int], factor: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Multiply the weights of *terms*; return new and present values of those that change."""
    losses: tuple[Loss, ...] = distillation.losses
    new = {index: min(LARGEST_WEIGHT, _rounded(losses[index].weight * factor)) for index in terms}
    changed = {index: weight for index, weight in new.items() if weight != losses[index].weight}
    return (
        {f"distillation.losses.{index}.weight": weight for index, weight in changed.items()},
        {f"distillation.losses.{index}.weight": losses[index].weight for index in changed},
    )


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return f"[{', '.join(_shown(one) for one in value)}]"
    if isinstance(value, Mapping):
        kept = {name: value[name] for name in ("kind", "weight")}
        return f"{{{', '.join(f'{name}: {_shown(one)}' for name, one in kept.items())}}}"
    return str(value)
