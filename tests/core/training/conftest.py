"""Networks and pictures for the training tests; the environment is prepared before Ultralytics is imported."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from retort.training import environment

environment.prepare(Path(tempfile.mkdtemp(prefix="retort-ultralytics-")))

import broken_runs  # noqa: E402
from core.training.pictures import NAMES, draw  # noqa: E402
from retort.training import models  # noqa: E402
from retort.training.distillation import feature_taps  # noqa: E402
from retort.training.models import publish  # noqa: E402
from sharing import Once  # noqa: E402


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
            publish(network, path, names=names)
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


def make_opinionated(network: Any) -> None:
    """Let a network with random weights find something somewhere, as a trained one does."""
    import torch

    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    images = torch.rand(4, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    head = network.model[-1]
    found = {"one2many": head.cv3, "one2one": getattr(head, "one2one_cv3", None) or []}
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 0.9  # most of this batch's statistics; all of them would make the network chaotic
        network(images)
        for norm in norms:
            norm.momentum = 0.03
        for level in (level for levels in found.values() for level in levels):
            level[-1].bias.zero_()
        _, branches = feature_taps.forward(network.eval(), images)
        for name, levels in found.items():
            for level in levels:
                level[-1].weight.mul_(2 / branches[name]["scores"].std())
                level[-1].bias.fill_(-2.0)


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
