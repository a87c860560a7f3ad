"""Separate the gain of pseudo-labels, unlabelled images and distillation terms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from retort.constants import MAP, Role
from retort.report.verdict import NOTHING, Curve, Noise, against_control, image_interval, kind_of, points, rise_of
from retort.spec.arms import SOURCES, ArmName, MeasuredArm
from retort.spec.result import JobResult
from retort.spec.verdict import Kind, PartName, Resampled, VerdictInterval, VerdictPart

Curves = Mapping[str, Mapping[str, Curve]]

_SAYS: dict[PartName, dict[Kind, str]] = {
    "pseudo_labels": {
        "gain": "The teacher's labels gained {} points of mAP50-95 over the labelled images alone",
        "none": "It is not shown that the teacher's labels help: {} points of mAP50-95 over the labelled images alone",
        "loss": "The teacher's labels did not help: {} points of mAP50-95 against the labelled images alone",
    },
    "unlabelled": {
        "gain": "Of this, the unlabelled images gained {} points",
        "none": "It is not shown that the unlabelled images help: {} points of this",
        "loss": "The unlabelled images did not help: {} points of this",
    },
    "terms": {
        "gain": "The distillation terms gained {} points against the control",
        "none": "It is not shown that the distillation terms help: {} points against the control",
        "loss": "The distillation terms did not help: {} points against the control",
    },
    "whole": {
        "gain": "All together gained {} points over the labelled images alone",
        "none": "It is not shown that all together help: {} points over the labelled images alone",
        "loss": "All together did not help: {} points against the labelled images alone",
    },
}


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two networks that differ in one part."""

    part: PartName
    network: str
    less: str
    resampled: Resampled | None


def parts(result: JobResult, arms: Sequence[MeasuredArm], curves: Curves, noise: Noise) -> tuple[VerdictPart, ...]:
    """Return the parts of what a job gained, in the order of their sum.

    There are none where no arm separates them. Each is of the first seed, with the interval of one seed; but for
    student less control, which is the verdict's own. They add up to the whole where there is one seed.
    """
    known = {one.arm: one for one in arms if one.arm in SOURCES}
    if not known or result.roles.control is None:
        return ()
    scores: dict[str, float] = {Role.STUDENT: result.roles.student.map, Role.CONTROL: result.roles.control.map}
    scores.update({name: one.figures.map for name, one in known.items()})
    return tuple(_judged(result, pair, scores, curves, noise) for pair in _pairs(known, noise))


def _pairs(known: Mapping[ArmName, MeasuredArm], noise: Noise) -> Iterator[_Pair]:
    labelled, without = known.get("labelled_only"), known.get("without_unlabelled")
    student, control = Role.STUDENT, Role.CONTROL
    if labelled is not None:
        yield _Pair("pseudo_labels", control, labelled.arm, labelled.resampled_control)
    if without is None:
        yield _Pair("terms", student, control, noise.resampled)
    else:
        yield _Pair("terms", without.arm, control, _reversed(without.resampled_control))
        yield _Pair("unlabelled", student, without.arm, without.resampled)
    if labelled is None:
        yield _Pair("whole", student, control, noise.resampled)
    else:
        yield _Pair("whole", student, labelled.arm, labelled.resampled)


def _reversed(found: Resampled | None) -> Resampled | None:
    return None if found is None else found.model_copy(update={"low": -found.high, "high": -found.low})


def _judged(
    result: JobResult, pair: _Pair, scores: Mapping[str, float], curves: Curves, noise: Noise
) -> VerdictPart:  # fmt: skip
    if (pair.network, pair.less) == (Role.STUDENT, Role.CONTROL):
        difference, interval = against_control(result, noise)
        assert difference is not None, "there is a control"
    else:
        difference = scores[pair.network] - scores[pair.less]
        learning = [curve for name in (pair.network, pair.less) if (curve := _curve(curves, name)) is not None]
        interval = image_interval(difference, Noise(resampled=pair.resampled, rise=rise_of(learning)))
    learned = max(scores[pair.network], scores[pair.less]) >= NOTHING
    kind = kind_of(interval) if learned else "none"
    told = f"{_SAYS[pair.part][kind].format(points(difference))} ({_bounds(interval)})."
    return VerdictPart(
        part=pair.part, network=str(pair.network), less=str(pair.less), difference=difference, interval=interval,
        kind=kind, sentence=told,
    )  # fmt: skip


def _curve(curves: Curves, network: str) -> Curve | None:
    if network in {Role.STUDENT, Role.CONTROL}:
        return curves.get(network, {}).get(MAP)
    return curves.get(Role.JOB, {}).get(f"arm-{network.replace('_', '-')}/{MAP}")


def _bounds(interval: VerdictInterval | None) -> str:
    if interval is None:
        return "nothing is known of its noise"
    over = f"{interval.number} seeds" if interval.over == "seeds" else "one seed"
    return f"{over}, {interval.level:.0%} interval {points(interval.low)} to {points(interval.high)}"
