"""Find a batch that a GPU has memory for, by a few measured steps."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch

from retort.errors import OutOfMemory
from retort.spec import DistillationSpec
from retort.spec.figures import FoundBatch
from retort.spec.training import LARGEST_BATCH, SMALLEST_BATCH, USUAL_BATCH
from retort.training import models
from retort.training.benchmark import BOXES_PER_IMAGE, drawn
from retort.training.config import TrainConfig
from retort.training.data.unlabelled import per_step
from retort.training.device import explain_out_of_memory
from retort.training.distillation.distiller import TeacherCandidate, make_distiller
from retort.training.ultralytics_api import get_cfg, select_device

SHARE = 0.6
"""Part of the free memory that a step may take, as in upstream's search for a batch: others take the rest."""
LARGER = 8, 4
"""Images of the second step that is measured: the first of these that fits."""
_GIB = 2**30

Meter = Callable[[int], int]
"""Returns the bytes that a step with so many images takes at its peak; raises OutOfMemory where they are not there."""


def on_cpu(gpus: int) -> FoundBatch:
    """Return the usual batch in parts for *gpus* processes.

    A CPU has no memory of its own that a batch could fill.
    """
    batch = max(USUAL_BATCH // gpus, 1) * gpus
    return FoundBatch(batch=batch, reason=f"training.batch is auto, which is {batch} on a CPU")


def find(meter: Meter, free_bytes: int, *, images: int, gpus: int = 1) -> FoundBatch:
    """Return the largest batch whose step takes ``SHARE`` of *free_bytes*.

    That much is free on each of *gpus*. The memory of a step is taken for a straight line in its images, through two
    that are measured. There are *images* to train on, and no use for more in a batch.

    Raises:
        OutOfMemory: not even the smallest step fits.

    """
    peaks = {SMALLEST_BATCH: meter(SMALLEST_BATCH), **_larger(meter)}
    most = max(min(LARGEST_BATCH, images) // gpus, SMALLEST_BATCH)
    each = _each(peaks, free_bytes * SHARE, most)
    told = " and ".join(f"{peak / _GIB:.2f} GiB with {size}" for size, peak in peaks.items())
    limit = f", limited by {images} images" if each == most and images < LARGEST_BATCH else ""
    return FoundBatch(
        batch=each * gpus, peak_bytes={str(size): peak for size, peak in peaks.items()}, free_bytes=free_bytes,
        reason=f"training.batch is auto, which is {each * gpus} here{limit}: a step of the largest arm takes {told} "
        f"images, of {free_bytes / _GIB:.2f} GiB free on each GPU, of which {SHARE:.0%} may be taken",
    )  # fmt: skip


def _larger(meter: Meter) -> dict[int, int]:
    for size in LARGER:
        try:
            return {size: meter(size)}
        except OutOfMemory:
            continue
    return {}


def _each(peaks: Mapping[int, int], budget: float, most: int) -> int:
    """Return the images of one GPU by a line through the measured *peaks*; the smallest where there is but one."""
    (small, least), *rest = peaks.items()
    if not rest:
        return min(small, most)
    ((size, peak),) = rest
    slope = (peak - least) / (size - small)
    if slope <= 0:  # what was measured is noise: no further than what has been seen to fit
        return min(size, most)
    return max(SMALLEST_BATCH, min(int((budget - least) / slope + small), most))


@dataclass(frozen=True)
class Arm:
    """A training whose step is measured."""

    plan: TrainConfig
    names: Mapping[int, str]
    boxes: int
    """Labelled boxes of each image; a few are drawn where there are none."""
    teachers: Sequence[TeacherCandidate] = ()
    """None in a plain training."""
    distillation: DistillationSpec | None = None

    def meter(self, peak: Callable[[Callable[[], None]], int]) -> Meter:
        """Return the meter of this arm.

        *peak* runs something, and returns the most memory that it has held.
        """

        def measure(images: int) -> int:
            plan = replace(self.plan, training=self.plan.training.model_copy(update={"batch": images}))
            try:
                with explain_out_of_memory(plan):
                    return peak(lambda: self.step(images))
            finally:
                gc.collect()  # a distiller and its recorded kernels lie in a circle

        return measure

    def step(self, images: int) -> None:
        """Train two steps on drawn images, with all that a training keeps beside them."""
        training, device = self.plan.training, select_device(self.plan.device, verbose=False)
        student = models.build_start(self.plan, self.names)
        student.args = get_cfg(overrides={"imgsz": training.imgsz})
        student.to(device, memory_format=torch.channels_last).train()
        stride = int(student.stride.max())
        side = int(training.imgsz * (1 + training.multi_scale) // stride * stride)
        batch = drawn(images, side, len(self.names), device, boxes=max(self.boxes, BOXES_PER_IMAGE))
        network = self._taught(student, batch, side, device) if self.teachers else student
        average, optimizer = deepcopy(network), torch.optim.AdamW(network.parameters())
        for _ in range(2):
            with torch.autocast(device.type, enabled=training.amp and device.type == "cuda"):
                loss, _items = network(batch)
            loss.sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        del average

    def _taught(self, student: Any, batch: dict[str, Any], side: int, device: torch.device) -> Any:
        """Return the student with its teachers, past the ramp of the schedule, and add unlabelled images."""
        assert self.distillation is not None, "teachers come with what is learned from them"
        training, (first, *further) = self.plan.training, self.teachers
        network = make_distiller(
            student, first, self.distillation, device=device, epochs=self.plan.epochs,
            close_mosaic=training.close_mosaic, seed=training.seed, half=training.amp, further=further,
        )  # fmt: skip
        assert network.objective is not None, "it has just been made"
        network.objective.epoch = self.distillation.schedule.warmup_epochs
        images = len(batch["img"])
        more = per_step(self.plan.teaching.unlabelled, images, 1)
        if more:
            batch["unlabelled"] = torch.rand(more, 3, side, side, device=device)
        for slot in network.slots:
            slot.teacher.prepare(images + more, side, side)
        return network.train()


def free_memory(device: str) -> int:
    """Return the free bytes of the GPU *device*."""
    torch.cuda.empty_cache()
    return int(torch.cuda.mem_get_info(int(device))[0])


def peak_memory(device: str) -> Callable[[Callable[[], None]], int]:
    """Return a function that measures the peak memory of another on *device*."""

    def peak(run: Callable[[], None]) -> int:
        number = int(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(number)
        run()
        torch.cuda.synchronize(number)
        return int(torch.cuda.max_memory_reserved(number))

    return peak
