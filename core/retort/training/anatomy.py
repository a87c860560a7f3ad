"""What a network is made of: its architecture, classes, parameters and arithmetic."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retort.training.upstream import get_flops

_ATTENTION = frozenset({"ABlock", "PSABlock"})
"""Upstream's blocks of attention: area attention in YOLO12, one stage of self-attention in YOLO11 and YOLO26."""


@dataclass(frozen=True)
class Anatomy:
    """What a network is made of, batch normalisation folded."""

    architecture: str
    """By name, such as yolo11s."""
    names: tuple[str, ...]
    """Of its classes."""
    num_parameters: int
    gflops: float
    attention: float
    """Share of the parameters in blocks of attention."""


def anatomy(network: Any, imgsz: int) -> Anatomy:
    """Take *network* apart on the CPU; it is left as it was."""
    folded = deepcopy(network).cpu().float().eval().fuse(verbose=False)
    whole = _size(folded)
    return Anatomy(
        architecture=Path(str(network.yaml.get("yaml_file", ""))).stem,
        names=tuple(str(name) for name in network.names.values()),
        num_parameters=whole,
        gflops=float(get_flops(folded, imgsz)),
        attention=sum(_size(module) for module in folded.modules() if type(module).__name__ in _ATTENTION) / whole,
    )


def _size(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
