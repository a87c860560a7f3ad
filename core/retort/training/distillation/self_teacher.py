"""The student's exponential moving average as its teacher."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import torch

from retort.training.architecture import head_levels
from retort.training.distillation import feature_taps
from retort.training.distillation.teacher import CudaGraphReplay, MemoryPool, TeacherOutput, confidence

if TYPE_CHECKING:
    from torch import Tensor

    from retort.constants import Level


class SelfTeacher:
    """The student's exponential moving average, asked in place of a trained network.

    It is the mean teacher (Tarvainen and Valpola, NeurIPS 2017) under the terms of any other teacher: what it gives is
    the regularisation without another's knowledge (Stanton et al., NeurIPS 2021). It holds no weights of its own. It
    reads those of the average as they are in each step, so that nothing is folded into them, nothing is recorded, and a
    state that has the average has the teacher.
    """

    recording: CudaGraphReplay | None = None
    """Nothing is recorded: the kernels of one step would read what the next one changes."""

    def __init__(
        self,
        student: Any,
        *,
        half: bool = False,
        levels: Collection[Level] | None = None,
        predictions: bool = True,
        intermediate: bool = False,
        confidence_maps: bool = True,
    ) -> None:
        self._half = half
        self._levels, self._head, self._middles, self._maps = levels, predictions, intermediate, confidence_maps
        self._head_levels = head_levels(student)
        self._average: Callable[[], Any] | None = None
        self.known: Tensor | None = None
        """Classes that count for its confidence; None for all."""

    def follow(self, average: Callable[[], Any]) -> None:
        """Take the network that *average* returns in each step."""
        self._average = average

    @property
    def model(self) -> Any:
        """The average as it is now."""
        assert self._average is not None, "follow() comes before the first step"
        return self._average()

    def __call__(self, images: Tensor, *, reuse_buffers: bool = False) -> TeacherOutput:
        """Answer for *images* (N, 3, H, W) in 0..1, without gradient.

        With *reuse_buffers*, the output has what the losses need only.
        """
        levels, head, maps = self._levels, self._head, self._maps and self._head
        if not reuse_buffers:
            levels, head, maps = None, True, True
        model, half = self.model.eval(), self._half and images.device.type == "cuda"
        with torch.no_grad(), torch.autocast(images.device.type, enabled=half):
            features, branches = feature_taps.forward(
                model, images, levels=levels, head=head, intermediate=self._middles
            )
        sure = confidence(branches.values(), self.known, self._head_levels) if maps else {}
        return TeacherOutput(features, branches, sure, model.model[-1])

    def prepare(self, number: int, height: int, width: int, pool: MemoryPool | None = None) -> None:
        """Record nothing."""


def named(student: Any, known: Sequence[str] | None) -> Any:
    """Return *student* as it is named in the place of a teacher.

    All weights are shared. It knows the classes *known* alone, or all where that is None; a class that is unknown has
    another name.
    """
    network = copy(student)
    network.names = known_names(student.names, known)
    return network


def known_names(names: dict[int, str], known: Sequence[str] | None) -> dict[int, str]:
    """Return the *names* of a network that stands in for a teacher.

    That teacher knows the classes *known* alone, or all where that is None.
    """
    told = set(names.values() if known is None else known)
    return {index: name if name in told else f"{name} (unknown to the teacher)" for index, name in names.items()}
