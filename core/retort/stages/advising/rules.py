"""The rules by which a teacher is recommended, called possible, or refused; docs/advice.md gives their sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

LEAST_RATIO, MOST_RATIO = 1.2, 13.0
"""Of a teacher's FLOPs to the student's: one or two sizes up.

The smallest step of one size is 1.28 (YOLO11 m to l), the largest of two is 12.6 (YOLO26 n to m). Ultralytics' own
distilled models have teachers of 2.2 to 3.8; YOLOv5s learned 3.7 points of mAP50 from m (3.0), 0.3 from l (6.6).
"""
HARDLY = 0.005
"""Half a point of mAP50-95 is a share of noise: see the verdict of a job's report."""
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

Kind = Literal["recommended", "possible", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What the rules know of one network."""

    title: str
    map: float | None
    """mAP50-95; None where it was not, or could not be, measured."""
    per_class: Mapping[str, float]
    """AP50-95 of every class with ground truth."""
    num_parameters: int
    gflops: float
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


@dataclass(frozen=True, slots=True)
class Judged:
    """What is said of one candidate."""

    verdict: Kind
    reasons: tuple[str, ...]
    """Sentences; those against it first."""


def judge(student: Figures, teacher: Figures, *, best: float | None) -> Judged:
    """Say whether *teacher* should teach *student*; *best* is the highest mAP50-95 among the candidates."""
    if refusals := _refusals(student, teacher):
        return Judged("refused", refusals)
    cautions = _cautions(student, teacher, best)
    return Judged("possible" if cautions else "recommended", (*cautions, *_merits(student, teacher)))


def differences(student: Figures, teacher: Figures) -> dict[str, float]:
    """Return by how much AP50-95 the teacher is better in each class that was measured of both."""
    return {name: teacher.per_class[name] - ap for name, ap in student.per_class.items() if name in teacher.per_class}


def weaker(student: Figures, teacher: Figures, by: float = 0.0) -> list[str]:
    """Return the classes in which the teacher is weaker than the student by more than *by*, the weakest first."""
    found = differences(student, teacher)
    return sorted((name for name, difference in found.items() if difference < -by), key=lambda name: found[name])


def choose(candidates: Sequence[tuple[Figures, Judged]]) -> int | None:
    """Return which candidate to take: of the recommended ones that teach alike, the cheapest."""
    fit = [index for index, (_, judged) in enumerate(candidates) if judged.verdict == "recommended"]
    if not fit:
        return None
    reached = {index: candidates[index][0].map or 0.0 for index in fit}
    best = max(reached.values())
    return min(
        (index for index in fit if reached[index] >= best - ALIKE), key=lambda index: _cost(candidates[index][0])
    )


def capacity(student: Figures, teacher: Figures) -> dict[str, float]:
    """Return how many times as large as the student the teacher is."""
    return {
        "parameters": teacher.num_parameters / student.num_parameters,
        "gflops": teacher.gflops / student.gflops,
    }


def _refusals(student: Figures, teacher: Figures) -> tuple[str, ...]:
    if teacher.map is None or not teacher.num_known:
        return ("It knows none of the data's classes: train it on this data first (teacher.train).",)
    if student.map is not None and teacher.map < student.map:
        lag = _points(student.map - teacher.map)
        return (
            f"It is weaker than the student: mAP50-95 {teacher.map:.3f} against {student.map:.3f}, {lag} less.",
            "Train it longer on this data, or take a better one.",
        )
    if teacher.map < LEAST_MAP:
        return (f"It finds next to nothing in these images: mAP50-95 {teacher.map:.3f}. Train it on this data first.",)
    clearly = weaker(student, teacher, CLEARLY)
    if len(clearly) > MOST_WEAK * len(student.per_class):
        where = f"{len(clearly)} of {len(student.per_class)} classes"
        by = f"by more than {_points(CLEARLY)} of AP50-95: {_listed(clearly)}"
        return (f"It is clearly weaker than the student in {where}, {by}.",)
    return ()


def _cautions(student: Figures, teacher: Figures, best: float | None) -> tuple[str, ...]:
    """Return what speaks against the teacher without ruling it out."""
    assert teacher.map is not None
    ratio = capacity(student, teacher)["gflops"]
    said = []
    if student.map is not None and teacher.map - student.map < HARDLY:
        said.append(f"It is hardly better than the student, by less than {_points(HARDLY)}: it has little to teach.")
    if clearly := weaker(student, teacher, CLEARLY):
        said.append(
            f"It is clearly weaker than the student in {_listed(clearly)}: the student would unlearn some of it."
        )
    if ratio < LEAST_RATIO:
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
            "fine-tune it first (teacher.train)."
        )
    if teacher.attention > ATTENTION >= student.attention:
        said.append("It is built on attention and the student on convolutions: their features are alike in less.")
    if student.map is None and best is not None and best - teacher.map > CLEARLY:
        said.append(f"Another candidate is better by {_points(best - teacher.map)} of mAP50-95.")
    return tuple(said)


def _merits(student: Figures, teacher: Figures) -> tuple[str, ...]:
    """Return what speaks for the teacher."""
    assert teacher.map is not None
    ratio = capacity(student, teacher)["gflops"]
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
    if LEAST_RATIO <= ratio <= MOST_RATIO:
        said.append(f"It is one or two sizes up: {ratio:.1f} times the student's FLOPs.")
    if teacher.num_known == teacher.num_wanted and not teacher.num_others:
        said.append("Its classes are the data's.")
    if teacher.step_ratio is not None:
        said.append(f"A training step with it takes {teacher.step_ratio:.2f} times as long as without a teacher.")
    return tuple(said)


def _cost(teacher: Figures) -> float:
    return teacher.gflops if teacher.step_ratio is None else teacher.step_ratio


def _points(value: float) -> str:
    return f"{100 * value:.1f} points"


def _listed(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
