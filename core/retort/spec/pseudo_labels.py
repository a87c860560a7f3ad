"""The section that has the teacher label images, and people look at its labels."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from retort.spec.sections import LocalPath
from retort.variants import Written, mistake

Score = Annotated[float, Field(ge=0.01, lt=1)]
"""A confidence of a detection."""

_FIRST_DOUBT = 0.3


class PseudoLabelsSpec(Written):
    """Images without labels, which the teacher labels for student and control alike."""

    path: LocalPath
    """A folder of images, with all its subfolders, inside a folder the operator allows. Labels that lie there are not
    trained on: the teacher's are compared with them."""
    confidence: Score = 0.8
    """Boxes from this score on become labels."""
    per_class: dict[str, Score] = Field(default_factory=dict, max_length=10_000)
    """The same for single classes, by their names."""
    ignore_from: Score | None = _FIRST_DOUBT
    """Boxes from here up to the score that makes a label are neither labels nor background; null is for none."""
    review: Literal["none", "sample", "all"] = "none"
    """Whether the job waits until people have looked at a sample of the images, or at all of them."""
    sample: int = Field(default=50, ge=1, le=100_000)
    """Images in the sample, spread over classes and scores, drawn by ``training.seed``."""
    check_labels: bool = False
    """Let the teacher look at the training labels too, for boxes that are missing, doubtful or there twice."""

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        """Insist that doubt ends where labels begin."""
        lowest = min([self.confidence, *self.per_class.values()])
        if self.ignore_from is not None and self.ignore_from >= lowest:
            hint = f"lower than {lowest:g}, from where boxes are labels; null is for no band"
            raise mistake("does not lie below the scores that make labels", at="ignore_from", hint=hint)
        return self

    def threshold(self, name: str) -> float:
        """Return the score from which boxes of the class *name* are labels."""
        return self.per_class.get(name, self.confidence)

    @property
    def lowest(self) -> float:
        """The score below which boxes mean nothing."""
        scores = [self.confidence, *self.per_class.values()]
        return min(scores if self.ignore_from is None else [*scores, self.ignore_from])
