"""Run batches that are halved where they do not fit into the memory."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from retort.foreign import is_out_of_memory

Item = TypeVar("Item")
Found = TypeVar("Found")


class HalvedBatches:
    """Batches that are halved, and later ones with them, where memory is short."""

    def __init__(self, most: int, device: torch.device, log: Callable[[str], None], *, what: str) -> None:
        self.most = most
        """Items at a time."""
        self._device, self._log, self._what = device, log, what

    def __call__(self, items: Sequence[Item], run: Callable[[Sequence[Item]], Sequence[Found]]) -> list[Found]:
        """Return what *run* finds for each item."""
        found: list[Found] = []
        while len(found) < len(items):
            part = items[len(found) : len(found) + self.most]
            try:
                found += run(part)
                continue
            except (RuntimeError, MemoryError) as error:
                if len(part) == 1 or not is_out_of_memory(error):
                    raise
            self.free()  # not before the error is gone, which holds what was in the memory
            self.most = -(-len(part) // 2)
            self._log(f"{len(part)} {self._what} at a time do not fit into the memory: going on with {self.most}")
        return found

    def free(self) -> None:
        """Give a GPU's memory back that nothing holds."""
        if self._device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
