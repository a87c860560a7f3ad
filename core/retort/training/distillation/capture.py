"""Replaying the kernels of a frozen network as one CUDA graph, so that launching them costs the host nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

_PATIENCE = 3
"""A shape is recorded when it comes this often; the last batch of an epoch may be the only one of its kind."""
_MOST_GRAPHS = 2
"""Each keeps its activations; shapes beyond run as they are."""


class Captured:
    """Calls *function*, which maps one CUDA tensor to any tree of tensors, by replaying a recording for each shape.

    The function must be free of host synchronisation and of randomness. What it returns is overwritten by the next
    call with the same shape. https://pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
    """

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        self._function = function
        self._seen: dict[Any, int] = {}
        self._recorded: dict[Any, tuple[torch.cuda.CUDAGraph, Tensor, Any]] = {}

    def __call__(self, x: Tensor) -> Any:
        """Return what the function returns for *x*."""
        key = (x.shape, x.dtype, x.device)
        if key not in self._recorded:
            self._seen[key] = self._seen.get(key, 0) + 1
            if self._seen[key] < _PATIENCE or len(self._recorded) == _MOST_GRAPHS:
                return self._function(x)
            self._recorded[key] = self._record(x)
        graph, held, answer = self._recorded[key]
        held.copy_(x)
        graph.replay()
        return answer

    def _record(self, x: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor, Any]:
        held = x.clone()
        stream = torch.cuda.Stream(x.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(stream):
            self._function(held)  # libraries choose their kernels and workspaces outside the recording
        torch.cuda.current_stream(x.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            answer = self._function(held)
        return graph, held, answer
