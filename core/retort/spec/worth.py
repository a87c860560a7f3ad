"""Define what a teacher can be worth at most, and what it was."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from retort.schema import StoredModel, absent
from retort.spec.verdict import Resampled

WorthBasis = Literal["control", "fit", "start", "none"]
"""What stands for the student without a teacher: its control, a plain training of some epochs, the weights that it
starts from, or nothing."""


class ClassWorth(StoredModel):
    """What a teacher can be worth in one class."""

    teacher: float
    """AP50-95 of the teacher."""
    plain: float | None
    """What the student reaches without it, as far as ``basis`` knows; null where nothing is known."""
    most: float
    """The teacher's AP50-95 less that, or 0 where it is below."""
    gained: float | None = Field(default=None, exclude_if=absent)
    """Student less control, once both were measured."""


class TeacherWorth(StoredModel):
    """An upper bound of what a teacher can be worth: a student seldom gets beyond it."""

    most: float
    """By how much mAP50-95 can rise: the mean of ``per_class``."""
    basis: WorthBasis
    """What the teacher was set against. Where that is less than the student reaches alone, the bound is too high."""
    epochs: int | None = Field(default=None, exclude_if=absent)
    """Of the plain training, where ``basis`` is ``fit``."""
    interval: Resampled | None = None
    """Of ``most``, over other choices of the same images."""
    per_class: dict[str, ClassWorth]
    """By class with ground truth."""
    sentence: str
    """The same in words."""


class WorthCheck(TeacherWorth):
    """What the teacher could be worth by the control, beside what it was."""

    gained: float
    """Student less control, of the first seed."""
    excess: float
    """By how much the student is above the better of teacher and control, the mean over classes: above 0 it has gained
    more than ``most``."""
    held: bool | None
    """Whether the gain is no more than ``most``; null where it is more by no more than chance makes."""
    foretold: TeacherWorth | None = Field(default=None, exclude_if=absent)
    """What was said before the student was trained; absent in results from before."""
    foretold_held: bool | None = Field(default=None, exclude_if=absent)
    """Whether the gain is no more than that."""
