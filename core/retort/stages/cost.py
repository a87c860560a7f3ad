"""What stages cost relative to each other: one unit is roughly a GFLOP on every training image."""

from __future__ import annotations

import re

from retort.names import FAMILIES, SIZES
from retort.spec import JobSpec

_GFLOPS = {
    "yolov8": (8.7, 28.6, 78.9, 165.2, 257.8),
    "yolo11": (6.5, 21.5, 68.0, 86.9, 194.9),
    "yolo12": (6.5, 21.4, 67.5, 88.9, 199.0),
    "yolo26": (5.4, 20.7, 68.2, 86.4, 193.9),
}
"""Of one forward pass at 640 pixels, by size; from the networks' papers and model cards."""
_UNKNOWN = 86.9
_OVERHEAD = 4.0
"""Loading, augmenting and launching do not shrink with the network."""
_BACKWARD = 2.0
"""A backward pass over a forward pass."""
_VALIDATION = 0.2
"""Share of an epoch that its validation adds."""


def forward(name: str) -> float:
    """Return the cost of one epoch of forward passes of the network or weight file *name*."""
    match = re.match(rf"({'|'.join(FAMILIES)})([{''.join(SIZES)}])", name)
    return _OVERHEAD + (_GFLOPS[match[1]][SIZES.index(match[2])] if match else _UNKNOWN)


def training(name: str, epochs: int) -> float:
    """Return the cost of training *name* for so many epochs."""
    return epochs * forward(name) * (1 + _BACKWARD + _VALIDATION)


def teacher(spec: JobSpec) -> str:
    """Return the name of the teacher's network or weight file."""
    train = spec.teacher.train
    return train.model if train is not None else str(spec.teacher.weights)
