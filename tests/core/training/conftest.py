"""Networks and pictures for the training tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import broken_runs
import pytest
from core.training.pictures import NAMES, draw
from random_teacher import make_opinionated
from retort.training import models
from retort.training.models import publish
from sharing import Once


@pytest.fixture(scope="session")
def data_yaml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of coloured rectangles: 16 training and 6 validation images of 96 pixels."""
    return draw(tmp_path_factory.mktemp("pictures"), num_train=16, num_val=6)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that builds and publishes a network with random weights, once for each set of arguments."""
    folder = tmp_path_factory.mktemp("published")

    def make(model: str, *, names: dict[int, str] = NAMES, seed: int = 1) -> Path:
        path = folder / f"{model}-{seed}-{'-'.join(names.values())[:60]}.pt"
        if not path.exists():
            network = models.build(model, names=names, weights=None, seed=seed)
            make_opinionated(network)
            publish(network, path, names=names, imgsz=96)
        return path

    return make


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set from which a few epochs teach something: 32 training and 8 validation images."""
    return draw(tmp_path_factory.mktemp("scenes"), num_train=32, num_val=8)


@pytest.fixture(scope="session")
def knows(scenes: Path, trained: Once) -> Path:
    """A yolov8n that finds those rectangles and names their colours."""
    return Path(trained("knows", lambda folder: str(broken_runs.teacher(scenes, folder, epochs=26)))[1])


@pytest.fixture
def batch() -> dict[str, Any]:
    """Two images of 64 pixels with a box each."""
    import torch

    return {
        "img": torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)),
        "cls": torch.tensor([[0.0], [2.0]]),
        "bboxes": torch.tensor([[0.5, 0.5, 0.3, 0.3], [0.4, 0.4, 0.5, 0.5]]),
        "batch_idx": torch.tensor([0.0, 1.0]),
    }
