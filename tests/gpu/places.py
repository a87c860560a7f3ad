"""Where the tests of a GPU run: on the first one, or on a CPU where they are only played through."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda:0" if CUDA else "cpu")
NUMBER = "0" if CUDA else "cpu"
"""As a run names it."""


@contextmanager
def limited(to_bytes: int) -> Iterator[None]:
    """Let this process hold so many bytes of the GPU at most: a part of the memory is not the same on two cards."""
    total = torch.cuda.get_device_properties(DEVICE).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(to_bytes / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def waits(work: Callable[[], Any]) -> list[str]:
    """Do *work*; return where the host waited for the GPU, which on a CPU it never does."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        if CUDA:
            torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            if CUDA:
                torch.cuda.set_sync_debug_mode("default")
    return [f"{one.filename}:{one.lineno}" for one in heard if "synchroniz" in str(one.message)]
