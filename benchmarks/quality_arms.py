"""The arms of a study: what each is trained on, what teaches it, and for how long.

An arm is written ``WHAT`` or ``IMAGES:WHAT``. WHAT is ``plain``, ``class_weights``, ``equal_time`` or
``equal_time=ARM``, ``long`` or ``long=FACTOR``, ``assignment``, ``placebo``, ``misnamed``, ``self``, a recipe's name,
or a JSON file with a ``distillation`` section; ``cached`` or ``cached=RECIPE`` under a teacher that was asked ahead of
time; ``piloted`` or ``piloted=WHAT``, what a job's pilot decides on WHAT. IMAGES says what becomes of the images whose
labels the study leaves out (see ``quality_sets.IMAGES``).
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from quality_sets import IMAGES
from retort.spec import DistillationSpec

PLAIN, LONG = "plain", 3.0
"""The arm that the others are compared with; how many times its epochs ``long`` has."""
REFERENCE = "balanced"
"""The recipe whose class weights, assignment, terms and time the controls have that name no other."""
SHORT = {"equal_steps": "repeated:plain", "pseudo": "pseudo:plain"}
"""Names of their own for arms that few labels are judged by."""
UNTAUGHT = {PLAIN, "long", "equal_time", "class_weights", "assignment", "piloted"}
"""Of which a pilot has nothing to try."""


@dataclass(frozen=True)
class Arm:
    """One arm, as the command line names it."""

    name: str
    images: str
    what: str
    argument: str = ""
    """What follows an equals sign."""

    @classmethod
    def read(cls, text: str) -> Arm:
        """Read an arm.

        Raises:
            ValueError: there is no such use of images, or the argument is no number.

        """
        images, colon, what = SHORT.get(text, text).rpartition(":")
        if colon and images not in IMAGES:
            raise ValueError(f"{text}: images are used as {', '.join(IMAGES)}, not as {images}")
        what, _, argument = what.partition("=")
        if what == "long" and argument and not float(argument) > 0:
            raise ValueError(f"{text}: as many times the epochs must be above 0")
        if what == "piloted":
            _refuse_unpiloted(text, images, argument)
        return cls(text, images if colon else "labelled", what, argument)

    def partner(self, what: str = PLAIN) -> str:
        """Return the name of the arm that has the same images, and *what*."""
        text = what if self.images == "labelled" else f"{self.images}:{what}"
        return next((short for short, long in SHORT.items() if long == text), text)


def _refuse_unpiloted(text: str, images: str, argument: str) -> None:
    if argument.partition("=")[0] in UNTAUGHT:
        raise ValueError(f"{text}: a pilot tries what a teacher's terms buy: a recipe, FILE.json, cached, placebo, ..")
    if images == "repeated":
        raise ValueError(f"{text}: a copy of an image that is held apart would be learned from")


@dataclass(frozen=True)
class Treatment:
    """What an arm is given, written out."""

    epochs: int
    images: str
    spec: DistillationSpec | None = None
    teacher: str | None = None
    """``teacher``; ``misnamed``, the same with its classes' names moved by one; ``placebo``, the student's own start;
    or ``self``, the average of the student's own weights."""
    class_balance: float = 0.0
    terms: bool = True
    cached: bool = False
    """The teacher is asked ahead of time."""
    piloted: bool = False
    """A pilot decides whether it is done."""

    @property
    def extras(self) -> dict[str, object]:
        """What beyond epochs, images, spec and teacher decides the run; empty for plain ones and recipes."""
        given = {
            "class_balance": self.class_balance, "terms": self.terms, "placebo": self.teacher == "placebo",
            "self": self.teacher == "self", "cached": self.cached, "misnamed": self.teacher == "misnamed",
            "piloted": self.piloted,
        }  # fmt: skip
        usual = {"class_balance": 0.0, "terms": True}
        return {name: value for name, value in given.items() if value != usual.get(name, False)}


def specification(recipe: str) -> DistillationSpec | None:
    """Return the recipe's spec; none for plain. A path to a JSON file is a spec of one's own."""
    if recipe == PLAIN:
        return None
    if recipe.endswith(".json"):
        return DistillationSpec.model_validate(json.loads(Path(recipe).read_text()))
    return DistillationSpec.model_validate({"recipe": recipe})


def treatment(arm: Arm, epochs: int, cost: Callable[[str], float]) -> Treatment:
    """Write out what *arm* is given, where plain has so many *epochs*.

    *cost* returns the seconds that another arm of the same seed took, by its name.
    """
    if arm.what == "piloted":
        what, _, argument = (arm.argument or REFERENCE).partition("=")
        tried = dataclasses.replace(arm, what=what, argument=argument)
        return dataclasses.replace(treatment(tried, epochs, cost), piloted=True)
    reference = specification(REFERENCE)
    assert reference is not None, "it is a recipe"
    if arm.what == "long":
        return Treatment(math.ceil(epochs * float(arm.argument or LONG)), arm.images)
    if arm.what == "equal_time":
        return Treatment(equal_epochs(epochs, cost(arm.partner()), cost(timed(arm))), arm.images)
    controls = {
        "class_weights": Treatment(epochs, arm.images, class_balance=reference.class_balance),
        "assignment": Treatment(epochs, arm.images, reference, "teacher", terms=False),
        "placebo": Treatment(epochs, arm.images, reference, "placebo"),
        "misnamed": Treatment(epochs, arm.images, reference, "misnamed"),
        "self": Treatment(epochs, arm.images, reference, "self"),
    }
    if arm.what in controls:
        return controls[arm.what]
    cached = arm.what == "cached"
    spec = specification(arm.argument or REFERENCE if cached else arm.what)
    return Treatment(epochs, arm.images, spec, None if spec is None else "teacher", cached=cached)


def equal_epochs(epochs: int, plain: float, taught: float) -> int:
    """Return for how many epochs a plain training lasts as long as a taught one, whose costs for *epochs* are given."""
    return max(1, round(epochs * taught / plain))


def timed(arm: Arm) -> str:
    """Return the arm whose time an ``equal_time`` has."""
    return arm.argument or arm.partner(REFERENCE)


def ordered(arms: Sequence[Arm]) -> list[Arm]:
    """Return the arms so that each comes after those whose time it needs.

    Raises:
        ValueError: an arm whose time is needed is not there.

    """
    names = {arm.name for arm in arms}
    late = [arm for arm in arms if arm.what == "equal_time"]
    for arm in late:
        if missing := {arm.partner(), timed(arm)} - names:
            raise ValueError(
                f"{arm.name} needs the time of {' and '.join(sorted(missing))}: name it among the arms too"
            )
    return [arm for arm in arms if arm not in late] + late
