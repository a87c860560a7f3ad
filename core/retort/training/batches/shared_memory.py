"""How many loader processes shared memory has room for, measured before they start."""

from __future__ import annotations

import os
from pathlib import Path

PREFETCH = 4
"""Batches that each process has ready."""
_MARGIN = 0.8
"""Part of what is free that may be used: others use it too."""
_FOLDER = Path("/dev/shm")  # noqa: S108 - where Linux keeps it


def free_bytes(folder: Path = _FOLDER) -> int | None:
    """Return what is free of shared memory; None where the system does not tell."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def in_flight(batch: int, imgsz: int) -> int:
    """Return the bytes that one process may hold there: prefetched batches and the one it makes, uint8 (N, 3, H, W)."""
    return (PREFETCH + 1) * batch * 3 * imgsz * imgsz


def affordable(workers: int, *, batch: int, imgsz: int, free: int | None) -> int:
    """Return how many of *workers* processes fit into *free* bytes; 0 means that the trainer loads images itself."""
    return workers if free is None else min(workers, int(free * _MARGIN) // in_flight(batch, imgsz))
