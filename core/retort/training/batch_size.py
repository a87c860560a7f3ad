"""Find a batch that a GPU has memory for, by a few measured steps."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from retort.errors import OutOfMemory
from retort.spec import DistillationSpec
from retort.spec.figures import FoundBatch, StepMemory
from retort.spec.training import LARGEST_BATCH, SMALLEST_BATCH, USUAL_BATCH
from retort.training import models
from retort.training.benchmark import BOXES_PER_IMAGE, drawn
from retort.training.config import TrainConfig
from retort.training.criterion import MOST_BOXES
from retort.training.data import taught_boxes
from retort.training.data.unlabelled import per_step
from retort.training.device import explain_out_of_memory
from retort.training.distillation.box_teacher import BoxTeacher
from retort.training.distillation.cached_teacher import CachedNetwork
from retort.training.distillation.distiller import (
    TeacherCandidate,
    TeacherSlot,
    make_distiller,
    prepare_teachers,
    run_teachers,
)
from retort.training.step_memory import MemoryCounter
from retort.training.ultralytics_api import get_cfg, select_device

SHARE = 0.6
"""Part of the free memory that a step may take, as in upstream's search for a batch: others take the rest."""
CLEARLY = 0.8
"""Part of the free memory up to which an estimated step fits for certain."""
LARGER = 8, 4
"""Images of the second step that is measured: the first of these that fits."""
_ANCHORS_PER_BOX = 10
"""So many does upstream assign to an object, at most."""
_GIB = 2**30

Meter = Callable[[int], int]
"""Returns the bytes that a step with so many images takes at its peak; raises OutOfMemory where they are not there."""


def on_cpu(gpus: int, *, most: int = LARGEST_BATCH) -> FoundBatch:
    """Return the usual batch in parts for *gpus* processes, *most* images at most.

    A CPU has no memory of its own that a batch could fill.
    """
    batch = max(min(USUAL_BATCH, most) // gpus, 1) * gpus
    return FoundBatch(batch=batch, reason=f"training.batch is auto, which is {batch} on a CPU")


def find(
    meter: Meter, free_bytes: int, *, images: int, gpus: int = 1, largest: int = LARGEST_BATCH
) -> FoundBatch:  # fmt: skip
    """Return the largest batch whose step takes ``SHARE`` of *free_bytes*.

    That much is free on each of *gpus*. The memory of a step is taken for a straight line in its images, through two
    that are measured. There are *images* to train on, and no use for more in a batch; nor is it larger than *largest*,
    which the operator allows.

    Raises:
        OutOfMemory: not even the smallest step fits.

    """
    peaks = {SMALLEST_BATCH: meter(SMALLEST_BATCH), **_larger(meter)}
    most = max(min(largest, images) // gpus, SMALLEST_BATCH)
    each = _each(peaks, free_bytes * SHARE, most)
    told = " and ".join(f"{peak / _GIB:.2f} GiB with {size}" for size, peak in peaks.items())
    bound = f"{images} images" if images < largest else "RETORT_MAX_BATCH" if largest < LARGEST_BATCH else None
    limit = f", limited by {bound}" if each == most and bound else ""
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


def foresee(batch: int, free_bytes: int, *, estimate: Meter, measure: Meter, imgsz: int, gpus: int = 1) -> StepMemory:
    """Return the memory that a step with *batch* images will take.

    That is of each of *gpus*, and before anything trains. It is estimated without the GPU. Where that is near what is
    free, or above it, a step is measured there: nothing is refused for an estimate alone.

    Raises:
        OutOfMemory: a step does not fit; it names a batch that does.

    """
    each = max(batch // gpus, 1)
    expected = estimate(each)
    if expected <= CLEARLY * free_bytes:
        return StepMemory(step_bytes=expected, free_bytes=free_bytes, measured=False)
    try:
        return StepMemory(step_bytes=measure(each), free_bytes=free_bytes, measured=True)
    except OutOfMemory as error:
        fits = _fitting(estimate, each, expected, free_bytes) * gpus
        other = f"batch {fits} should fit, or batch: auto" if fits else "no batch fits: smaller images or networks"
        raise OutOfMemory(
            f"batch {batch} at {imgsz} px does not fit: a step needs about {expected / _GIB:.1f} GiB of each GPU, of "
            f"which {free_bytes / _GIB:.1f} are free",
            hint=f"{other}; resources.halve_batch tries half of a batch by itself",
        ) from error


def _fitting(estimate: Meter, each: int, expected: int, free_bytes: int) -> int:
    """Return the most images whose step clearly fits, below *each* that are *expected* not to; 0 for none."""
    least = estimate(SMALLEST_BATCH)
    if each <= SMALLEST_BATCH or least > CLEARLY * free_bytes:
        return 0
    slope = (expected - least) / (each - SMALLEST_BATCH)
    if slope <= 0:
        return SMALLEST_BATCH
    return min(int((CLEARLY * free_bytes - least) / slope) + SMALLEST_BATCH, each - 1)


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

    def estimate(self, images: int) -> int:
        """Return the bytes that a step with *images* takes of a GPU.

        They are counted without one, and are those of its tensors: what CUDA itself and its libraries take comes on
        top.
        """
        device, training = torch.device("cpu"), self.plan.training
        network = self._network(device)
        side, slots = self._side(network), getattr(network, "slots", ())
        precision = torch.float16 if training.amp else torch.float32
        counter = MemoryCounter(objects=images * self._most_boxes * _ANCHORS_PER_BOX)
        counter.empty(network)
        for slot in slots:
            slot.teacher.answer_in(precision)
            if isinstance(slot.teacher, BoxTeacher):
                slot.teacher.drawn = BOXES_PER_IMAGE
            counter.empty(slot.teacher.model, precision)
        with counter.counting():
            batch = self._batch(images, side, device)
            pool = max((counter.grown(partial(_asked, slot, batch)) for slot in slots), default=0)
            kept = [torch.empty(pool, dtype=torch.uint8), *_copied(network, 3)]  # recorded; the average, two of AdamW
            with torch.autocast("cpu", torch.float16, enabled=training.amp):
                loss, _items = network(batch)
            loss.sum().backward()
        del kept
        return counter.peak

    def step(self, images: int) -> None:
        """Train two steps on drawn images, with all that a training keeps beside them."""
        training, device = self.plan.training, select_device(self.plan.device, verbose=False)
        network = self._network(device)
        side = self._side(network)
        batch = self._batch(images, side, device)
        images += len(batch.get("unlabelled", ()))
        prepare_teachers(getattr(network, "slots", ()), images, side)
        self._train(network, batch, torch.autocast(device.type, enabled=training.amp and device.type == "cuda"))

    @property
    def _most_boxes(self) -> int:
        return max(self.boxes, BOXES_PER_IMAGE)

    def _network(self, device: torch.device) -> Any:
        """Return the student with its teachers, if any, past the ramp of their schedule."""
        training = self.plan.training
        student = models.build_start(self.plan, self.names)
        student.args = get_cfg(overrides={"imgsz": training.imgsz})
        student.to(device, memory_format=torch.channels_last).train()
        if not self.teachers:
            return student
        assert self.distillation is not None, "teachers come with what is learned from them"
        first, *further = self.teachers
        network = make_distiller(
            student, first, self.distillation, device=device, epochs=self.plan.epochs,
            close_mosaic=training.close_mosaic, seed=training.seed, half=training.amp, further=further,
        )  # fmt: skip
        assert network.objective is not None, "it has just been made"
        network.objective.epoch = self.distillation.schedule.warmup_epochs
        return network.train()

    def _side(self, network: Any) -> int:
        """Return the side of the largest images."""
        training, stride = self.plan.training, int(getattr(network, "student_model", network).stride.max())
        return int(training.imgsz * (1 + training.multi_scale) // stride * stride)

    def _batch(self, images: int, side: int, device: torch.device) -> dict[str, Any]:
        """Draw images of *side* pixels, labelled and unlabelled."""
        batch = drawn(images, side, len(self.names), device, boxes=self._most_boxes)
        more = per_step(self.plan.teaching.unlabelled, images, 1) if self.teachers else 0
        if more:
            batch["unlabelled"] = torch.rand(more, 3, side, side, device=device)
        for one in self.teachers:
            if isinstance(one.network, CachedNetwork):
                batch |= taught_boxes.drawn(images + more, self._most_boxes, len(one.network.names), device)
        return {**batch, MOST_BOXES: self._most_boxes}

    def _train(self, network: Any, batch: dict[str, Any], precision: Any) -> None:
        average, optimizer = _copied(network), torch.optim.AdamW(network.parameters())
        for _ in range(2):
            with precision:
                loss, _items = network(batch)
            loss.sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        del average


def _asked(slot: TeacherSlot, batch: Mapping[str, Any]) -> None:
    """Ask the teacher in *slot* as a step does, for the images of *batch* with labels and without."""
    more = batch.get("unlabelled")
    run_teachers([slot], batch["img"] if more is None else torch.cat([batch["img"], more]), batch)


def _copied(network: Any, times: int = 1) -> list[torch.Tensor]:
    """Return the tensors of copies of *network*, such as its average is."""
    return [one.detach().clone() for _ in range(times) for one in network.state_dict().values()]


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
