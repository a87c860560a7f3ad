"""A detector that needs no training, for tests of what judges detectors."""

from __future__ import annotations

import torch
from core.training.pictures import NAMES
from torch.nn.functional import avg_pool2d


class ColourFinder(torch.nn.Module):
    """A network without a weight to learn: finds what has one pure colour, in boxes of nine sizes on a grid."""

    SIDES = (20, 28, 36)
    STEP = 4

    def __init__(self) -> None:
        super().__init__()
        self.names = NAMES
        self.stride = torch.tensor([8.0, 16.0, 32.0])
        self.end2end = False

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return boxes by centre and size, and the score of each class: (N, 4 + K, A)."""
        others = torch.stack([images.roll(shift, 1) for shift in (1, 2)]).amax(0)
        pure = (images - others).clamp(min=0)  # N K S S
        levels = [self._level(pure, width, height) for width in self.SIDES for height in self.SIDES]
        return torch.cat(levels, -1)

    def _level(self, pure: torch.Tensor, width: int, height: int) -> torch.Tensor:
        share = avg_pool2d(pure, (height, width), self.STEP)  # N K H W
        score = share.clamp(max=1) ** 2 * (width * height) / max(self.SIDES) ** 2
        y, x = (self.STEP * torch.arange(n) for n in share.shape[-2:])
        centres = torch.cartesian_prod(y + height / 2, x + width / 2).flip(-1).T  # 2 A
        sides = torch.tensor([width, height])[:, None].expand_as(centres)
        boxes = torch.cat([centres, sides]).expand(len(pure), -1, -1)
        return torch.cat([boxes, score.flatten(2)], 1)
