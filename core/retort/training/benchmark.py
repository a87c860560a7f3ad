"""Latency, throughput and memory of a network; time and memory of a training step."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from retort.training import models
from retort.training.distillation.box_teacher import BoxTeacher
from retort.training.distillation.teacher import Teacher
from retort.training.inference import CPU, Runtime, prepare
from retort.training.models import summarize
from retort.training.teachers.base import BoxNetwork
from retort.training.ultralytics_api import get_cfg, select_device

WARM_UP, LONGEST_S, FEWEST = 3, 10.0, 5
"""Unmeasured runs of each network; seconds of measured ones for each, but a few at least."""
MOST = {1: 50, 8: 10}
"""Measured runs at most, by size of the batch: the ninth decile of single images is told too."""
BATCH = 8
"""The larger of the two batches."""
TURN, PAUSE_S = 5, 0.05
"""Measured runs in a row, and the pause before them: the threads of the network before may wait by spinning, as
onnxruntime's do, which took up to four times as long where they did (docs/measurement.md)."""
_STATUS, _REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Speed:
    """Latency, throughput and memory of a network."""

    latency_ms: dict[str, float]
    """``p50`` and ``p90`` of one run, boxes decoded, without NMS where it is not inside: of one image, or of as many as
    a form of a fixed batch takes."""
    throughput: dict[str, float | None]
    """Images a second by size of the batch; null where the network does not take so many."""
    peak_memory_bytes: int | None
    """What loading and running one image at a time takes at most; None where the system does not tell."""
    runtime: str
    device: str
    settings: str | None = None
    """Under which conditions of the runtime."""
    timed_as: str | None = None
    """What was timed: precision, whether recorded, images of one run, their size, and on what."""


@dataclass(frozen=True)
class Subject:
    """A network that is to be timed."""

    load: Callable[[], Runtime]
    imgsz: int | tuple[int, int]
    """Side of its square input, or height and width."""
    batch: int = 1
    """Images of one run."""
    picture: Path | None = None
    """What all of them show; None for black ones."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of its input."""
        return (self.imgsz, self.imgsz) if isinstance(self.imgsz, int) else self.imgsz

    def images(self, device: torch.device) -> torch.Tensor:
        """Return the images of one run, each with the picture fitted into it."""
        if self.picture is None:
            return torch.zeros(self.batch, 3, *self.shape, device=device)
        return prepare(self.picture, self.shape)[0].repeat(self.batch, 1, 1, 1).to(device)


def measure(subjects: Mapping[str, Subject], *, on_round: Callable[[], None] = lambda: None) -> dict[str, Speed]:
    """Load networks and time them in one sitting, in which they take turns.

    A busy machine slows all alike. One run, and ``BATCH`` images at a time where a network takes them, are timed.
    *on_round* is called before each round.
    """
    loaded = {name: _load(subject) for name, subject in subjects.items()}
    runtimes = {name: runtime for name, (runtime, _) in loaded.items()}
    images = {name: one.images(CPU) for name, one in subjects.items()}
    single = _times_ms(runtimes, images, most=MOST[1], on_round=on_round)
    batching = {name: runtime for name, runtime in runtimes.items() if _takes(runtime, BATCH)}
    batches = {name: images[name][:1].expand(BATCH, -1, -1, -1).contiguous() for name in batching}
    many = _times_ms(batching, batches, most=MOST[BATCH], on_round=on_round)
    return {
        name: Speed(
            latency_ms={"p50": statistics.median(single[name]), "p90": statistics.quantiles(single[name], n=10)[-1]},
            throughput={
                "1": None,
                str(BATCH): BATCH * 1e3 / statistics.median(many[name]) if name in many else None,
                str(subjects[name].batch): subjects[name].batch * 1e3 / statistics.median(single[name]),
            },
            peak_memory_bytes=peak,
            runtime=runtime.name,
            device=runtime.device.type,
            settings=runtime.settings,
            timed_as=_conditions(subjects[name], runtime),
        )
        for name, (runtime, peak) in loaded.items()
    }


def _conditions(subject: Subject, runtime: Runtime) -> str:
    """Say what was timed."""
    height, width = subject.shape
    size = f"{height} px" if height == width else f"{height} x {width} px"
    how = None if runtime.describe is None else runtime.describe()
    return ", ".join(filter(None, [how, f"batch {subject.batch}", size, runtime.settings or _place(runtime.device)]))


def _place(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {(number := torch.get_num_threads())} thread{'' if number == 1 else 's'}"


def _takes(runtime: Runtime, number: int) -> bool:
    """Return True if a network takes so many images at once."""
    return runtime.most is None or (not runtime.fixed and runtime.most >= number)


def _load(subject: Subject) -> tuple[Runtime, int | None]:
    """Load a network and warm it up; return the memory that this takes at most."""
    before = _start_counting()
    runtime = subject.load()
    images = subject.images(runtime.device)
    for _ in range(WARM_UP):
        runtime.run(images)
    _wait(runtime.device)
    return runtime, _peak(runtime.device, before)


def _times_ms(
    runtimes: Mapping[str, Runtime], images: Mapping[str, torch.Tensor], *, most: int, on_round: Callable[[], None]
) -> dict[str, list[float]]:
    """Return milliseconds of single runs, taken in rounds in which each network has its turn of a few."""
    given = {name: images[name].to(runtime.device) for name, runtime in runtimes.items()}
    taken: dict[str, list[float]] = {name: [] for name in runtimes}
    begun = time.perf_counter()
    for number in range(0, most, TURN):
        if number >= FEWEST and time.perf_counter() - begun > LONGEST_S * len(runtimes):
            break
        on_round()
        for name, runtime in runtimes.items():
            time.sleep(PAUSE_S)
            taken[name] += _turn_ms(runtime, given[name], min(TURN, most - number))
    return taken


def _turn_ms(runtime: Runtime, images: torch.Tensor, number: int) -> list[float]:
    """Return milliseconds of *number* runs in a row, after one for the caches, where the others' traces are."""
    taken = []
    for _ in range(number + 1):
        started = time.perf_counter()
        runtime.run(images)
        _wait(runtime.device)
        taken.append((time.perf_counter() - started) * 1e3)
    return taken[1:]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class _InUse:
    """Memory that is in use before a network is loaded."""

    resident: int | None
    """None where the system does not tell."""
    device: int


def _start_counting() -> _InUse:
    """Give freed memory back to the system, forget the peak so far, and return what is in use (Linux)."""
    gc.collect()
    device = 0
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        device = int(torch.cuda.memory_allocated())
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
    with contextlib.suppress(OSError):
        _REFERENCES.write_text("5")  # proc(5): the peak of the resident set is reset
        return _InUse(_resident("VmRSS"), device)
    return _InUse(None, device)


def _peak(device: torch.device, before: _InUse) -> int | None:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device)) - before.device
    return None if before.resident is None else max(0, _resident("VmHWM") - before.resident)


def _resident(name: str) -> int:
    (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


STEP_WARM_UP, STEPS_LONGEST_S, FEWEST_STEPS, MOST_STEPS = 2, 20.0, 3, 9
"""Steps: unmeasured ones, then pairs of measured ones until the time or the number is used up, but a few at least."""
BOXES_PER_IMAGE = 8


@dataclass(frozen=True)
class StepTimes:
    """Seconds of one training step: medians of alternating repeats."""

    alone_s: float
    """The student's forward pass, loss and backward pass."""
    taught_s: float
    """The same after the teacher's forward pass."""
    num_steps: int
    """Repeats of each."""

    @property
    def ratio(self) -> float:
        """How many times as long a step takes with the teacher."""
        return self.taught_s / self.alone_s


class StepBenchmark:
    """A student in training, timed with and without a teacher.

    The steps train on random images.
    """

    def __init__(
        self,
        model: str,
        *,
        weights: Path | None,
        names: Mapping[int, str],
        imgsz: int,
        batch: int,
        device: str,
        definition: Path | None = None,
        from_weights: bool = False,
    ) -> None:
        network = models.build(
            model, names=names, weights=weights, seed=0, definition=definition, from_weights=from_weights
        )
        self.anatomy = summarize(network, imgsz)
        self._device = select_device(device, verbose=False)
        network.args = get_cfg(overrides={"imgsz": imgsz})
        self._student = network.to(self._device, memory_format=torch.channels_last).train()
        self._batch = drawn(batch, imgsz, len(names), self._device)

    def step(self, teacher: Any, *, on_step: Callable[[], None]) -> StepTimes:
        """Time training steps with the loaded network *teacher* and without it.

        The two take turns; *on_step* is called before each step. A busy machine slows both alike. What the losses
        between the two add depends on the recipe and is left out.
        """
        gc.collect()  # the teacher before lies in a circle with its recorded kernels, and a GPU has room for few
        asked = (
            BoxTeacher(teacher, self._student, device=self._device)
            if isinstance(teacher, BoxNetwork)
            else Teacher(teacher, device=self._device, half=True)
        )
        images = self._batch["img"]

        def lesson() -> None:
            asked(images, reuse_buffers=True)

        taken: dict[bool, list[float]] = {False: [], True: []}
        begun = time.perf_counter()
        for number in range(STEP_WARM_UP + MOST_STEPS):
            for taught in (False, True):
                on_step()
                taken[taught].append(self._timed(lesson if taught else None))
            measured = number + 1 - STEP_WARM_UP
            if measured >= FEWEST_STEPS and time.perf_counter() - begun > STEPS_LONGEST_S:
                break
        alone, under = (taken[taught][STEP_WARM_UP:] for taught in (False, True))
        return StepTimes(statistics.median(alone), statistics.median(under), len(alone))

    def _timed(self, output: Callable[[], None] | None) -> float:
        mixed = self._device.type == "cuda"
        started = time.perf_counter()
        if output is not None:
            output()
        with torch.autocast(self._device.type, dtype=torch.float16, enabled=mixed):
            loss, _ = self._student(self._batch)
        loss.sum().backward()
        if mixed:
            torch.cuda.synchronize(self._device)
        self._student.zero_grad(set_to_none=True)
        return time.perf_counter() - started


def drawn(
    size: int, imgsz: int, num_classes: int, device: torch.device, *, boxes: int = BOXES_PER_IMAGE
) -> dict[str, Any]:
    """Draw a batch of images with boxes.

    What a step costs does not depend on what they show.
    """
    draw = torch.Generator().manual_seed(0)
    count = size * boxes
    sides = 0.05 + 0.3 * torch.rand(count, 2, generator=draw)
    batch = {
        "img": torch.rand(size, 3, imgsz, imgsz, generator=draw),  # N 3 H W
        "cls": torch.randint(num_classes, (count, 1), generator=draw).float(),
        "bboxes": torch.cat([sides / 2 + (1 - sides) * torch.rand(count, 2, generator=draw), sides], 1),
        "batch_idx": torch.arange(size).repeat_interleave(boxes).float(),
    }
    return {name: value.to(device) for name, value in batch.items()}
