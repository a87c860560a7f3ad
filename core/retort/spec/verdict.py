"""Define the verdict on a distillation: what may be said of student against control."""

from __future__ import annotations

import operator
from typing import Literal

from pydantic import Field

from retort.schema import StoredModel

LEVEL = 0.95
"""Of every interval."""
Kind = Literal["gain", "none", "loss", "unknown"]


class Resampled(StoredModel):
    """The difference of mAP50-95 of two networks over other choices of the same images: a percentile bootstrap."""

    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""
    level: float
    """Of the interval."""
    num_images: int
    """Images that were drawn from, and drawn each time."""
    num_resamples: int
    """How often they were drawn."""


class VerdictInterval(StoredModel):
    """Where the difference lies, and what the interval knows of."""

    low: float
    """Lower end."""
    high: float
    """Upper end."""
    level: float
    """Of the interval."""
    over: Literal["seeds", "images"]
    """``seeds``: Student's paired t over pairs of one seed, widened by a bootstrap over the validation images.
    ``images``: that bootstrap, widened by the noise of seeds."""
    number: int
    """Pairs of seeds, or images."""
    seed_noise: float | None = None
    """By how much networks that differ by their seed alone were measured to differ (standard deviation of mAP50-95),
    where the interval is widened by it."""


PartName = Literal["pseudo_labels", "terms", "unlabelled", "whole"]
"""What brought a part: labels of the teacher, distillation terms, images without labels, or all of these."""


class VerdictPart(StoredModel):
    """One of the parts that the whole is made of: the difference of two networks that differ in it."""

    part: PartName
    """What brought it."""
    network: str
    """The network that has it: a role or an arm."""
    less: str
    """The network that has it not."""
    difference: float
    """The first less the second in mAP50-95; of the first seed, but for student less control, as in ``difference``."""
    interval: VerdictInterval | None
    """Of the difference; null where nothing is known of its noise."""
    kind: Kind
    """``gain`` and ``loss`` only where the interval has no zero in it."""
    sentence: str
    """What the difference shows."""


class Verdict(StoredModel):
    """The one judgement of a job, made once at its end; everything that shows a result shows this."""

    kind: Kind
    """Of student against control. ``gain`` and ``loss`` only where the interval has no zero in it; ``loss`` too for a
    student that ends below the weights it began with."""
    sentence: str
    """The same in words."""
    difference: float | None = None
    """Student less control in mAP50-95, the mean over seeds where there are several; null where no control was
    trained."""
    interval: VerdictInterval | None = None
    """Of the difference; null where nothing is known of its noise."""
    gap_closed: float | None = None
    """The difference as a share of teacher less control. Null where it may not be told: it takes several seeds, an
    interval without zero, and a teacher clearly better than the control and no weaker than the student."""
    parts: tuple[VerdictPart, ...] = Field(default=(), exclude_if=operator.not_)
    """What labels of the teacher, images without labels and distillation terms brought, each; absent where no
    arm tells them apart."""
    caveats: tuple[str, ...]
    """What puts it in its place."""
