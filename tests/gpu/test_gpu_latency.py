"""Latency on a GPU is the network's, not the host's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from retort.training.evaluate import Published, speeds

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def test_a_bigger_network_takes_longer_beyond_the_noise(published: Callable[..., Path], data_yaml: Path) -> None:
    """Launched one by one, a network of five times the work came out within a factor of two, whatever it was."""
    networks = {name: Published(published(name), 640) for name in ("yolov8n", "yolo11m")}
    picture = min((data_yaml.parent / "images/val").iterdir())
    found = speeds(networks, "0", picture=picture, on_round=lambda: None)
    small, large = found["yolov8n"], found["yolo11m"]
    name = torch.cuda.get_device_name(0)
    assert small.timed_as == large.timed_as == f"float16, recorded, batch 1, 640 px, {name}"
    assert large.latency_ms["p50"] > small.latency_ms["p90"] * 1.2
    assert large.throughput["8"] is not None
    assert small.throughput["8"] is not None
    assert small.throughput["8"] > large.throughput["8"] * 1.5
