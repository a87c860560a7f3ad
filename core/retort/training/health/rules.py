"""Health rules: what each measures, its verdict, the usual cause, and what to change."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from retort.constants import MAP
from retort.spec import DistillationSpec, TrainingSpec
from retort.training.config import RuleFinding, Verdict
from retort.training.health import advice
from retort.training.health.advice import Advise

History = Sequence[Mapping[str, float | None]]
"""The metrics of each epoch so far, oldest first."""

FAST_EPOCHS = 50
"""The founding article: the KL falls fast for this long, then slowly."""
UNLEARNED = 0.9
"""KL on the foreground over that of a student that knows only how frequent each class is: nothing is learned above."""
HALF_LEARNED = 0.7
"""The same, after the fast epochs."""
GOOD = 0.5
"""Share of the teacher's mAP50-95 from which a student has learned, whatever its KL: it may be the surer one."""
PATIENCE, PATIENT_STEPS = 10, 1000
"""Epochs, and steps, in which something that moves must have moved: ten epochs of few images are few steps."""
WARMUP_STEPS = 100
"""Upstream warms up for so long at least; before, labels may hardly be assigned, and gradients say little."""
RECENT = 3
"""Epochs whose median is the present level."""
JITTER_EPOCHS, JITTER_TURNS, JITTER, JITTER_KL = 8, 5, 0.25, 0.1
"""Jitter: in so many epochs, so many changes of direction, at steps of this share of the level, and of this share of
what there is to learn: around a level near zero a large share is nothing."""
BACKGROUND_WARNING, BACKGROUND_CRITICAL = 0.5, 0.9
"""Share of the distillation's gradient on class logits that lies where the teacher sees nothing."""
BACKGROUND_ODDS, BACKGROUND_ODDS_CRITICAL = 2.0, 20.0
"""Odds of that share over those of a plain binary KL at temperature 1, which the student's errors alone explain."""
FLAT_COSINE, ALIKE = 0.02, 0.3
"""Rise of a feature cosine that counts, and the height from which it need not rise; unrelated features have 0."""
FROZEN_STEP = 1e-9
"""Relative change of a projector's weights in an epoch in which the student's moved."""
CONFLICT_EPOCHS, CONFLICT_WARNING, CONFLICT_CRITICAL = 5, -0.2, -0.4
"""Median cosine between the gradients of task and distillation."""
UNDONE_WARNING, UNDONE_CRITICAL = 0.1, 0.5
"""Share of the task's descent that the distillation undoes: the ratio of the gradients times their cosine."""
DECLINE = 0.8
"""Of the best mAP50-95 so far: a student below in the median is getting worse. Where the sum of both losses is least
their gradients are opposite, so that a conflict harms only a student that loses by it."""
DROWNED_WARNING, DROWNED_CRITICAL, WEAK = 5.0, 20.0, 0.01
"""Median norm of the distillation's gradient over the task's, over what the weights ask for, in RATIO_EPOCHS."""
RATIO_EPOCHS = 3
EXPLODING_WARNING, EXPLODING_CRITICAL, EXPLODING_EPOCHS = 2.0, 4.0, 5
"""Task loss over its highest value in so many epochs before; a YOLO loss rises by itself in the first epochs."""
INSANE_KL = 200.0
"""Nats: no network with weights of a sane size is so sure of the opposite."""
TEACHER_SHIFT = 0.02
"""Largest change of a frozen teacher's confidence; half precision alone stays below."""
PERMUTED_WARNING, PERMUTED_CRITICAL = 2.0, 3.0
"""Standard errors by which a permutation of the teacher's names fits the labels better than its own."""
OVERTAKEN = 0.01
"""A point of mAP50-95, which noise alone may be, above the teacher."""
CALM = 3
"""Epochs in a row that a better verdict must hold before it is told; twice as many after each withdrawal."""


@dataclass(frozen=True, slots=True)
class RuleInputs:
    """Inputs of the rules beside the measurements."""

    teacher_map: float | None = None
    """The teacher's mAP50-95 on the validation images; None where it was not measured."""
    steps_per_epoch: int = 1000
    distillation: DistillationSpec = field(default_factory=DistillationSpec)
    training: TrainingSpec = field(default_factory=TrainingSpec)

    def asked(self) -> float:
        """Return the share of the task's gradient that the weights ask for."""
        shares = sum(loss.weight for loss in self.distillation.losses) if self.distillation.balance == "gradient" else 1
        return max(1.0, shares)

    def patient(self, epochs: int, patience: int = PATIENCE) -> bool:
        """Return True once something that moves must have moved."""
        return epochs > patience and epochs * self.steps_per_epoch >= PATIENT_STEPS

    def warm(self, history: History) -> History:
        """Return the epochs that ended after the warm-up."""
        return history[max(0, -(-WARMUP_STEPS // self.steps_per_epoch) - 1) :]


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
    """Check that no permutation of the teacher's names fits the labels better."""
    now = history[-1]
    permuted, agreement = now.get("health/teacher_permuted"), now.get("health/teacher_agreement")
    if permuted is None or agreement is None:
        return None
    said = f"of the labelled objects that the teacher finds, it names {agreement:.0%} as the labels do"
    if permuted <= PERMUTED_WARNING:
        return "healthy", said
    said += f", and a permutation of its class names fits better, by {permuted:.1f} standard errors"
    return _at_most(permuted, PERMUTED_WARNING, PERMUTED_CRITICAL, said)


def loss_exploding(history: History, inputs: RuleInputs) -> RuleResult | None:
    """Check that the task loss does not rise with the distance to the teacher."""
    if history[-1].get("train/loss") is None:
        return "critical", "the training loss left the finite numbers"
    if (kl := _highest_kl(history)) > INSANE_KL:
        return "critical", f"the student's predictions run away: a KL of {kl:.1e} nats to the teacher"
    losses = [_task_loss(epoch) for epoch in inputs.warm(history)]
    before = losses[-1 - EXPLODING_EPOCHS : -1]
    if len(before) < EXPLODING_EPOCHS or max(before) <= 0:
        return None
    ratio = losses[-1] / max(before)
    said = f"the task loss is {ratio:.1f} times its highest value in the {EXPLODING_EPOCHS} epochs before"
    found = _series(history, "health/kl_foreground")
    nearer = len(found) > EXPLODING_EPOCHS and found[-1] <= statistics.median(found[-1 - EXPLODING_EPOCHS : -1])
    return ("healthy", said) if nearer else _at_most(ratio, EXPLODING_WARNING, EXPLODING_CRITICAL, said)


def background_dominates(history: History, _: RuleInputs) -> RuleResult | None:
    """Check that distillation on class logits looks at the foreground.

    The foreground is where the teacher sees something. How much of the gradient may lie elsewhere depends on where the
    student still errs.
    """
    now = history[-1]
    share, expected = now.get("health/background_share"), now.get("health/background_expected")
    blind = now.get("health/foreground_anchors") == 0  # then all is background, which another rule says
    if share is None or expected is None or blind or _highest_kl(history) > INSANE_KL:
        return None
    odds = _odds(share) / _odds(expected)
    said = f"{share:.0%} of the distillation's gradient on class logits is background, where the student's errors "
    said += f"explain {expected:.0%}"
    if share > BACKGROUND_CRITICAL and odds > BACKGROUND_ODDS_CRITICAL:
        return "critical", said
    return ("warning" if share > BACKGROUND_WARNING and odds > BACKGROUND_ODDS else "healthy"), said


def foreground_kl_stuck(history: History, inputs: RuleInputs) -> RuleResult | None:
    """Check that the student learns anything of what the teacher sees."""
    found = _unlearned(history)
    if not inputs.patient(len(found)):
        return None
    left = statistics.median(found[-RECENT:])
    said = f"after {len(found)} epochs {left:.0%} of the KL on the foreground is left"
    if left <= UNLEARNED or _is_good(history, inputs):
        return "healthy", said
    verdict: Verdict = "critical" if inputs.patient(len(found), FAST_EPOCHS) else "warning"
    return verdict, f"{said}: the student knows no more than how frequent each class is"


def foreground_kl_slow(history: History, inputs: RuleInputs) -> RuleResult | None:
    """Check that the foreground KL falls fast for 50 epochs.

    The figure is the article's.
    """
    found = _unlearned(history)
    if not inputs.patient(len(found), FAST_EPOCHS):
        return None
    left = statistics.median(found[-RECENT:])
    verdict: Verdict = "healthy" if left <= HALF_LEARNED or _is_good(history, inputs) else "warning"
    return verdict, f"after {len(found)} epochs {left:.0%} of the KL on the foreground is left"


def foreground_kl_jitters(history: History, _: RuleInputs) -> RuleResult | None:
    """Check that the foreground KL does not jitter.

    The article: jittering.
    """
    found, left = _series(history, "health/kl_foreground")[-JITTER_EPOCHS:], _unlearned(history)[-JITTER_EPOCHS:]
    if len(found) < JITTER_EPOCHS or len(left) < JITTER_EPOCHS:
        return None
    turns = sum(1 for before, after in pairwise(_steps(found)) if before * after < 0)
    size = statistics.mean(map(abs, _steps(found))) / max(statistics.mean(found), 1e-9)
    far = statistics.mean(map(abs, _steps(left))) > JITTER_KL
    verdict: Verdict = "warning" if turns >= JITTER_TURNS and size > JITTER and far else "healthy"
    return verdict, f"in {JITTER_EPOCHS} epochs the KL on the foreground turned {turns} times, by {size:.0%} a step"


def cosine_flat(history: History, inputs: RuleInputs) -> RuleResult | None:
    """Check that projected features come to resemble the teacher's features."""
    names = [name for name in history[-1] if name.startswith("health/cosine_")]
    levels = {name.removeprefix("health/cosine_"): _series(history, name) for name in names}
    old = {level: found for level, found in levels.items() if inputs.patient(len(found))}
    if not old:
        return None
    flat = [level for level, found in old.items() if max(found) < min(ALIKE, found[0] + FLAT_COSINE)]
    if flat:
        return "warning", f"the feature cosine at {', '.join(flat)} has not risen since the first epoch"
    return "healthy", "the feature cosine rises at all levels"


def gradient_conflict(history: History, inputs: RuleInputs) -> RuleResult | None:
    """Check that task and distillation gradients are not opposite.

    Task and distillation may want the same, or different things.
    """
    pairs = [(epoch.get("health/grad_cosine"), epoch.get("health/grad_ratio")) for epoch in inputs.warm(history)]
    found = [(cosine, ratio) for cosine, ratio in pairs if cosine is not None and ratio is not None][-CONFLICT_EPOCHS:]
    if len(found) < CONFLICT_EPOCHS:
        return None
    middle = statistics.median(cosine for cosine, _ in found)
    undone = -statistics.median(cosine * ratio for cosine, ratio in found)
    said = f"the gradients of task and distillation have a median cosine of {middle:.2f}"
    if middle >= CONFLICT_WARNING or undone <= UNDONE_WARNING:
        return "healthy", said
    said += f", so that {min(undone, 1):.0%} of a step's gain for the task is undone"
    maps = _series(history, MAP)
    worse = inputs.patient(len(maps)) and statistics.median(maps[-RECENT:]) < DECLINE * max(maps)
    if middle < CONFLICT_CRITICAL and undone > UNDONE_CRITICAL and worse:
        return "critical", f"{said}, and the student's mAP50-95 falls"
    return "warning", said


def distillation_drowns_task(history: History, inputs: RuleInputs) -> RuleResult | None:
    """Check that the student still learns from the labels."""
    found = _series(inputs.warm(history), "health/grad_ratio")[-RATIO_EPOCHS:]
    if len(found) < RATIO_EPOCHS:
        return None
    ratio, asked = statistics.median(found), inputs.asked()
    said = f"below the head, the distillation's gradient is {ratio:.2g} times the task's"
    if asked > 1:
        said += f", where the weights ask for {asked:g} at most"
    return _at_most(ratio / asked, DROWNED_WARNING, DROWNED_CRITICAL, said)


def distillation_too_weak(history: History, inputs: RuleInputs) -> RuleResult | None:
    """Check that distillation has an effect at the schedule's full weight."""
    found = [
        ratio / weight
        for epoch in inputs.warm(history)
        if (ratio := epoch.get("health/grad_ratio")) is not None and (weight := epoch.get("train/kd/weight"))
    ][-RATIO_EPOCHS:]
    if len(found) < RATIO_EPOCHS:
        return None
    ratio = statistics.median(found)
    verdict: Verdict = "warning" if ratio < WEAK else "healthy"
    return verdict, f"at full weight the distillation's gradient would be {ratio:.2g} times the task's"


def student_overtook(history: History, inputs: RuleInputs) -> RuleResult | None:
    """Check that the student can still learn from the teacher."""
    found, teacher = _series(history, MAP)[-RECENT:], inputs.teacher_map
    if not found or teacher is None:
        return None
    student = statistics.median(found)
    verdict: Verdict = "warning" if student > teacher + OVERTAKEN else "healthy"
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


def _task_loss(epoch: Mapping[str, float | None]) -> float:
    """Return what the labels cost; without its parts, all."""
    parts = [epoch.get(f"train/{name}_loss") for name in ("box", "cls", "dfl")]
    known = [part for part in parts if part is not None]
    return sum(known) if known else epoch.get("train/loss") or 0.0


def _unlearned(history: History) -> list[float]:
    """Return, of each epoch, the KL on the foreground over that of a student that knows frequencies only."""
    pairs = [(epoch.get("health/kl_foreground"), epoch.get("health/kl_untaught")) for epoch in history]
    return [kl / untaught for kl, untaught in pairs if kl is not None and untaught]


def _is_good(history: History, inputs: RuleInputs) -> bool:
    """Return True if the student finds what its teacher finds, at least half of it."""
    maps = _series(history, MAP)[-RECENT:]
    return bool(maps and inputs.teacher_map) and statistics.median(maps) >= GOOD * (inputs.teacher_map or 0)


def _steps(values: Sequence[float]) -> list[float]:
    return [after - before for before, after in pairwise(values)]


def _odds(share: float) -> float:
    return max(share, 1e-6) / max(1 - share, 1e-6)


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
    advise: Advise
    """What to change in this job's spec."""
    judge: Callable[[History, RuleInputs], RuleResult | None]
    """None: nothing to judge by."""
    looks_at: tuple[str, ...]
    """Metrics to tell with the verdict; a name that ends in ``_`` stands for all that begin with it."""


@dataclass(slots=True)
class Standing:
    """Standing of a rule: its verdict, and how long a better one has held."""

    verdict: Verdict = "healthy"
    calm: int = 0
    withdrawn: int = 0


class RuleEngine:
    """Engine that applies all rules each epoch and remembers verdicts.

    A worse verdict is told at once; a better one when it has held for ``CALM`` epochs, and for twice as many after each
    time that it was withdrawn.
    """

    def __init__(self, inputs: RuleInputs) -> None:
        self.facts = inputs
        self.history: list[dict[str, float | None]] = []
        self.standing: dict[str, Standing] = {}

    def state(self) -> dict[str, Any]:
        """Return the state as plain values, to resume from."""
        return {"history": self.history, "standing": {name: asdict(one) for name, one in self.standing.items()}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore ``state()``; an empty state changes nothing."""
        self.history = list(state.get("history", self.history))
        if "standing" in state:
            self.standing = {name: Standing(**one) for name, one in state["standing"].items()}

    def update(self, epoch: int, values: Mapping[str, float | None]) -> list[RuleFinding]:
        """Take the metrics of *epoch*; return findings with a changed verdict.

        *epoch* counts from 1.
        """
        self.history.append(dict(values))
        changed = []
        for rule in RULES:
            result = rule.judge(self.history, self.facts)
            if result is not None and self._changes(self.standing.setdefault(rule.name, Standing()), result[0]):
                changed.append(self._finding(rule, result, epoch, values))
        return changed

    def _changes(self, standing: Standing, verdict: Verdict) -> bool:
        """Move *standing* to *verdict* where it is worse, or has been better for long enough."""
        if SEVERITY.index(verdict) >= SEVERITY.index(standing.verdict):
            standing.calm = 0
            told = verdict != standing.verdict
            standing.verdict = verdict
            return told
        standing.calm += 1
        if standing.calm < CALM * 2**standing.withdrawn:
            return False
        standing.verdict, standing.calm = verdict, 0
        standing.withdrawn += 1
        return True

    def _finding(self, rule: Rule, result: RuleResult, epoch: int, values: Mapping[str, float | None]) -> RuleFinding:
        """Say what has changed; a withdrawal has neither cause nor advice."""
        verdict, message = result
        seen = {name: value for name, value in values.items() if name.startswith(rule.looks_at)}
        if verdict == "healthy":
            return RuleFinding(rule.name, verdict, epoch, f"healthy again: {message}", "", "", seen)
        advice = str(rule.advise(self.facts.distillation, self.facts.training))
        return RuleFinding(rule.name, verdict, epoch, message, rule.cause, advice, seen)


SEVERITY: tuple[Verdict, ...] = ("healthy", "warning", "critical")

_REPORT = "Report this: no field of the spec does it."
_BETTER_TEACHER = "A teacher that is better on this data would help, such as one trained on it for longer."

RULES: tuple[Rule, ...] = (
    Rule(
        "teacher_not_frozen",
        "The teacher is in train mode, so that its answer depends on the batch, or its weights are being changed.",
        advice.only(_REPORT),
        teacher_not_frozen, ("health/teacher_shift", "health/kl_foreground"),
    ),
    Rule(
        "projector_frozen",
        "The projector is not in the optimizer, or does not require gradients: the student chases a random projection.",
        advice.only(_REPORT),
        projector_frozen, ("health/projector_step", "health/cosine_"),
    ),
    Rule(
        "classes_mismatched",
        "The teacher's class names stand in another order than its weights learned, or mean something else.",
        advice.only("Compare the teacher's class names with those it was trained with, and both with the data's."),
        classes_mismatched, ("health/teacher_agreement", "health/teacher_permuted"),
    ),
    Rule(
        "loss_exploding",
        "The learning rate is too high.",
        advice.slower,
        loss_exploding, ("train/loss", "health/kl_", "lr/"),
    ),
    Rule(
        "background_dominates",
        "A high temperature or a softmax over independent classes makes thousands of background anchors outweigh a few "
        "objects, as do terms that weigh small differences like large ones.",
        advice.foreground,
        background_dominates, ("health/background_", "health/kl_background", "health/kl_foreground"),
    ),
    Rule(
        "foreground_kl_stuck",
        "The class terms are too weak, or the learning rate is far too low or high.",
        advice.louder_classes,
        foreground_kl_stuck, ("health/kl_foreground", "health/kl_untaught", "health/grad_ratio"),
    ),
    Rule(
        "foreground_kl_slow",
        "The student is too small for this teacher, or the class terms are too weak.",
        advice.louder_classes,
        foreground_kl_slow, ("health/kl_foreground", "health/kl_untaught", "health/grad_ratio"),
    ),
    Rule(
        "foreground_kl_jitters",
        "The learning rate is too high, or the temperature too low.",
        advice.slower,
        foreground_kl_jitters, ("health/kl_foreground", "health/kl_untaught", "lr/"),
    ),
    Rule(
        "cosine_flat",
        "The feature terms are too weak, or the student cannot follow them at this level.",
        advice.louder_features,
        cosine_flat, ("health/cosine_", "health/projector_step"),
    ),
    Rule(
        "gradient_conflict",
        "The teacher contradicts the labels: its classes mean other things, or it is wrong on this data.",
        advice.shorter(_BETTER_TEACHER),
        gradient_conflict, ("health/grad_cosine", "health/grad_ratio", "health/grad_agreement_"),
    ),
    Rule(
        "distillation_drowns_task",
        "The weights of the distillation terms are too large.",
        advice.quieter,
        distillation_drowns_task, ("health/grad_ratio", "train/kd"),
    ),
    Rule(
        "distillation_too_weak",
        "The weights of the distillation terms are so small that they change almost nothing.",
        advice.louder,
        distillation_too_weak, ("health/grad_ratio", "train/kd"),
    ),
    Rule(
        "student_overtook",
        "The student is better than its teacher: there is little left to learn from it.",
        advice.shorter(_BETTER_TEACHER),
        student_overtook, (MAP,),
    ),
    Rule(
        "teacher_sees_nothing",
        "The teacher does not know these images: it was trained on other data, or hardly at all.",
        advice.only("A teacher that was trained on this data, or for longer on it."),
        teacher_sees_nothing, ("health/foreground_anchors",),
    ),
)  # fmt: skip
