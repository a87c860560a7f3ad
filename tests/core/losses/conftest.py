"""Fixtures that draw what losses compare."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from drawn import make_confidence, make_features, make_predictions
from retort.losses import Predictions


@pytest.fixture
def predictions() -> Callable[..., Predictions]:
    return make_predictions


@pytest.fixture
def features() -> Callable[..., torch.Tensor]:
    return make_features


@pytest.fixture
def confidence() -> Callable[..., torch.Tensor]:
    return make_confidence
