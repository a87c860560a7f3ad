"""The teacher's fast path: only what is asked is computed, and half precision says nearly the same."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from retort.constants import Level
from retort.training import models
from retort.training.distillation import feature_taps
from retort.training.distillation.teacher import Teacher, fold, fuse_activations, half_precision
from retort.training.ultralytics_api import Conv

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
    network = models.load(published(model))
    with torch.no_grad():
        whole, _ = feature_taps.forward(network, batch["img"])
        spared = Teacher(network, device=CPU, levels={Level.P3}, predictions=False)
        last = taps_of(network)[Level.P3]
        for index in range(last + 1, len(spared.model.model)):
            spared.model.model[index] = Untouchable(spared.model.model[index])
        lesson = spared(batch["img"], reuse_buffers=True)

    assert lesson.features.keys() == {Level.P3}
    assert lesson.branches == {}
    torch.testing.assert_close(lesson.features[Level.P3], whole[Level.P3], rtol=1e-3, atol=1e-4)


def taps_of(network: Any) -> Any:
    return feature_taps.FeatureLayers.of(network).layers


@pytest.mark.skipif(half_precision(CPU) is torch.float32, reason="this CPU does not compute bfloat16")
@pytest.mark.parametrize("model", ["yolov8n", "yolo11n"])
def test_half_precision_says_nearly_the_same(model: str, published: Callable[..., Path], batch: dict[str, Any]) -> None:
    network = models.load(published(model))
    exact, half = (Teacher(network, device=CPU, half=half)(batch["img"]) for half in (False, True))

    assert half.branches["one2many"]["scores"].dtype is torch.bfloat16
    for level in (Level.P3, Level.P4, Level.P5):
        torch.testing.assert_close(half.confidence[level].float(), exact.confidence[level], rtol=0, atol=0.05)


@pytest.mark.parametrize("model", ["yolov8n", "yolo11n", "yolo12n", "yolo26n"])
def test_activations_inside_convolutions_are_the_same_activations(
    model: str, published: Callable[..., Path], batch: dict[str, Any]
) -> None:
    plain = fold(models.load(published(model)).float()).eval()
    fused = deepcopy(plain)
    fuse_activations(fused)
    forwards = [module.forward for module in fused.modules() if isinstance(module, Conv)]

    with torch.no_grad():
        (expected, expected_raw), (found, found_raw) = (
            feature_taps.forward(one, batch["img"]) for one in (plain, fused)
        )

    assert sum(getattr(forward, "func", None) is not None for forward in forwards) > 40
    for level in (Level.P3, Level.P4, Level.P5):
        torch.testing.assert_close(found[level], expected[level], rtol=1e-3, atol=1e-4)
    for name, raw in expected_raw.items():
        torch.testing.assert_close(found_raw[name]["scores"], raw["scores"], rtol=1e-3, atol=1e-3)


def test_a_head_that_features_pass_through_lets_their_gradient_pass(published: Callable[..., Path]) -> None:
    teacher = Teacher(models.load(published("yolo11n")), device=CPU, intermediate=True)
    image = torch.rand(1, 3, 64, 64)
    lesson = teacher(image, reuse_buffers=True)
    features = [x.clone().requires_grad_() for x in lesson.branches["one2many"]["feats"]]

    lesson.head.forward_head(features, **lesson.head.one2many)["scores"].sum().backward()

    assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in features)
