"""The answer to a request for advice: every candidate with its figures and verdict, and which one to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from retort.spec.advised import (
    AdviceData,
    AdviceResult,
    AdviceStudent,
    Capacity,
    KnownClasses,
    MeasuredCandidate,
    Recommendation,
    StepCost,
    UnusableCandidate,
)
from retort.spec.figures import NetworkFigures
from retort.stages.advising import rules
from retort.stages.advising.rules import Figures, Judged


@dataclass(frozen=True, slots=True)
class Measured:
    """A candidate that was measured, and what the rules know of it."""

    weights: str
    title: str
    network: NetworkFigures
    step: StepCost
    figures: Figures


@dataclass(frozen=True, slots=True)
class Unusable:
    """A candidate that cannot be loaded, and why."""

    weights: str
    title: str
    error: str


@dataclass(frozen=True, slots=True)
class AdviceConditions:
    """Under which conditions the figures hold."""

    dataset: AdviceData
    imgsz: int
    batch: int
    device: str


def answer(
    student: tuple[AdviceStudent, Figures], candidates: Sequence[Measured | Unusable], conditions: AdviceConditions
) -> AdviceResult:
    """Judge the *candidates* and choose among them."""
    shown, known = student
    sound = [one for one in candidates if isinstance(one, Measured)]
    best = max((one.figures.map for one in sound if one.figures.map is not None), default=None)
    judged = {id(one): rules.judge(known, one.figures, best=best) for one in sound}
    listed = {id(one): _measured(known, one, judged[id(one)]) for one in sound}
    told = [listed[id(one)] if isinstance(one, Measured) else _unusable(one) for one in candidates]
    chosen = rules.choose([(one.figures, judged[id(one)]) for one in sound])
    taken = None if chosen is None else listed[id(sound[chosen])]
    return AdviceResult(
        student=shown,
        candidates=tuple(told),
        recommended=None if taken is None else _recommended(list(listed.values()), taken),
        sentence=_sentence(known, told, taken),
        dataset=conditions.dataset,
        imgsz=conditions.imgsz,
        batch=conditions.batch,
        device=conditions.device,
    )


def _measured(student: Figures, one: Measured, judged: Judged) -> MeasuredCandidate:
    known, capacity = one.figures, rules.capacity(student, one.figures)
    return MeasuredCandidate(
        weights=one.weights,
        title=one.title,
        **dict(one.network),
        attention=known.attention,
        classes=KnownClasses(known=known.num_known, others=known.num_others, wanted=known.num_wanted),
        step=one.step,
        capacity=Capacity(parameters=capacity["parameters"], gflops=capacity["gflops"]),
        ap_over_student=rules.differences(student, known),
        weaker_classes=tuple(rules.weaker(student, known)),
        verdict=judged.verdict,
        reasons=judged.reasons,
    )


def _unusable(one: Unusable) -> UnusableCandidate:
    reasons = (f"It cannot be used: {one.error}.",)
    return UnusableCandidate(weights=one.weights, title=one.title, error=one.error, verdict="refused", reasons=reasons)


def _recommended(candidates: Sequence[MeasuredCandidate], one: MeasuredCandidate) -> Recommendation:
    reasons = list(one.reasons)
    for other in candidates:
        if other is one or other.verdict != "recommended" or one.map is None or other.map is None:
            continue
        ahead = 100 * (one.map - other.map)
        longer = one.step.ratio / other.step.ratio
        reasons.append(
            f"Beside {other.title} it is {abs(ahead):.1f} points {'better' if ahead >= 0 else 'behind'}, "
            f"and a step takes {longer:.2f} times as long."
        )
    return Recommendation(weights=one.weights, title=one.title, reasons=tuple(reasons))


def _sentence(
    student: Figures, candidates: Sequence[MeasuredCandidate | UnusableCandidate], taken: MeasuredCandidate | None
) -> str:
    beside = (
        "" if student.map is not None else " The student's mAP is not known, so they were compared among themselves."
    )
    if taken is not None:
        return f"Take {taken.title}.{beside}"
    possible = [one.title for one in candidates if one.verdict == "possible"]
    if possible:
        return f"None is recommended; {', '.join(possible)} would be possible, with what is said against it.{beside}"
    return f"None of them should teach this student: train one on this data first (teacher.train).{beside}"
