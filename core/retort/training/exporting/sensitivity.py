"""Which layers INT8 hurts most: each is quantized alone, and the change of what the network detects is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch

from retort.training.exporting.quantization import FloatGraph
from retort.training.runtimes import Runtime, of_onnx

if TYPE_CHECKING:
    from torch import Tensor

NUM_IMAGES = 8


@dataclass(frozen=True)
class Sensitivity:
    """What one layer in INT8 does to the network's output."""

    layer: str
    error: float
    """Change of scores, and of boxes relative to the image, averaged over where the float network sees something."""


def rank(graph: FloatGraph, *, on_layer: Callable[[], None]) -> list[Sensitivity]:
    """Measure every layer of *graph* on some calibration images; the worst comes first."""
    images = [
        torch.from_numpy(image)
        for image, _ in zip(graph.calibration.inputs(graph.imgsz), range(NUM_IMAGES), strict=False)
    ]
    expected = _outputs(of_onnx(graph.path), images)
    found = []
    with TemporaryDirectory() as folder:
        path = Path(folder) / "one-layer.onnx"
        for layer in graph.layers:
            on_layer()
            path.write_bytes(graph.quantized(only=[layer]).SerializeToString())
            error = difference(expected, _outputs(of_onnx(path), images), imgsz=graph.imgsz)
            found.append(Sensitivity(layer, error))
    return sorted(found, key=lambda one: -one.error)


def _outputs(runtime: Runtime, images: list[Tensor]) -> Tensor:
    return torch.cat([runtime.run_all(image) for image in images])


def difference(expected: Tensor, found: Tensor, *, imgsz: int) -> float:
    """Compare raw outputs (N, 4 + K, A), each anchor weighted by the highest score that is expected there."""
    weight = expected[:, 4:].amax(1)  # N A
    scores = (expected[:, 4:] - found[:, 4:]).abs().amax(1)
    boxes = (expected[:, :4] - found[:, :4]).abs().mean(1) / imgsz
    return float((weight * (scores + boxes)).sum() / weight.sum().clamp(min=1e-9))
