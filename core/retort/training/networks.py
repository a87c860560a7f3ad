"""Detection networks: loaded from a file that strangers may have made, or built by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from retort.errors import ModelError
from retort.training.upstream import Detect, DetectionModel, intersect_dicts, load_checkpoint

if TYPE_CHECKING:
    from torch import nn

STRIDES = (8, 16, 32)
"""Strides of the levels P3, P4 and P5, which every network here has."""


def load(weights: Path) -> Any:
    """Load a detection network in float32 and eval mode, through the safe loader only.

    Raises:
        ModelError: the file is missing, damaged, unsafe, or holds something else than a sound YOLO detector.

    """
    if not weights.is_file():
        raise ModelError(f"weights file {weights.name} does not exist", hint="put it into the model folder")
    try:
        model, _ = load_checkpoint(weights)
    except Exception as error:  # whatever a stranger's file provokes in the unpickler
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        message = f"weights file {weights.name} cannot be loaded: {reason}"
        raise ModelError(
            message, hint="an Ultralytics detection checkpoint, not damaged and not TorchScript"
        ) from error
    network = detector(model, weights.name)
    if (found := flaw(network)) is not None:
        message = f"weights file {weights.name} comes from a training that diverged: {found}"
        raise ModelError(message, hint="weights that have been trained to an end")
    return network


def flaw(model: nn.Module) -> str | None:
    """Return what a training that left the finite numbers has done to *model*; None where it is sound.

    Upstream saves such weights as zeros, so that a layer of nothing but zeros tells as much.
    """
    for name, value in model.state_dict().items():
        if not value.is_floating_point():
            continue
        if not bool(value.isfinite().all()):
            return f"{name} holds values that are not finite"
        if value.ndim == 4 and not bool(value.any()):
            return f"{name} is all zeros"
    return None


def is_finite(model: nn.Module) -> bool:
    """Tell whether every floating-point weight and buffer is finite."""
    tensors = (value for value in model.state_dict().values() if value.is_floating_point())
    return all(bool(value.isfinite().all()) for value in tensors)


def detector(model: Any, name: str) -> Any:
    """Insist that *model* is a plain YOLO detector with three levels."""
    if type(model) is not DetectionModel or type(model.model[-1]) is not Detect:
        kind = getattr(model, "task", type(model).__name__)
        raise ModelError(f"{name} is not a detection network but {kind}", hint="YOLOv8, YOLO11, YOLO12 or YOLO26")
    strides = tuple(int(stride) for stride in model.stride)
    if strides != STRIDES:
        raise ModelError(f"{name} has the strides {strides}, not {STRIDES}", hint="a network with levels P3, P4 and P5")
    return model


def build(model: str, *, names: Mapping[int, str], weights: Path | None, seed: int) -> Any:
    """Build a network by name for the classes *names*, from *weights* or from random by *seed*.

    Equal arguments give byte-identical weights, and the caller's random state is left as it was.

    Raises:
        ModelError: *weights* cannot be loaded, or belong to another architecture.

    """
    with seeded(seed):
        network = DetectionModel(f"{model}.yaml", ch=3, nc=len(names), verbose=False)
    network.names = dict(names)
    if weights is not None:
        source = load(weights)
        fits(network, source, model, weights.name)
        with seeded(seed):  # a class branch of another width is built anew
            network.load(source, verbose=False)
    network.train()
    return network


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from a random stream of its own on the CPU, where networks are built, and leave the caller's as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def fits(network: nn.Module, source: nn.Module, model: str, name: str) -> None:
    """Insist that every weight of *network* before its head has its counterpart in *source*."""
    head = f"model.{len(network.model) - 1}."  # type: ignore[arg-type]
    ours = {key: value for key, value in network.state_dict().items() if not key.startswith(head)}
    common = intersect_dicts(source.state_dict(), ours)
    if len(common) < len(ours):
        found = Path(str(source.yaml.get("yaml_file", "another network"))).stem  # type: ignore[union-attr,operator]
        message = f"weights {name} ({found}) do not fit {model}: {len(common)} of {len(ours)} tensors agree"
        raise ModelError(message, hint=f"weights of a {model}, or null for random ones")
