"""Health rules: what each measures, its verdict, the usual cause, and what to change."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from retort.constants import MAP
from retort.training.config import RuleFinding, Verdict

History = Sequence[Mapping[str, float | None]]
"""The metrics of each epoch so far, oldest first."""

FAST_EPOCHS = 50
"""The founding article: the KL falls fast for this long, then slowly."""
HIGH_KL = 0.8
"""The founding article: a KL above this that does not fall is a mistake, not patience."""
FALLING = 0.05
"""Share by which a falling KL falls over PATIENCE epochs."""
FAST_FALL = 0.3
"""Share by which the KL has fallen from its first value when the fast epochs are over."""
PATIENCE = 10
"""Epochs in which something that moves must have moved."""
JITTER_EPOCHS, JITTER_TURNS, JITTER = 8, 5, 0.25
"""Jitter: in so many epochs, so many changes of direction, at steps of this share of the level."""
BACKGROUND_WARNING, BACKGROUND_CRITICAL = 0.6, 0.85
"""Share of the distillation's gradient on class logits that lies where the teacher sees nothing."""
FLAT_COSINE, ALIKE = 0.02, 0.9
"""Rise of a feature cosine that counts, and the height from which it need not rise."""
FROZEN_STEP = 1e-9
"""Relative change of a projector's weights in an epoch in which the student's moved."""
CONFLICT_EPOCHS, CONFLICT_WARNING, CONFLICT_CRITICAL = 5, -0.1, -0.4
"""Median cosine between the gradients of task and distillation."""
DROWNED_WARNING, DROWNED_CRITICAL, WEAK = 5.0, 20.0, 0.01
"""Median norm of the distillation's gradient over the task's, in the last RATIO_EPOCHS."""
RATIO_EPOCHS = 3
EXPLODING_WARNING, EXPLODING_CRITICAL, EXPLODING_EPOCHS = 2.0, 4.0, 5
"""Training loss over its median in so many epochs before; a YOLO loss rises by itself in the first epochs."""
INSANE_KL = 50.0
"""Nats: no network with weights of a sane size is so sure of the opposite."""
TEACHER_SHIFT = 0.02
"""Largest change of a frozen teacher's confidence; half precision alone stays below."""
AGREEMENT = 0.5
"""Share of labelled objects that the teacher finds and names as the labels do."""
MISMATCH_KL, MISMATCH_IOU = 2.0, 0.7
"""Classes far apart while boxes agree."""


@dataclass(frozen=True, slots=True)
class RuleInputs:
    """Inputs of the rules beside the measurements."""

    teacher_map: float | None = None
    """The teacher's mAP50-95 on the validation images; None where it was not measured."""
    temperature: float = 1.0
    """The highest of all terms."""


RuleResult = tuple[Verdict, str]
"""A verdict, and what was measured."""


def teacher_not_frozen(history: History, _: RuleInputs) -> RuleResult | None:
    """Check that the teacher's output for the probe never changes."""
    shift = history[-1].get("health/teacher_shift")
    if shift is None:
        return None
    return _at_most(shift, TEACHER_SHIFT, None, f"the teacher's confidence on the same images moves by {shift:.3f}")


def projector_frozen(history: History, _: RuleInputs) -> RuleResult | None:
    """Check that projectors in the optimizer move when the student does."""
    step = history[-1].get("health/projector_step")
    if step is None:
        return None
    if step < FROZEN_STEP:
        return "critical", "a projector's weights did not change in an epoch in which the student's did"
    return "healthy", f"each projector moves: by {step:.2g} of its weights' norm at least"


def classes_mismatched(history: History, _: RuleInputs) -> RuleResult | None:
    """Check that teacher, labels and student agree on classes.

    The teacher names objects as the labels do; student and teacher agree on classes where they agree on boxes.
    """
    now = history[-1]
    agreement, kl, iou = (now.get(f"health/{name}") for name in ("teacher_agreement", "kl_foreground", "box_iou"))
    if agreement is not None and agreement < AGREEMENT:
        return "critical", f"of the labelled objects that the teacher finds, it names {agreement:.0%} as the labels do"
    if kl is not None and iou is not None and kl > MISMATCH_KL and iou > MISMATCH_IOU:
        return "warning", f"student and teacher agree on boxes (IoU {iou:.2f}) but not on classes (KL {kl:.2f})"
    return None if agreement is None and kl is None else ("healthy", "teacher and labels agree on classes")


def loss_exploding(history: History, _: RuleInputs) -> RuleResult | None:
    """Check that a loss does not rise, and predictions stay within reach."""
    now, before = history[-1].get("train/loss"), _series(history[:-1], "train/loss")[-EXPLODING_EPOCHS:]
    if now is None:
        return "critical", "the training loss left the finite numbers"
    if (kl := _highest_kl(history)) > INSANE_KL:
        return "critical", f"the student's predictions run away: a KL of {kl:.1e} nats to the teacher"
    if len(before) < EXPLODING_EPOCHS or statistics.median(before) <= 0:
        return None
    ratio = now / statistics.median(before)
    return _at_most(ratio, EXPLODING_WARNING, EXPLODING_CRITICAL, f"the training loss is {ratio:.1f} times what it was")


def background_dominates(history: History, inputs: RuleInputs) -> RuleResult | None:
    """Check that distillation gradients on class logits lie mostly in the foreground.

    The foreground is where the teacher sees something.
    """
    share = history[-1].get("health/background_share")
    blind = history[-1].get("health/foreground_anchors") == 0  # then all is background, which another rule says
    if share is None or blind or _highest_kl(history) > INSANE_KL:
        return None
    said = (
        f"{share:.0%} of the distillation's gradient on class logits is background; temperature {inputs.temperature:g}"
    )
    return _at_most(share, BACKGROUND_WARNING, BACKGROUND_CRITICAL, said)


def foreground_kl_stuck(history: History, _: RuleInputs) -> RuleResult | None:
    """Check that the foreground KL is not stuck above 0.8.

    The article: above 0.8 and not falling.
    """
    found = _series(history, "health/kl_foreground")
    if len(found) <= PATIENCE:
        return None
    before, now = found[-1 - PATIENCE], found[-1]
    if now <= HIGH_KL or now <= before * (1 - FALLING):
        return "healthy", f"the KL on the foreground is {now:.2f} and was {before:.2f} {PATIENCE} epochs before"
    verdict: Verdict = "critical" if len(found) > FAST_EPOCHS else "warning"
    return verdict, f"the KL on the foreground is {now:.2f} and was {before:.2f} {PATIENCE} epochs before"


def foreground_kl_slow(history: History, _: RuleInputs) -> RuleResult | None:
    """Check that the foreground KL falls fast for 50 epochs.

    The figure is the article's.
    """
    found = _series(history, "health/kl_foreground")
    if len(found) < FAST_EPOCHS or found[0] <= 0:
        return None
    fallen = 1 - min(found) / found[0]
    verdict: Verdict = "healthy" if fallen >= FAST_FALL or found[0] <= HIGH_KL else "warning"
    return verdict, f"after {len(found)} epochs the KL on the foreground has fallen by {fallen:.0%} at best"


def foreground_kl_jitters(history: History, _: RuleInputs) -> RuleResult | None:
    """Check that the foreground KL does not jitter.

    The article: jittering.
    """
    found = _series(history, "health/kl_foreground")[-JITTER_EPOCHS:]
    if len(found) < JITTER_EPOCHS:
        return None
    steps = [after - before for before, after in pairwise(found)]
    turns = sum(1 for before, after in pairwise(steps) if before * after < 0)
    size = statistics.mean(map(abs, steps)) / max(statistics.mean(found), 1e-9)
    verdict: Verdict = "warning" if turns >= JITTER_TURNS and size > JITTER else "healthy"
    return verdict, f"in {JITTER_EPOCHS} epochs the KL on the foreground turned {turns} times, by {size:.0%} a step"


def cosine_flat(history: History, _: RuleInputs) -> RuleResult | None:
    """Check that projected features come to resemble the teacher's features."""
    names = [name for name in history[-1] if name.startswith("health/cosine_")]
    levels = {name.removeprefix("health/cosine_"): _series(history, name) for name in names}
    old = {level: found for level, found in levels.items() if len(found) > PATIENCE}
    if not old:
        return None
    flat = [level for level, found in old.items() if max(found) < min(ALIKE, found[0] + FLAT_COSINE)]
    if flat:
        return "warning", f"the feature cosine at {', '.join(flat)} has not risen since the first epoch"
    return "healthy", "the feature cosine rises at all levels"


def gradient_conflict(history: History, _: RuleInputs) -> RuleResult | None:
    """Check that task and distillation gradients are not opposite.

    Task and distillation may want the same, or different things.
    """
    found = _series(history, "health/grad_cosine")[-CONFLICT_EPOCHS:]
    if len(found) < CONFLICT_EPOCHS:
        return None
    middle = statistics.median(found)
    verdict: Verdict = "healthy" if middle >= CONFLICT_WARNING else "warning"
    if middle < CONFLICT_CRITICAL:
        verdict = "critical"
    return verdict, f"the gradients of task and distillation have a median cosine of {middle:.2f}"


def distillation_drowns_task(history: History, _: RuleInputs) -> RuleResult | None:
    """Check that the student still learns from the labels."""
    found = _series(history, "health/grad_ratio")[-RATIO_EPOCHS:]
    if len(found) < RATIO_EPOCHS:
        return None
    ratio = statistics.median(found)
    said = f"the distillation's gradient is {ratio:.2g} times the task's"
    return _at_most(ratio, DROWNED_WARNING, DROWNED_CRITICAL, said)


def distillation_too_weak(history: History, _: RuleInputs) -> RuleResult | None:
    """Check that distillation has an effect at the schedule's full weight."""
    found = [
        ratio / weight
        for epoch in history
        if (ratio := epoch.get("health/grad_ratio")) is not None and (weight := epoch.get("train/kd/weight"))
    ][-RATIO_EPOCHS:]
    if len(found) < RATIO_EPOCHS:
        return None
    ratio = statistics.median(found)
    verdict: Verdict = "warning" if ratio < WEAK else "healthy"
    return verdict, f"at full weight the distillation's gradient would be {ratio:.2g} times the task's"


def student_overtook(history: History, inputs: RuleInputs) -> RuleResult | None:
    """Check that the student can still learn from the teacher."""
    student, teacher = history[-1].get(MAP), inputs.teacher_map
    if student is None or teacher is None:
        return None
    verdict: Verdict = "warning" if student > teacher else "healthy"
    return verdict, f"the student's mAP50-95 is {student:.3f}, its teacher's {teacher:.3f}"


def teacher_sees_nothing(history: History, _: RuleInputs) -> RuleResult | None:
    """Check that the teacher is confident somewhere on the probe."""
    anchors = history[-1].get("health/foreground_anchors")
    if anchors is None:
        return None
    return ("healthy" if anchors else "warning"), f"the teacher is confident at {anchors:.0f} anchors of the probe"


def _highest_kl(history: History) -> float:
    return max(history[-1].get(f"health/kl_{name}") or 0.0 for name in ("foreground", "background", "dfl"))


def _series(history: History, name: str) -> list[float]:
    return [value for epoch in history if (value := epoch.get(name)) is not None]


def _at_most(value: float, warning: float, critical: float | None, said: str) -> RuleResult:
    """Judge a value that must stay low; without a second bound, the first is critical."""
    if value > (warning if critical is None else critical):
        return "critical", said
    return ("warning" if critical is not None and value > warning else "healthy"), said


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule about one thing that can be wrong."""

    name: str
    cause: str
    advice: str
    judge: Callable[[History, RuleInputs], RuleResult | None]
    """None: nothing to judge by."""
    looks_at: tuple[str, ...]
    """Metrics to tell with the verdict; a name that ends in ``_`` stands for all that begin with it."""


class RuleEngine:
    """Engine that applies all rules each epoch and remembers verdicts."""

    def __init__(self, inputs: RuleInputs) -> None:
        self.facts = inputs
        self.history: list[dict[str, float | None]] = []
        self.verdicts: dict[str, Verdict] = {}

    def state(self) -> dict[str, Any]:
        """Return the state as plain values, to resume from."""
        return {"history": self.history, "verdicts": dict(self.verdicts)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore ``state()``; an empty state changes nothing."""
        self.history = list(state.get("history", self.history))
        self.verdicts = dict(state.get("verdicts", self.verdicts))

    def update(self, epoch: int, values: Mapping[str, float | None]) -> list[RuleFinding]:
        """Take the metrics of *epoch*; return findings with a changed verdict.

        *epoch* counts from 1.
        """
        self.history.append(dict(values))
        changed = []
        for rule in RULES:
            result = rule.judge(self.history, self.facts)
            if result is None or result[0] == self.verdicts.get(rule.name, "healthy"):
                continue
            self.verdicts[rule.name] = result[0]
            seen = {name: value for name, value in values.items() if name.startswith(rule.looks_at)}
            changed.append(RuleFinding(rule.name, result[0], epoch, result[1], rule.cause, rule.advice, seen))
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
