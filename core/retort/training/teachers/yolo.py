"""A YOLO that teaches by its boxes alone, as placebo of another kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from retort.training.teachers.base import BoxNetwork

if TYPE_CHECKING:
    from torch import Tensor


class YoloBoxes(BoxNetwork):
    """A detector with a Detect head, of which its decoded output alone is seen."""

    def __init__(self, network: Any) -> None:
        super().__init__(network.names, "a YOLO by its boxes")
        self.network = network.eval()
        self.network.end2end = False  # the branch that NMS follows

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return boxes and probabilities (N, 4 + K, A), as ``BoxNetwork`` says."""
        found: Tensor = self.network(images)[0]
        return found
