"""Fixtures that draw what losses compare."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from retort.losses import Predictions
from support.images import make_confidence, make_features, make_predictions


@pytest.fixture
def predictions() -> Callable[..., Predictions]:
    return make_predictions


@pytest.fixture
def features() -> Callable[..., torch.Tensor]:
    return make_features


@pytest.fixture
def confidence() -> Callable[..., torch.Tensor]:
    return make_confidence
