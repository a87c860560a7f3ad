"""Lay out the stages of a job: done, under way, ahead, with their times."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from retort.db.models import TransitionRow
from retort.states import ACTIVE, TERMINAL, JobState

from retort_api.pages import words

Where = Literal["done", "now", "ended", "ahead", "left_out", "skipped"]


@dataclass(frozen=True, slots=True)
class StageKind:
    """A stage that jobs of a task may have."""

    name: str
    title: str
    applies: Callable[[Mapping[str, Any]], bool] = lambda _: True


def _reviews(spec: Mapping[str, Any]) -> bool:
    return bool((spec.get("pseudo_labels") or {}).get("review", "none") != "none")


STAGES: Mapping[str, tuple[StageKind, ...]] = {
    "distill": (
        StageKind("check", "check the networks"),
        StageKind("train_teacher", "train the teacher", lambda spec: bool(spec["teacher"].get("train"))),
        StageKind("pseudo_label", "label images", lambda spec: bool(spec.get("pseudo_labels"))),
        StageKind("review", "review by people", _reviews),
        StageKind("teach_ahead", "ask the teacher ahead", lambda spec: bool(spec["teacher"].get("cache"))),
        StageKind("pilot", "try the distillation", lambda spec: bool((spec.get("distillation") or {}).get("pilot"))),
        StageKind("distill", "train the student"),
        StageKind("control", "train the control", lambda spec: bool(spec.get("control"))),
        StageKind("repeat", "repeat with other seeds", lambda spec: spec["training"].get("seeds", 1) > 1),
        StageKind("arms", "train further controls", lambda spec: bool(spec.get("arms"))),
        StageKind("evaluate", "evaluate"),
        StageKind("export", "export", lambda spec: bool(spec.get("exports"))),
        StageKind("report", "report"),
    ),
    "advise": (StageKind("advise", "measure the candidates"),),
    "evaluate": (StageKind("measure", "measure the networks"),),
}
"""By task, in the order in which they run."""


@dataclass(frozen=True, slots=True)
class StageStep:
    """One stage of one job."""

    name: str
    title: str
    where: Where
    seconds: float | None
    """For how long it has run, over all attempts; None before it begins."""


def steps(
    spec: Mapping[str, Any],
    state: JobState,
    transitions: Sequence[TransitionRow],
    now: float,
    skipped: Collection[str] = (),
    *,
    tried: bool = False,
) -> tuple[StageStep, ...]:
    """Return the stages of a job as it stands.

    A stage that another attempt has finished is not told of again, so that one before the latest counts as done,
    unless it is among *skipped*: the run passed it by. A job that a worker has *tried* and that ended before its first
    stage ended in that stage: what comes before it is checked for it.
    """
    begun = [one.name for one in transitions if one.kind == "stage"]
    kinds = _with_own([kind for kind in STAGES[spec.get("task") or "distill"] if kind.applies(spec)], begun)
    took = durations(transitions, now)
    before = 0 if tried and state in TERMINAL else -1
    latest = [kind.name for kind in kinds].index(begun[-1]) if begun else before
    return tuple(
        StageStep(kind.name, kind.title, "skipped", None)
        if kind.name in skipped
        else StageStep(kind.name, kind.title, _where(place, latest, state), took.get(kind.name))
        for place, kind in enumerate(kinds)
    )


def _with_own(kinds: list[StageKind], begun: Sequence[str]) -> list[StageKind]:
    """Add stages that a service has of its own, each behind the one that ran before it."""
    place = 0
    for name in begun:
        names = [kind.name for kind in kinds]
        if name not in names:
            kinds.insert(place, StageKind(name, words.stage(name)))
        place = [kind.name for kind in kinds].index(name) + 1
    return kinds


def _where(place: int, latest: int, state: JobState) -> Where:
    if state is JobState.SUCCEEDED or place < latest:
        return "done"
    if place == latest:
        return "now" if state in ACTIVE or state is JobState.AWAITING_REVIEW else "ended"
    return "left_out" if state in TERMINAL else "ahead"


def durations(transitions: Sequence[TransitionRow], now: float) -> dict[str, float]:
    """Return for how many seconds each stage has run, over all attempts."""
    took: dict[str, float] = {}
    for place, one in enumerate(transitions):
        if one.kind == "stage":
            following = transitions[place + 1].at if place + 1 < len(transitions) else now
            took[one.name] = took.get(one.name, 0.0) + max(0.0, following - one.at)
    return took


TRAINED_BY: Mapping[str, tuple[str, str]] = {
    "train_teacher": ("teacher", "teacher.train.epochs"),
    "distill": ("student", "training.epochs"),
    "control": ("control", "training.epochs"),
}
"""Of the stages that train one network: whose metrics they tell, and where the spec has their number of epochs."""
_TRAININGS = frozenset({"distill", "control", "repeat", "arms"})


def trains_yet(stages: Sequence[StageStep]) -> bool:
    """Return whether a training that can end early is under way, or ahead."""
    return any(one.name in _TRAININGS and one.where in {"now", "ended", "ahead"} for one in stages)
