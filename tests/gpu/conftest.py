"""The pictures and networks of the training tests, on a GPU."""

from __future__ import annotations

from core.training.conftest import data_yaml, published

__all__ = ["data_yaml", "published"]
