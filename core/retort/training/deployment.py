"""Run networks as they are deployed, on a GPU recorded and in half precision."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from retort.foreign import first_line
from retort.training.distillation.teacher import Function, record_graph
from retort.training.inference import Runtime, halve, network_output, wrap_network

if TYPE_CHECKING:
    from torch import Tensor


class RecordedNetwork:
    """A folded network in float16 whose kernels are recorded.

    They are once for each shape of input. Launched one by one from Python, the kernels of a small network take a GPU
    less time than their launches do, so that its latency would be the host's. One that cannot be recorded runs as it
    is, and says so.
    """

    def __init__(self, network: Any, record: Callable[[Function, Tensor], Function] = record_graph) -> None:
        network = halve(network)
        self._head, self._raw, self._record = network.model[-1], network_output(network), record
        self._replays: dict[torch.Size, Function] = {}
        self._held: list[Any] = []
        """Grids of anchors, which recordings read and the head forgets at another shape."""
        self._failed = False

    def __call__(self, images: Tensor) -> Tensor:
        """Return the decoded raw output, which the next call of the same shape overwrites."""
        if images.shape not in self._replays:
            self._replays[images.shape] = self._prepared(images)
        found: Tensor = self._replays[images.shape](images)
        return found

    def describe(self) -> str:
        """Return how the first shape has run: precision, and whether its kernels were recorded."""
        return f"float16, {'recorded' if self._held else 'eager'}"

    def _prepared(self, images: Tensor) -> Function:
        if self._failed:
            return self._run
        try:
            replay = self._record(self._run, images)
        except RuntimeError as error:  # CUDA's errors and its want of memory are such
            what = f"the kernels cannot be recorded for images of {tuple(images.shape)}, it is timed without"
            warnings.warn(f"{what}: {first_line(error)}", RuntimeWarning, stacklevel=2)
            self._failed = True
            return self._run
        self._held.append((self._head.anchors, self._head.strides))
        return replay

    def _run(self, images: Tensor) -> Tensor:
        return self._raw(images.to(torch.float16, memory_format=torch.channels_last))


def deploy(network: Any, device: torch.device) -> Runtime:
    """Return a folded *network* as it would be deployed on *device*.

    On a GPU that is in float16 with recorded kernels; elsewhere in float32, as it is.
    """
    if device.type != "cuda":
        return wrap_network(network, device)
    recorded = RecordedNetwork(network.to(device))
    return Runtime(recorded, "PyTorch", device, most=None, fixed=False, describe=recorded.describe)
