"""Boxes in image files on a GPU: many at a time in half precision, where a CPU finds them in float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from retort.training.detection import Detection, load_detector


def test_a_gpu_finds_in_half_what_a_cpu_finds_and_gives_its_memory_back(
    published: Callable[..., Path], data_yaml: Path
) -> None:
    files = sorted((data_yaml.parent / "images/train").iterdir())
    before = torch.cuda.memory_reserved()
    with load_detector(published("yolov8n"), imgsz=640, device="0", conf=0.1) as detector:
        found = detector(files)
    assert torch.cuda.memory_reserved() - before < 64 << 20, "cuBLAS keeps a little"
    with load_detector(published("yolov8n"), imgsz=640, device="cpu", conf=0.1) as detector:
        expected = detector(files)
    matched = [_nearest(box, theirs) for ours, theirs in zip(expected, found, strict=True) for box in ours]
    assert matched
    assert float(np.quantile(matched, 0.9)) < 0.5, "pixels between a corner and that of the nearest box of the image"


def _nearest(box: Detection, others: list[Detection]) -> float:
    corners = np.array([[one.x1, one.y1, one.x2, one.y2] for one in others]).reshape(-1, 4)
    away = np.abs(corners - np.array([box.x1, box.y1, box.x2, box.y2])).max(1)
    return float(away.min()) if len(away) else float("inf")
