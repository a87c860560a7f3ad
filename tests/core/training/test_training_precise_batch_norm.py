"""Statistics of batch normalisation, computed anew on given images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from retort.training import models, precise_batch_norm
from retort.training.inference import prepare
from retort.training.precise_batch_norm import renew_statistics
from torch import nn


def images_of(data_yaml: Path) -> list[Path]:
    return sorted((data_yaml.parent / "images/train").iterdir())


def first_norm(network: nn.Module) -> nn.BatchNorm2d:
    return next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))


def test_statistics_are_those_of_the_images_whatever_they_were(published: Callable[..., Path], data_yaml: Path) -> None:
    network = models.load(published("yolov8n"))
    images, norm = images_of(data_yaml)[:16], first_norm(network)
    seen = torch.cat([prepare(image, 64)[0] for image in images])
    with torch.no_grad():
        wanted = network.model[0].conv(seen).mean((0, 2, 3))
        norm.running_mean.fill_(9.0)
    weights, momentum = norm.weight.clone(), norm.momentum
    renew_statistics(network, images, 64)
    torch.testing.assert_close(norm.running_mean, wanted, rtol=1e-4, atol=1e-5)
    assert norm.momentum == momentum
    assert torch.equal(norm.weight, weights)
    assert not network.training


def test_of_many_images_some_are_seen_from_all_over(
    published: Callable[..., Path], data_yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precise_batch_norm, "MOST_IMAGES", 4)
    images = images_of(data_yaml)
    some, few = models.load(published("yolov8n")), models.load(published("yolov8n"))
    renew_statistics(some, images, 64)
    renew_statistics(few, images[:: -(-len(images) // 4)], 64)
    assert torch.equal(first_norm(some).running_mean, first_norm(few).running_mean)
