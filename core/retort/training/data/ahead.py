"""Prepare the next batch on the GPU while the present one is trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch

from retort.foreign import first_line
from retort.training.criterion import count_boxes
from retort.training.data.colours import coloured
from retort.training.data.ignore_regions import split_ignored
from retort.training.data.taught_boxes import count_taught

Batch = dict[str, Any]


class PreparedBatch(Batch):
    """A prepared batch on the device that trains.

    Its colours are changed and its boxes counted; images are in bytes.
    """


def prepare(batch: Batch, device: torch.device) -> PreparedBatch:
    """Return *batch* on *device*, prepared as far as bytes go.

    One that is prepared is returned as it is. Labels are looked at before they are copied: a look at a GPU's would
    wait for it.
    """
    if isinstance(batch, PreparedBatch):
        return batch
    known = count_taught(count_boxes(split_ignored(batch)))
    moved = {
        name: value.to(device, non_blocking=device.type == "cuda") if isinstance(value, torch.Tensor) else value
        for name, value in known.items()
    }
    return PreparedBatch(coloured(moved))


class Streams(Protocol):
    """Interface of a device that works on two things at a time."""

    def beside(self) -> AbstractContextManager[Any]:
        """Put the work of the block beside the main work."""

    def mark(self) -> Any:
        """Return a mark behind the work that was put beside."""

    def wait_for(self, mark: Any) -> None:
        """Let the main work wait for what lies before *mark*; the host does not."""

    def keep(self, tensor: torch.Tensor) -> None:
        """Keep the memory of *tensor* until the main work asked for is done."""


class CudaStreams:
    """A stream of a CUDA device beside its current one."""

    def __init__(self, device: torch.device) -> None:
        stream: Any = torch.cuda.Stream
        self._device, self._side = device, stream(device)

    def beside(self) -> AbstractContextManager[Any]:
        """Put the work of the block on the stream at the side."""
        return torch.cuda.stream(self._side)

    def mark(self) -> torch.cuda.Event:
        """Return an event of the stream at the side."""
        marked: torch.cuda.Event = self._side.record_event()
        return marked

    def wait_for(self, mark: torch.cuda.Event) -> None:
        """Let the current stream wait for an event."""
        torch.cuda.current_stream(self._device).wait_event(mark)

    def keep(self, tensor: torch.Tensor) -> None:
        """Register with the allocator that the current stream reads *tensor*."""
        if tensor.is_cuda:
            tensor.record_stream(torch.cuda.current_stream(self._device))


class Ahead:
    """One batch ahead within an epoch, never over its end.

    Where a batch cannot be prepared so, as where memory is short, that and all others are handed on as they are, for
    the training to prepare.
    """

    def __init__(self, device: torch.device, streams: Streams, log: Callable[..., None]) -> None:
        self._device, self._streams, self._log = device, streams, log
        self._works = True

    @classmethod
    def on(cls, device: torch.device, log: Callable[..., None]) -> Ahead | None:
        """Return what prepares batches for *device*; None where it has no streams."""
        if device.type != "cuda":
            return None
        try:
            return cls(device, CudaStreams(device), log)
        except RuntimeError as error:
            log(f"no batch is prepared ahead on the GPU: {first_line(error)}", "warning")
            return None

    def over(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the *batches* of an epoch, each taken one turn early."""
        source = iter(batches)
        ready = self._begin(next(source, None))
        while ready is not None:
            following = self._begin(next(source, None))
            yield self._hand_on(*ready)
            ready = following

    def _begin(self, batch: Batch | None) -> tuple[Batch, Any] | None:
        if batch is None or not self._works:
            return None if batch is None else (batch, None)
        try:
            with self._streams.beside():
                prepared = prepare(batch, self._device)
            return prepared, self._streams.mark()
        except RuntimeError as error:  # whatever is wrong with the GPU for good is met again where it can be explained
            self._log(f"batches are no longer prepared ahead on the GPU: {first_line(error)}", "warning")
            self._works = False
        return batch, None

    def _hand_on(self, batch: Batch, mark: Any) -> Batch:
        if mark is not None:
            self._streams.wait_for(mark)
            for value in batch.values():
                if isinstance(value, torch.Tensor):
                    self._streams.keep(value)
        return batch
