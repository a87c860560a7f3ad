"""Loader processes are as many as shared memory has room for."""

from __future__ import annotations

from pathlib import Path

import pytest
from retort.training.batches import shared_memory

BATCH = 5 * 16 * 3 * 640 * 640
"""What one process of a usual job may hold there: about 98 MB."""


@pytest.mark.parametrize(
    ("free", "expected"),
    [(None, 8), (8 << 30, 8), (int(8 * BATCH / 0.8) + 9, 8), (int(7.9 * BATCH / 0.8), 7), (64 << 20, 0), (0, 0)],
)
def test_the_number_is_lowered_until_they_fit(free: int | None, expected: int):
    assert shared_memory.in_flight(16, 640) == BATCH
    assert shared_memory.affordable(8, batch=16, imgsz=640, free=free) == expected


def test_what_is_free_is_measured(tmp_path: Path):
    assert (shared_memory.free_bytes(tmp_path) or 0) > 0
    assert shared_memory.free_bytes(tmp_path / "nowhere") is None
