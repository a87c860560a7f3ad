"""Load teachers of any kind; a new file here registers one."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Any

from retort.checkpoints import states
from retort.spec.adapter import TeacherAdapter
from retort.training import models
from retort.training.models import ModelSummary
from retort.training.teachers.base import BoxNetwork


def load(weights: Path) -> Any:
    """Load a network that teaches: a YOLO, or a ``BoxNetwork`` of any other kind.

    What the weights file is decides; a file of another kind was prepared by ``retort.data.foreign_teachers``.

    Raises:
        ModelError: the file holds no detector that can be used.

    """
    for module in _kinds():
        if (found := module.load(weights)) is not None:
            return found
    return models.load(weights)


def summarize(network: Any, imgsz: int) -> ModelSummary:
    """Summarize a *network* that ``load`` has returned.

    The operations of one that gives boxes alone are not counted, and told as 0.
    """
    if not isinstance(network, BoxNetwork):
        return models.summarize(network, imgsz)
    names = tuple(network.names.values())
    family, _, _ = network.kind.partition(" (")
    return ModelSummary(family, names, network.num_parameters, gflops=0.0, attention=0.0)


def input_size(network: Any) -> int:
    """Return the side in pixels at which a loaded *network* is measured."""
    if not isinstance(network, BoxNetwork):
        return models.input_size(network)
    side = network.side or models.USUAL_SIZE
    return -(-side // models.LARGEST_STRIDE) * models.LARGEST_STRIDE


def _kinds() -> list[Any]:
    names = sorted(one.name for one in pkgutil.iter_modules(__path__))
    modules = (importlib.import_module(f"{__name__}.{name}") for name in names)
    return [module for module in modules if hasattr(module, "load")]


def told_in(weights: Path) -> tuple[dict[int, str], TeacherAdapter] | None:
    """Return class names and adapter of a prepared teacher; None for any other file."""
    if not weights.is_file() or (told := states.teacher_in(weights)) is None:
        return None
    return dict(enumerate(told["names"])), TeacherAdapter.model_validate(told)
