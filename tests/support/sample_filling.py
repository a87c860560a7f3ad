"""Publish what the student saw on sample images after some epochs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from PIL import Image
from retort.db import Lease
from retort.spec.mistakes import OutcomeCounts
from retort.spec.samples import SAMPLES, EpochSamples, SampleBox, SampledEpoch, SampledImage
from support.api_harness import Worker


def samples(files: Sequence[str], epochs: Sequence[int], name: str = "red") -> EpochSamples:
    """Two labels an image, of which the student finds more as it learns, and one box where nothing is."""
    data = io.BytesIO()
    Image.new("RGB", (320, 240), "#55708a").save(data, "JPEG")
    jpeg = base64.b64encode(data.getvalue()).decode()
    return EpochSamples(
        score_from=0.25, iou=0.5,
        images=tuple(SampledImage(file=file, width=320, height=240, jpeg=jpeg) for file in files),
        epochs=tuple(_epoch(epoch, place, len(files), name) for place, epoch in enumerate(epochs)),
    )  # fmt: skip


def _epoch(epoch: int, place: int, number: int, name: str) -> SampledEpoch:
    seen = min(2, place)
    boxes = (
        *(SampleBox(outcome="found", name=name, score=0.5, x1=0.1 + 0.4 * at, y1=0.2, x2=0.4 + 0.4 * at, y2=0.7)
          for at in range(seen)),
        *(SampleBox(outcome="missed", name=name, score=None, x1=0.1 + 0.4 * at, y1=0.2, x2=0.4 + 0.4 * at, y2=0.7)
          for at in range(seen, 2)),
        SampleBox(outcome="wrong", name=name, score=0.31, x1=0.7, y1=0.05, x2=0.95, y2=0.2),
    )  # fmt: skip
    total = OutcomeCounts(found=number * seen, wrong=number, missed=number * (2 - seen))
    return SampledEpoch(epoch=epoch, total=total, boxes=(boxes,) * number)


def publish_samples(worker: Worker, lease: Lease, document: EpochSamples) -> None:
    """Let a job keep its samples."""
    worker.publish(lease, SAMPLES, document.model_dump_json().encode(), media_type="application/json")
