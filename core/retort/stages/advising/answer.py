"""The answer to a request for advice: every candidate with its figures and verdict, and which one to take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from retort.stages.advising import rules
from retort.stages.advising.rules import Figures, Judged

Measured = tuple[dict[str, Any], Figures | None]
"""What is shown of a candidate, and what the rules know; None where it cannot be loaded."""


def answer(student: tuple[dict[str, Any], Figures], candidates: Sequence[Measured]) -> dict[str, Any]:
    """Judge the *candidates* and choose among them."""
    shown, known = student
    reached = [figures.map for _, figures in candidates if figures is not None and figures.map is not None]
    judged = [_judged(known, about, figures, max(reached, default=None)) for about, figures in candidates]
    sound = [(index, figures) for index, (_, figures) in enumerate(candidates) if figures is not None]
    taken = rules.choose([(figures, judged[index][1]) for index, figures in sound])
    chosen = None if taken is None else sound[taken][0]
    return {
        "task": "advise",
        "student": shown,
        "candidates": [about for about, _ in judged],
        "recommended": None if chosen is None else _recommended([about for about, _ in judged], chosen),
        "sentence": _sentence(known, [about for about, _ in judged], chosen),
    }


def _judged(
    student: Figures, about: Mapping[str, Any], teacher: Figures | None, best: float | None
) -> tuple[dict[str, Any], Judged]:
    if teacher is None:
        judged = Judged("refused", (f"It cannot be used: {about['error']}.",))
        return {**about, "verdict": judged.verdict, "reasons": list(judged.reasons)}, judged
    judged = rules.judge(student, teacher, best=best)
    return {
        **about,
        "capacity": rules.capacity(student, teacher),
        "ap_over_student": rules.differences(student, teacher),
        "weaker_classes": rules.weaker(student, teacher),
        "verdict": judged.verdict,
        "reasons": list(judged.reasons),
    }, judged


def _recommended(candidates: Sequence[Mapping[str, Any]], chosen: int) -> dict[str, Any]:
    one = candidates[chosen]
    others = [found for found in candidates if found is not one and found["verdict"] == "recommended"]
    reasons = list(one["reasons"])
    for other in others:
        ahead = 100 * (one["map"] - other["map"])
        longer = one["step"]["ratio"] / other["step"]["ratio"]
        reasons.append(
            f"Beside {other['title']} it is {abs(ahead):.1f} points {'better' if ahead >= 0 else 'behind'}, "
            f"and a step takes {longer:.2f} times as long."
        )
    return {"weights": one["weights"], "title": one["title"], "reasons": reasons}


def _sentence(student: Figures, candidates: Sequence[Mapping[str, Any]], chosen: int | None) -> str:
    beside = (
        "" if student.map is not None else " The student's mAP is not known, so they were compared among themselves."
    )
    if chosen is not None:
        return f"Take {candidates[chosen]['title']}.{beside}"
    possible = [one["title"] for one in candidates if one["verdict"] == "possible"]
    if possible:
        return f"None is recommended; {', '.join(possible)} would be possible, with what is said against it.{beside}"
    return f"None of them should teach this student: train one on this data first (teacher.train).{beside}"
