"""What a training step of a student costs under a network as its teacher."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from retort.training import networks
from retort.training.anatomy import anatomy
from retort.training.distillation.teacher import Teacher
from retort.training.upstream import get_cfg, select_device

WARM_UP, LONGEST_S, FEWEST, MOST = 2, 20.0, 3, 9
"""Steps: unmeasured ones, then pairs of measured ones until the time or the number is used up, but a few at least."""
_BOXES_PER_IMAGE = 8


@dataclass(frozen=True)
class Step:
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


class StepBench:
    """A student in training on drawn images, whose steps are timed with and without a teacher."""

    def __init__(
        self, model: str, *, weights: Path | None, names: Mapping[int, str], imgsz: int, batch: int, device: str
    ) -> None:
        network = networks.build(model, names=names, weights=weights, seed=0)
        self.anatomy = anatomy(network, imgsz)
        self._device = select_device(device, verbose=False)
        network.args = get_cfg(overrides={"imgsz": imgsz})
        self._student = network.to(self._device, memory_format=torch.channels_last).train()
        self._batch = _drawn(batch, imgsz, len(names), self._device)

    def step(self, teacher: Any, *, on_step: Callable[[], None]) -> Step:
        """Time steps under the loaded network *teacher* and without it, in turn; *on_step* is called before each.

        A busy machine slows both alike. What the losses between the two add depends on the recipe and is left out.
        """
        gc.collect()  # the teacher before lies in a circle with its recorded kernels, and a GPU has room for few
        asked = Teacher(teacher, device=self._device, half=True)
        images = self._batch["img"]

        def lesson() -> None:
            asked(images, fleeting=True)

        taken: dict[bool, list[float]] = {False: [], True: []}
        begun = time.perf_counter()
        for number in range(WARM_UP + MOST):
            for taught in (False, True):
                on_step()
                taken[taught].append(self._timed(lesson if taught else None))
            measured = number + 1 - WARM_UP
            if measured >= FEWEST and time.perf_counter() - begun > LONGEST_S:
                break
        alone, under = (taken[taught][WARM_UP:] for taught in (False, True))
        return Step(statistics.median(alone), statistics.median(under), len(alone))

    def _timed(self, lesson: Callable[[], None] | None) -> float:
        mixed = self._device.type == "cuda"
        started = time.perf_counter()
        if lesson is not None:
            lesson()
        with torch.autocast(self._device.type, dtype=torch.float16, enabled=mixed):
            loss, _ = self._student(self._batch)
        loss.sum().backward()
        if mixed:
            torch.cuda.synchronize(self._device)
        self._student.zero_grad(set_to_none=True)
        return time.perf_counter() - started


def _drawn(size: int, imgsz: int, num_classes: int, device: torch.device) -> dict[str, Any]:
    """Draw a batch of images with boxes: what a step costs does not depend on what they show."""
    draw = torch.Generator().manual_seed(0)
    count = size * _BOXES_PER_IMAGE
    sides = 0.05 + 0.3 * torch.rand(count, 2, generator=draw)
    batch = {
        "img": torch.rand(size, 3, imgsz, imgsz, generator=draw),  # N 3 H W
        "cls": torch.randint(num_classes, (count, 1), generator=draw).float(),
        "bboxes": torch.cat([sides / 2 + (1 - sides) * torch.rand(count, 2, generator=draw), sides], 1),
        "batch_idx": torch.arange(size).repeat_interleave(_BOXES_PER_IMAGE).float(),
    }
    return {name: value.to(device) for name, value in batch.items()}
