"""The pictures and networks of the training tests, on a GPU; all tests of this folder are marked and need one."""

from __future__ import annotations

import os
from pathlib import Path

import core.conftest  # noqa: F401  # prepares the environment
import pytest
import torch
from core.training.conftest import data_yaml, published

__all__ = ["data_yaml", "published"]
HERE = Path(__file__).parent
PLAYED = "PLAY_GPU_TESTS"
"""Set where those that can run on a CPU are to, so that they are not broken on the day that a GPU is at hand."""


@pytest.hookimpl(tryfirst=True)  # before ``-m gpu`` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies here, so that no file can forget to, and say why it is skipped."""
    for item in (one for one in items if HERE in one.path.parents):
        item.add_marker(pytest.mark.gpu)
        played = PLAYED in os.environ and item.get_closest_marker("plays") is not None
        if not torch.cuda.is_available() and not played:
            item.add_marker(pytest.mark.skip(reason="this machine has no CUDA device"))
