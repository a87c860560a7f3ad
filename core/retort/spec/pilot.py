"""Define what the pilot of a distillation has measured and decided."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from retort.schema import StoredModel, absent
from retort.spec.verdict import VerdictInterval

PilotArmName = Literal["plain", "recipe", "lowered"]
PilotDecision = Literal["go", "lowered", "stopped", "skipped"]

ABOUT_PILOT: dict[PilotArmName, str] = {
    "plain": "the student without a teacher",
    "recipe": "the distillation as the spec has it",
    "lowered": "half of every weight, and labels assigned by the student",
}
"""What each of its trainings is."""

RULE = (
    "A distillation pays where the interval of its difference to plain, over the held-apart images and the noise of "
    "seeds, lies above 0. If the recipe pays, it goes on as specified; if only the lowered one does, that one goes on; "
    "else the distillation is stopped, and the student is trained as its control is."
)
"""By which it decides, fixed before anything is measured."""


class PilotArm(StoredModel):
    """One short training of the pilot, measured on the held-apart images."""

    arm: PilotArmName
    """Which one it is."""
    map50: float
    """mAP50 on the held-apart images."""
    map: float
    """mAP50-95 on the same images."""
    difference: float | None = Field(default=None, exclude_if=absent)
    """Less that of ``plain``; absent for ``plain`` itself."""
    interval: VerdictInterval | None = Field(default=None, exclude_if=absent)
    """Of the difference, made as a verdict's of one seed is; absent where nothing is known of its noise."""
    training_s: float | None = None
    """Seconds of its training, over all attempts."""


class PilotFigures(StoredModel):
    """What the pilot has measured, and what it has decided for all seeds and arms of the job."""

    decision: PilotDecision
    """``go``: the recipe is taught as specified; ``lowered``: less of it; ``stopped``: nothing is distilled, so that
    the student is the control; ``skipped``: no pilot could be made, and nothing is distilled either."""
    sentence: str
    """The same in words, with its reason."""
    epochs: int = 0
    """Of each short training, with the whole of the schedule; 0 where it was skipped."""
    num_train: int = 0
    """Training images that the pilot has learned from."""
    num_held_apart: int = 0
    """Labelled training images that it was measured on."""
    arms: tuple[PilotArm, ...] = ()
    """Its trainings, in their order."""

    @property
    def stops(self) -> bool:
        """Return True where nothing is distilled, so that the student is the control."""
        return self.decision in {"stopped", "skipped"}
