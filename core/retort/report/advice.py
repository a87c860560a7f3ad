"""Advice about teachers: measured figures judged by rules with sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from retort.report.worth import LITTLE
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
from retort.spec.worth import TeacherWorth

LEAST_RATIO, MOST_RATIO = 1.2, 13.0
"""Of a teacher's FLOPs to the student's: one or two sizes up.

The smallest step of one size is 1.28 (YOLO11 m to l), the largest of two is 12.6 (YOLO26 n to m). Ultralytics' own
distilled models have teachers of 2.2 to 3.8; YOLOv5s learned 3.7 points of mAP50 from m (3.0), 0.3 from l (6.6).
"""
HARDLY = 0.005
"""Half a point of mAP50-95 is a share of noise."""
CLEARLY = 0.05
"""So much AP50-95 below the student is clearly weaker in a class, and so much mAP below the best, clearly behind."""
MOST_WEAK = 0.1
"""Share of the classes in which a teacher may be clearly weaker before it is refused."""
ALIKE = 0.01
"""Candidates within one point of mAP50-95 teach alike: the cheaper one is taken."""
LEAST_MAP = 0.01
"""A network below has not learned the data."""
ATTENTION = 0.15
"""Share of parameters in attention blocks: at most 0.1 in YOLOv8, YOLO11 and YOLO26, 0.21 and more in YOLO12."""

LABELS_MORE = (
    "That is a share of noise. Images without labels, which it would label (pseudo_labels), or a teacher of another, "
    "stronger family can bring more."
)
"""What to do where a teacher leads by next to nothing."""

Kind = Literal["recommended", "possible", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFigures:
    """Figures of one network that the advice rules use."""

    title: str
    map: float | None
    """mAP50-95; None where it was not, or could not be, measured."""
    per_class: Mapping[str, float]
    """AP50-95 of every class with ground truth."""
    num_parameters: int
    gflops: float
    """0 where its operations are not counted."""
    attention: float
    """Share of its parameters in attention blocks."""
    num_known: int
    """Classes of the data that it knows."""
    num_others: int
    """Classes that it knows and the data does not have."""
    num_wanted: int
    """Classes of the data."""
    step_ratio: float | None = None
    """A training step with this teacher over one without any."""
    worth: TeacherWorth | None = None
    """What it can be worth at most, if it is a teacher."""
    boxes_alone: bool = False
    """It is no YOLO: it has no features to teach, and no job trains it."""


@dataclass(frozen=True, slots=True)
class TeacherVerdict:
    """Verdict on one candidate, with reasons."""

    verdict: Kind
    reasons: tuple[str, ...]
    """Sentences; those against it first."""


def judge(student: ModelFigures, teacher: ModelFigures, *, best: float | None) -> TeacherVerdict:
    """Judge whether *teacher* should teach *student*.

    *best* is the highest mAP50-95 among the candidates.
    """
    if refusals := _refusals(student, teacher):
        return TeacherVerdict("refused", refusals)
    cautions = _cautions(student, teacher, best)
    return TeacherVerdict("possible" if cautions else "recommended", (*cautions, *_merits(student, teacher)))


def differences(student: ModelFigures, teacher: ModelFigures) -> dict[str, float]:
    """Return the teacher's AP50-95 less the student's, by class.

    Only classes measured for both are in it.
    """
    return {name: teacher.per_class[name] - ap for name, ap in student.per_class.items() if name in teacher.per_class}


def weaker(student: ModelFigures, teacher: ModelFigures, by: float = 0.0) -> list[str]:
    """Return the classes where the teacher is weaker, the weakest first.

    Weaker means below the student by more than *by* in AP50-95.
    """
    found = differences(student, teacher)
    return sorted((name for name, difference in found.items() if difference < -by), key=lambda name: found[name])


def choose(candidates: Sequence[tuple[ModelFigures, TeacherVerdict]]) -> int | None:
    """Return the index of the cheapest of the best recommended candidates.

    Candidates whose mAP50-95 lies within ``ALIKE`` of the best one teach alike. None when none is recommended.
    """
    fit = [index for index, (_, judged) in enumerate(candidates) if judged.verdict == "recommended"]
    if not fit:
        return None
    reached = {index: candidates[index][0].map or 0.0 for index in fit}
    best = max(reached.values())
    return min(
        (index for index in fit if reached[index] >= best - ALIKE), key=lambda index: _cost(candidates[index][0])
    )


def capacity_over(student: ModelFigures, teacher: ModelFigures) -> dict[str, float]:
    """Return the teacher's size over the student's: parameters and FLOPs.

    It is 0 where they are not counted.
    """
    return {
        "parameters": teacher.num_parameters / student.num_parameters,
        "gflops": teacher.gflops / student.gflops,
    }


def _refusals(student: ModelFigures, teacher: ModelFigures) -> tuple[str, ...]:
    if teacher.map is None or not teacher.num_known:
        return (f"It knows none of the data's classes: {_train_first(teacher)}.",)
    if student.map is not None and teacher.map < student.map:
        lag = _points(student.map - teacher.map)
        return (
            f"It is weaker than the student: mAP50-95 {teacher.map:.3f} against {student.map:.3f}, {lag} less.",
            "Train it longer on this data, or take a better one.",
        )
    if teacher.map < LEAST_MAP:
        return (f"It finds next to nothing in these images: mAP50-95 {teacher.map:.3f}; {_train_first(teacher)}.",)
    clearly = weaker(student, teacher, CLEARLY)
    if len(clearly) > MOST_WEAK * len(student.per_class):
        where = f"{len(clearly)} of {len(student.per_class)} classes"
        by = f"by more than {_points(CLEARLY)} of AP50-95: {_listed(clearly)}"
        return (f"It is clearly weaker than the student in {where}, {by}.",)
    return ()


def _cautions(student: ModelFigures, teacher: ModelFigures, best: float | None) -> tuple[str, ...]:
    """Return what speaks against the teacher without ruling it out."""
    assert teacher.map is not None
    ratio = capacity_over(student, teacher)["gflops"]
    said = []
    if student.map is not None and teacher.map - student.map < HARDLY:
        said.append(f"It is hardly better than the student, by less than {_points(HARDLY)}: it has little to teach.")
        if teacher.worth is not None and teacher.worth.most < LITTLE:
            said.append(f"{teacher.worth.sentence} {LABELS_MORE}")
    if clearly := weaker(student, teacher, CLEARLY):
        said.append(
            f"It is clearly weaker than the student in {_listed(clearly)}: the student would unlearn some of it."
        )
    if 0 < ratio < LEAST_RATIO:
        said.append(f"It is no larger than the student ({ratio:.1f} times its FLOPs): one or two sizes up teach more.")
    if ratio > MOST_RATIO:
        said.append(
            f"It is far larger than the student ({ratio:.0f} times its FLOPs): it costs more, and such gaps often "
            "teach less than one or two sizes up."
        )
    if teacher.num_known < teacher.num_wanted:
        said.append(
            f"It knows {teacher.num_known} of the data's {teacher.num_wanted} classes; the others it cannot teach."
        )
    if teacher.num_others:
        said.append(
            f"It has {teacher.num_others} classes that the data does not have, so it was not trained on this data: "
            f"{_train_first(teacher)}."
        )
    if teacher.attention > ATTENTION >= student.attention:
        said.append("It is built on attention and the student on convolutions: their features are alike in less.")
    if student.map is None and best is not None and best - teacher.map > CLEARLY:
        said.append(f"Another candidate is better by {_points(best - teacher.map)} of mAP50-95.")
    return tuple(said)


def _merits(student: ModelFigures, teacher: ModelFigures) -> tuple[str, ...]:
    """Return what speaks for the teacher."""
    assert teacher.map is not None
    ratio = capacity_over(student, teacher)["gflops"]
    said = []
    if student.map is None:
        said.append(
            f"It reaches mAP50-95 {teacher.map:.3f}; the student's is not known, so it is compared with no one's."
        )
    elif teacher.map - student.map >= HARDLY:
        lead = _points(teacher.map - student.map)
        said.append(
            f"It is better than the student by {lead} of mAP50-95: {teacher.map:.3f} against {student.map:.3f}."
        )
        if not weaker(student, teacher):
            said.append("It is at least as good as the student in every class.")
        elif not weaker(student, teacher, CLEARLY):
            said.append("It is clearly weaker than the student in no class.")
    if teacher.worth is not None and teacher.worth.most >= LITTLE:
        said.append(teacher.worth.sentence)
    if LEAST_RATIO <= ratio <= MOST_RATIO:
        said.append(f"It is one or two sizes up: {ratio:.1f} times the student's FLOPs.")
    if teacher.boxes_alone:
        said.append("It teaches boxes and class probabilities; it has no features that could be compared.")
    if teacher.num_known == teacher.num_wanted and not teacher.num_others:
        said.append("Its classes are the data's.")
    if teacher.step_ratio is not None:
        said.append(f"A training step with it takes {teacher.step_ratio:.2f} times as long as without a teacher.")
    return tuple(said)


def _train_first(teacher: ModelFigures) -> str:
    """Say what to do with a teacher that was not trained on this data."""
    return f"train it on this data first, {'where it comes from' if teacher.boxes_alone else 'by teacher.train'}"


def _cost(teacher: ModelFigures) -> float:
    return teacher.gflops if teacher.step_ratio is None else teacher.step_ratio


def _points(value: float) -> str:
    return f"{100 * value:.1f} points"


def _listed(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


@dataclass(frozen=True, slots=True)
class Measured:
    """A measured candidate with the figures for the rules."""

    weights: str
    title: str
    network: NetworkFigures
    step: StepCost
    figures: ModelFigures


@dataclass(frozen=True, slots=True)
class Unusable:
    """A candidate that cannot be loaded, with the reason."""

    weights: str
    title: str
    error: str


@dataclass(frozen=True, slots=True)
class AdviceConditions:
    """Conditions under which the advice figures hold."""

    dataset: AdviceData
    imgsz: int
    batch: int
    device: str


def answer(
    student: tuple[AdviceStudent, ModelFigures], candidates: Sequence[Measured | Unusable], conditions: AdviceConditions
) -> AdviceResult:
    """Judge the *candidates* and choose one of them."""
    shown, known = student
    sound = [one for one in candidates if isinstance(one, Measured)]
    best = max((one.figures.map for one in sound if one.figures.map is not None), default=None)
    judged = {id(one): judge(known, one.figures, best=best) for one in sound}
    listed = {id(one): _measured(known, one, judged[id(one)]) for one in sound}
    told = [listed[id(one)] if isinstance(one, Measured) else _unusable(one) for one in candidates]
    chosen = choose([(one.figures, judged[id(one)]) for one in sound])
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


def _measured(student: ModelFigures, one: Measured, judged: TeacherVerdict) -> MeasuredCandidate:
    known, capacity = one.figures, capacity_over(student, one.figures)
    return MeasuredCandidate(
        weights=one.weights,
        title=one.title,
        **dict(one.network),
        attention=known.attention,
        classes=KnownClasses(known=known.num_known, others=known.num_others, wanted=known.num_wanted),
        step=one.step,
        capacity=Capacity(parameters=capacity["parameters"], gflops=capacity["gflops"]),
        ap_over_student=differences(student, known),
        weaker_classes=tuple(weaker(student, known)),
        worth=known.worth,
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
    student: ModelFigures, candidates: Sequence[MeasuredCandidate | UnusableCandidate], taken: MeasuredCandidate | None
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
