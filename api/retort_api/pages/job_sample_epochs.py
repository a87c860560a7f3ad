"""Show what the student saw on sample images after some of its epochs."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Path, Response
from retort.access import Scope
from retort.errors import UserError
from retort.spec.mistakes import OutcomeCounts
from retort.spec.samples import SAMPLES, EpochSamples, SampleBox, SampledImage

from retort_api.deps import Caller, JobId, Serving
from retort_api.errors import OK
from retort_api.file_response import FILE_POLICY
from retort_api.pages.job_documents import document
from retort_api.pages.page_router import PageRouter

router = PageRouter()

_HEADERS = {"Content-Security-Policy": FILE_POLICY, "Cache-Control": "private, max-age=300"}


@dataclass(frozen=True, slots=True)
class SampleMark:
    """A box to draw, in pixels of the copy."""

    box: SampleBox
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class SampleCard:
    """One image with the student's boxes after the epoch."""

    number: int
    image: SampledImage
    marks: Sequence[SampleMark]
    words: str


@dataclass(frozen=True, slots=True)
class SampleEpochs:
    """The epoch that is shown, and those that there are."""

    samples: EpochSamples
    place: int
    """Of the epoch among those that there are."""
    cards: Sequence[SampleCard]

    @property
    def epochs(self) -> list[int]:
        """The epochs that there are."""
        return [one.epoch for one in self.samples.epochs]

    @property
    def total(self) -> OutcomeCounts:
        """Counts over all sample images."""
        return self.samples.epochs[self.place].total


@router.page("/jobs/{job_id}/samples/images/{number}", scope=Scope.JOBS_READ)
def send_image(service: Serving, caller: Caller, job_id: JobId, number: Annotated[int, Path(ge=0, lt=100)]) -> Response:
    """Send the copy of one sample image."""
    found = document(service, caller, job_id, SAMPLES, EpochSamples)
    if found is None or number >= len(found.images):
        raise UserError(f"job {job_id} keeps no sample image {number}", code="not_found")
    return Response(base64.b64decode(found.images[number].jpeg), OK, _HEADERS, "image/jpeg")


def sample_epochs(found: EpochSamples | None, epoch: int | None) -> SampleEpochs | None:
    """Return the student after *epoch*, or after the last that there is.

    Raises:
        UserError: nothing is kept of that epoch.

    """
    if found is None or not found.epochs:
        return None
    known = [one.epoch for one in found.epochs]
    if epoch is not None and epoch not in known:
        raise UserError(f"no samples of epoch {epoch} are kept", code="not_found", hint="choose one on the page")
    place = len(known) - 1 if epoch is None else known.index(epoch)
    boxes = found.epochs[place].boxes
    cards = [
        _card(number, image, marks) for number, (image, marks) in enumerate(zip(found.images, boxes, strict=False))
    ]
    return SampleEpochs(found, place, cards)


def _card(number: int, image: SampledImage, boxes: Sequence[SampleBox]) -> SampleCard:
    marks = [
        SampleMark(
            box, round(box.x1 * image.width, 1), round(box.y1 * image.height, 1),
            round((box.x2 - box.x1) * image.width, 1), round((box.y2 - box.y1) * image.height, 1),
        )
        for box in boxes
    ]  # fmt: skip
    counted = [sum(box.outcome == outcome for box in boxes) for outcome in ("found", "wrong", "missed")]
    return SampleCard(number, image, marks, "{} found, {} wrong, {} missed".format(*counted))
