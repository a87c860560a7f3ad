"""Replaying the kernels of a frozen network as one CUDA graph, so that launching them costs the host nothing."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

_PATIENCE = 3
"""A shape is recorded when it comes this often; the last batch of an epoch may be the only one of its kind."""
_MOST_GRAPHS = 2
"""Each keeps its activations; shapes beyond run as they are."""

Function = Callable[["Tensor"], Any]


class Captured:
    """Calls *function*, which maps one CUDA tensor to any tree of tensors, by replaying a recording for each shape.

    The function must be free of host synchronisation and of randomness. What it returns is overwritten by the next
    call with the same shape. https://pytorch.org/docs/stable/notes/cuda.html#cuda-graphs

    A recording beside a thread that pins memory, as a data loader has one, fails or hangs: measured on an H200, see
    docs/LOG.md. So a training records with ``prepare`` before its loaders start, and nothing after that. Where no
    such thread runs, a shape is recorded when it has come often enough. A recording is an optimisation only: one that
    fails is told once, and its shape runs as it is from then on.
    """

    def __init__(self, function: Function, record: Callable[[Function, Tensor], Function] | None = None) -> None:
        self._function = function
        self._record = record or record_graph
        self._seen: dict[Any, int] = {}
        self._recorded: dict[Any, Function] = {}
        self._failed: set[Any] = set()
        self._sealed = False

    def __call__(self, x: Tensor) -> Any:
        """Return what the function returns for *x*."""
        key = _key(x)
        if key not in self._recorded:
            self._seen[key] = self._seen.get(key, 0) + 1
            if self._sealed or self._seen[key] < _PATIENCE or not self._try(key, x):
                return self._function(x)
        return self._recorded[key](x)

    def prepare(self, x: Tensor) -> None:
        """Record the shape of *x* now, and no other one later: call it before any thread pins memory."""
        if not self._sealed and _key(x) not in self._recorded:
            self._try(_key(x), x)
        self._sealed = True

    def _try(self, key: Any, x: Tensor) -> bool:
        """Record *x*, unless that has failed before or there is no room; tell whether there is a recording now."""
        if key in self._failed or len(self._recorded) == _MOST_GRAPHS:
            return False
        try:
            self._recorded[key] = self._record(self._function, x)
        except RuntimeError as error:  # CUDA's errors and its want of memory are such
            self._failed.add(key)
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            warnings.warn(
                f"the teacher's kernels cannot be recorded for images of {tuple(x.shape)}, it runs without: {reason}",
                RuntimeWarning,
                stacklevel=4,
            )
            return False
        return True


def record_graph(function: Function, x: Tensor) -> Function:
    """Record *function* on a tensor like *x*; return what replays it on another one.

    Only calls of this thread are refused while it records (``thread_local``): in the default mode, any other thread's
    that allocates breaks the recording, and is broken by it. The stream is put back here, because torch 2.11 leaves
    its own in place when a recording fails.
    """
    with torch.cuda.stream(torch.cuda.current_stream(x.device)):
        held = x.clone()
        stream = torch.cuda.Stream(x.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(stream):
            function(held)  # libraries choose their kernels and workspaces outside the recording
        torch.cuda.current_stream(x.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            answer = function(held)

    def replay(x: Tensor) -> Any:
        held.copy_(x)
        graph.replay()
        return answer

    return replay


def _key(x: Tensor) -> tuple[Any, ...]:
    return x.shape, x.dtype, x.device
