"""Define what a detector must be that teaches by its boxes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from retort.constants import HEAD_LEVELS, LEVEL_STRIDES

if TYPE_CHECKING:
    from torch import Tensor


class BoxNetwork(nn.Module):
    """A detector that gives boxes alone: neither features nor anchors that could be compared.

    It answers as YOLO's raw output is, so that whatever judges, shows or applies a network takes this one too.
    """

    def __init__(self, names: Mapping[int, str], kind: str = "boxes") -> None:
        super().__init__()
        self.names = dict(names)
        """Of its classes, by number from 0."""
        self.kind = kind
        """What it is, for people."""
        self.stride = torch.tensor([LEVEL_STRIDES[level] for level in HEAD_LEVELS])
        self.end2end = False  # upstream would look for a head of its own

    def forward(self, images: Tensor) -> Tensor:
        """Return boxes and probabilities (N, 4 + K, A) for *images* (N, 3, H, W), RGB in 0..1.

        Boxes are centre and size in pixels of *images*; class probabilities are in 0..1, and 0 where no box is. Boxes
        may overlap: non-maximum suppression follows.
        """
        raise NotImplementedError
