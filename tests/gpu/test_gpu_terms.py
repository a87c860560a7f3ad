"""The teacher's fused kernel and the terms in half precision on a CUDA device, against a CPU in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import core.conftest  # noqa: F401  # prepares the environment
import pytest
import torch
from retort.constants import Level
from retort.losses import FeatureLoss, HeadLoss, Loss, Predictions
from retort.losses.class_logits import ClassLogits
from retort.losses.dfl import Dfl
from retort.losses.pearson import Pearson
from retort.training import models
from retort.training.distillation import feature_taps
from retort.training.distillation.gpu_activation import biased_silu, checked
from retort.training.distillation.teacher import Teacher, fold
from support.images import make_features, make_predictions

DEVICE = torch.device("cuda:0")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_gpu_has_the_kernel_of_bias_and_activation(dtype: torch.dtype) -> None:
    kernel, reason = checked(biased_silu(), DEVICE, dtype)
    assert kernel is not None, reason


@pytest.mark.parametrize("model", ["yolo11n", "yolo26n"])
def test_a_teacher_with_fused_kernels_says_what_the_folded_network_says(
    model: str, published: Callable[..., Path]
) -> None:
    network = models.load(published(model))
    plain = fold(models.load(published(model)).float()).eval().to(DEVICE).half()
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    teacher = Teacher(network, device=DEVICE, half=True)
    assert sum(getattr(module.forward, "func", None) is not None for module in teacher.model.modules()) > 40
    with torch.no_grad():
        expected, _ = feature_taps.forward(plain, images.half())
    found = teacher(images).features
    for level in (Level.P3, Level.P4, Level.P5):
        torch.testing.assert_close(found[level], expected[level], rtol=2e-2, atol=2e-2)


def term(loss: Loss, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return a term and its gradients, of the same numbers on any device: those that half precision has."""

    def placed(x: torch.Tensor, *, learns: bool = False) -> torch.Tensor:
        return x.half().to(device, dtype).requires_grad_(learns)

    if isinstance(loss, HeadLoss):
        sides = [make_predictions(seed, anchors=300, classes=20, bins=16) for seed in (0, 1)]
        learning = [placed(one, learns=True) for one in (sides[0].scores, sides[0].distances)]
        student = Predictions(learning[0], placed(sides[0].boxes), learning[1])
        value = loss(
            student, Predictions(*(placed(one) for one in (sides[1].scores, sides[1].boxes, sides[1].distances)))
        )
    else:
        assert isinstance(loss, FeatureLoss)
        torch.manual_seed(0)
        projector = loss.build(16, 24).to(device, torch.float64 if dtype == torch.float64 else torch.float32)
        learning = [placed(make_features(0, 4, 16, 40, 40) + 2, learns=True), *projector.parameters()]
        value = loss.through(projector, learning[0], placed(make_features(1, 4, 24, 40, 40) - 1), None)
    lifted = torch.autograd.grad(value * 2**12, learning, allow_unused=True)
    return value.detach(), [one for one in lifted if one is not None]


@pytest.mark.parametrize(
    "loss",
    [ClassLogits(), ClassLogits(class_balance=0.5), Dfl(), Pearson()],
    ids=["class", "balanced", "dfl", "pearson"],
)
@pytest.mark.parametrize("deterministic", [False, True])
def test_terms_in_half_precision_are_those_of_float64(loss: Loss, deterministic: bool) -> None:
    torch.use_deterministic_algorithms(deterministic)
    try:
        value, gradients = term(loss, DEVICE, torch.float16)
    finally:
        torch.use_deterministic_algorithms(mode=False)
    exact, expected = term(loss, torch.device("cpu"), torch.float64)
    assert float(value) == pytest.approx(float(exact), rel=5e-3)
    for found, wanted in zip(gradients, expected, strict=True):
        assert (found.cpu().double() - wanted).norm() < 0.02 * wanted.norm()
