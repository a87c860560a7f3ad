"""The teacher's fast path: only what is asked is computed, and half precision says nearly the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from retort.names import Level
from retort.training import networks, taps
from retort.training.teacher import Teacher, half_precision

CPU = torch.device("cpu")


class Untouchable(torch.nn.Module):
    """Stands where nothing may be computed."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.f, self.i = layer.f, layer.i

    def forward(self, _: Any) -> Any:
        raise AssertionError(f"layer {self.i} was computed")


@pytest.mark.parametrize("model", ["yolov8n", "yolo11n", "yolo12n", "yolo26n"])
def test_layers_that_nobody_asks_for_are_not_computed(
    model: str, published: Callable[..., Path], batch: dict[str, Any]
) -> None:
    network = networks.load(published(model))
    with torch.no_grad():
        whole, _ = taps.forward(network, batch["img"])
        spared = Teacher(network, device=CPU, levels={Level.P3}, head=False)
        last = taps_of(network)[Level.P3]
        for index in range(last + 1, len(spared.model.model)):
            spared.model.model[index] = Untouchable(spared.model.model[index])
        lesson = spared(batch["img"], fleeting=True)

    assert lesson.features.keys() == {Level.P3}
    assert lesson.branches == {}
    torch.testing.assert_close(lesson.features[Level.P3], whole[Level.P3], rtol=1e-3, atol=1e-4)


def taps_of(network: Any) -> Any:
    return taps.Taps.of(network).layers


@pytest.mark.skipif(half_precision(CPU) is torch.float32, reason="this CPU does not compute bfloat16")
@pytest.mark.parametrize("model", ["yolov8n", "yolo11n"])
def test_half_precision_says_nearly_the_same(model: str, published: Callable[..., Path], batch: dict[str, Any]) -> None:
    network = networks.load(published(model))
    exact, half = (Teacher(network, device=CPU, half=half)(batch["img"]) for half in (False, True))

    assert half.branches["one2many"]["scores"].dtype is torch.bfloat16
    for level in (Level.P3, Level.P4, Level.P5):
        torch.testing.assert_close(half.confidence[level].float(), exact.confidence[level], rtol=0, atol=0.05)
