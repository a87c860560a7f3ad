"""Bound what a teacher can be worth, and check the bound."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from retort.report.verdict import NOTHING, Noise, image_interval, points
from retort.spec.figures import NetworkFigures, Roles
from retort.spec.verdict import Resampled
from retort.spec.worth import ClassWorth, TeacherWorth, WorthBasis, WorthCheck

LITTLE = 0.005
"""Half a point of mAP50-95 is a share of noise: a teacher that can be worth no more is hardly worth its cost."""


def aps(figures: NetworkFigures) -> dict[str, float]:
    """Return AP50-95 by class."""
    return {name: scores.ap for name, scores in figures.per_class.items()}


def bound(
    teacher: Mapping[str, float],
    plain: Mapping[str, float] | None,
    *,
    basis: WorthBasis,
    interval: Resampled | None = None,
    epochs: int | None = None,
) -> TeacherWorth | None:
    """Return what *teacher* can add to *plain*, both AP50-95 by class.

    None where nothing was measured. In each class a student is taken to get no further than the better of its teacher
    and itself, so the gain is max(0, teacher - plain) at most, and the mean over classes bounds mAP50-95. It is a bound
    in practice and no law: students have passed their teachers (born-again networks, arXiv 1805.04770). Without *plain*
    it is all that the teacher reaches.
    """
    if not teacher:
        return None
    alone = None if plain is None else {name: plain.get(name, 0.0) for name in teacher}
    classes = {
        name: ClassWorth(
            teacher=reached,
            plain=None if alone is None else alone[name],
            most=reached if alone is None else max(0.0, reached - alone[name]),
        )
        for name, reached in teacher.items()
    }
    most = fmean(one.most for one in classes.values())
    return TeacherWorth(
        most=most, basis=basis, epochs=epochs, interval=interval, per_class=classes,
        sentence=f"{_at_most('It can be', most, interval)}, {_beside(basis, epochs)}",
    )  # fmt: skip


def _at_most(who: str, most: float, interval: Resampled | None) -> str:
    over = "" if interval is None else f" ({points(interval.low)} to {points(interval.high)} over these images)"
    return f"{who} worth at most {points(most)} points of mAP50-95{over}"


def _beside(basis: WorthBasis, epochs: int | None) -> str:
    return {
        "control": "its lead over the control, class by class.",
        "fit": (
            f"its lead, class by class, over the student after {epochs} epochs without a teacher; "
            "a longer training would leave less."
        ),
        "start": (
            "its lead, class by class, over the weights that the student starts from; training alone brings part of it."
        ),
        "none": "which is all that it reaches: what the student reaches alone is not known yet, so this says little.",
    }[basis]


def check(
    roles: Roles,
    *,
    most: Resampled | None,
    excess: Resampled | None,
    noise: Noise,
    foretold: TeacherWorth | None,
) -> WorthCheck | None:
    """Set what distillation gained beside what the teacher could be worth by the control.

    *most* and *excess* are intervals over the images. The bound has held where the gain is no more; it is broken where
    the student is above the better of teacher and control by more than images and seeds explain; between the two it
    cannot be told. None where teacher or control were not measured, or student and control have hardly learned
    anything, which any bound holds.
    """
    teacher, control = roles.teacher, roles.control
    if teacher is None or control is None or max(roles.student.map, control.map) < NOTHING:
        return None
    found = bound(aps(teacher), aps(control), basis="control")
    if found is None:
        return None
    student, plain = aps(roles.student), aps(control)
    classes = {
        name: one.model_copy(update={"gained": student.get(name, 0.0) - plain.get(name, 0.0)})
        for name, one in found.per_class.items()
    }
    gained = roles.student.map - control.map
    above = gained - found.most
    held = _held(above, excess, noise)
    beyond = 0.0 if foretold is None else gained - foretold.most
    before = None if foretold is None else _held(beyond, _moved(excess, above, beyond), noise)
    return WorthCheck(
        most=found.most, basis=found.basis, interval=most, per_class=classes, gained=gained, excess=above, held=held,
        foretold=foretold, foretold_held=before,
        sentence=f"{_at_most('The teacher could be', found.most, most)}, its lead over the control, class by class: "
        f"the student gained {points(gained)}, {_HELD[held]}",
    )  # fmt: skip


_HELD = {
    True: "which is within it.",
    None: "which is more, but by no more than chance makes.",
    False: "which is more: it has passed its teacher, or the gain comes from something other than what that knows.",
}


def _held(above: float, images: Resampled | None, noise: Noise) -> bool | None:
    """Return whether a gain that is *above* a bound by so much leaves the bound standing."""
    if above <= 0:
        return True
    around = image_interval(above, Noise(images, noise.rise))
    return False if around is not None and around.low > 0 else None


def _moved(images: Resampled | None, was: float, now: float) -> Resampled | None:
    """Return the interval around *was* as one around *now*."""
    if images is None:
        return None
    return images.model_copy(update={"low": images.low + now - was, "high": images.high + now - was})
