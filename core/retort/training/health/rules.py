"""The rules that judge a distillation: what each looks at, what its verdict usually comes from, and what to change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from retort.names import MAP
from retort.training.health.symptoms import (
    Facts,
    History,
    Opinion,
    Verdict,
    background_dominates,
    classes_mismatched,
    cosine_flat,
    distillation_drowns_task,
    distillation_too_weak,
    foreground_kl_jitters,
    foreground_kl_slow,
    foreground_kl_stuck,
    gradient_conflict,
    loss_exploding,
    projector_frozen,
    student_overtook,
    teacher_not_frozen,
    teacher_sees_nothing,
)


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict with its grounds."""

    rule: str
    verdict: Verdict
    epoch: int
    message: str
    """What was measured."""
    cause: str
    advice: str
    values: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that can be wrong."""

    name: str
    cause: str
    advice: str
    judge: Callable[[History, Facts], Opinion | None]
    """None: nothing to judge by."""
    looks_at: tuple[str, ...]
    """Metrics to tell with the verdict; a name that ends in ``_`` stands for all that begin with it."""


class Judge:
    """Applies all rules each epoch and remembers what was said."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.history: list[dict[str, float | None]] = []
        self.verdicts: dict[str, Verdict] = {}

    def state(self) -> dict[str, Any]:
        """Return, in plain values, what a judge of the same training must know to go on."""
        return {"history": self.history, "verdicts": dict(self.verdicts)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state()``; an empty one changes nothing."""
        self.history = list(state.get("history", self.history))
        self.verdicts = dict(state.get("verdicts", self.verdicts))

    def hear(self, epoch: int, values: Mapping[str, float | None]) -> list[Finding]:
        """Take the metrics of *epoch*, counted from 1; return the findings whose verdict has changed."""
        self.history.append(dict(values))
        changed = []
        for rule in RULES:
            opinion = rule.judge(self.history, self.facts)
            if opinion is None or opinion[0] == self.verdicts.get(rule.name, "healthy"):
                continue
            self.verdicts[rule.name] = opinion[0]
            seen = {name: value for name, value in values.items() if name.startswith(rule.looks_at)}
            changed.append(Finding(rule.name, opinion[0], epoch, opinion[1], rule.cause, rule.advice, seen))
        return changed


RULES: tuple[Rule, ...] = (
    Rule(
        "teacher_not_frozen",
        "The teacher is in train mode, so that its answer depends on the batch, or its weights are being changed.",
        "Put every module of the teacher into eval mode, and keep its parameters out of the optimizer.",
        teacher_not_frozen, ("health/teacher_shift", "health/kl_foreground"),
    ),
    Rule(
        "projector_frozen",
        "The projector is not in the optimizer, or does not require gradients: the student chases a random projection.",
        "Give the projector's parameters to the optimizer, with a learning rate above 0.",
        projector_frozen, ("health/projector_step", "health/cosine_"),
    ),
    Rule(
        "classes_mismatched",
        "The teacher's class names stand in another order than its weights learned, or mean something else.",
        "Compare the teacher's class names with those it was trained with, and both with the data's.",
        classes_mismatched, ("health/teacher_agreement", "health/kl_foreground", "health/box_iou"),
    ),
    Rule(
        "loss_exploding",
        "The learning rate is too high.",
        "Lower training.lr by ten, or let optimizer: auto choose it; then lower training.grad_clip.",
        loss_exploding, ("train/loss", "health/kl_", "lr/"),
    ),
    Rule(
        "background_dominates",
        "The temperature is too high, or a softmax is taken over independent classes: thousands of background anchors "
        "outweigh a few objects.",
        "Set the temperature of class terms to 1, and take class_logits instead of softmax_kl.",
        background_dominates, ("health/background_share", "health/kl_background", "health/kl_foreground"),
    ),
    Rule(
        "foreground_kl_stuck",
        "The teacher is not in eval mode, the class terms are too weak, or the learning rate is far too low or high.",
        "Look at the verdicts beside this one first; else raise the weight of the class term.",
        foreground_kl_stuck, ("health/kl_foreground", "health/grad_ratio"),
    ),
    Rule(
        "foreground_kl_slow",
        "The student is too small for this teacher, or the class terms are too weak.",
        "Raise the weight of the class term, or take a teacher one or two sizes above the student.",
        foreground_kl_slow, ("health/kl_foreground", "health/grad_ratio"),
    ),
    Rule(
        "foreground_kl_jitters",
        "The learning rate is too high, or the temperature too low.",
        "Lower training.lr; where the temperature is below 1, set it to 1.",
        foreground_kl_jitters, ("health/kl_foreground", "lr/"),
    ),
    Rule(
        "cosine_flat",
        "A projector is frozen or not in the optimizer, or the feature terms are too weak.",
        "See that projectors are trained; else raise the weight of the feature term, or drop the level.",
        cosine_flat, ("health/cosine_", "health/projector_step"),
    ),
    Rule(
        "gradient_conflict",
        "The teacher contradicts the labels: its classes mean other things, or it is wrong on this data.",
        "Fine-tune the teacher on this data first, lower the distillation weight, or end it earlier by the schedule.",
        gradient_conflict, ("health/grad_cosine", "health/grad_ratio"),
    ),
    Rule(
        "distillation_drowns_task",
        "The weights of the distillation terms are too large.",
        "Set balance: gradient, so that weights are shares, or lower the weights.",
        distillation_drowns_task, ("health/grad_ratio", "train/kd"),
    ),
    Rule(
        "distillation_too_weak",
        "The weights of the distillation terms are so small that they change almost nothing.",
        "Set balance: gradient, so that weights are shares, or raise the weights.",
        distillation_too_weak, ("health/grad_ratio", "train/kd"),
    ),
    Rule(
        "student_overtook",
        "The student is better than its teacher: there is little left to learn from it.",
        "Take a better teacher, or train it longer on this data; or end distillation earlier by the schedule.",
        student_overtook, (MAP,),
    ),
    Rule(
        "teacher_sees_nothing",
        "The teacher does not know these images: it was trained on other data, or hardly at all.",
        "Fine-tune the teacher on this data first (teacher.train).",
        teacher_sees_nothing, ("health/foreground_anchors",),
    ),
)  # fmt: skip
