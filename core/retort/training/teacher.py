"""The teacher: a frozen network that is asked, never trained, and never part of another module."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from retort.names import HEAD_LEVELS, Level
from retort.training import taps
from retort.training.upstream import Conv, DWConv, fuse_conv_and_bn

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Lesson:
    """What the teacher says about one batch."""

    features: dict[Level, Tensor]
    """Feature maps, (N, C, H, W)."""
    branches: dict[str, taps.Raw]
    """Raw outputs of the head's branches: one2many, and one2one where there is one."""
    confidence: dict[Level, Tensor]
    """Highest class probability at each position, (N, 1, H, W)."""


class Teacher:
    """Holds a network outside module registration, so that optimizer, EMA, copies and checkpoints never see it.

    Batch normalisation is folded into the convolutions; the head is read raw, without decoding or NMS. In float16
    (*half*, for a GPU under AMP) autocast has no weights left to cast in every step.
    """

    def __init__(self, model: Any, *, device: torch.device, half: bool = False) -> None:
        self.model = fold(deepcopy(model).float()).eval().requires_grad_(requires_grad=False).to(device)
        self.names: dict[int, str] = dict(model.names)
        self._dtype = torch.float16 if half else torch.float32
        self._layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
        self.model.to(dtype=self._dtype, memory_format=self._layout)

    @torch.no_grad()  # inference_mode would forbid the losses to save its tensors for backward
    def __call__(self, images: Tensor) -> Lesson:
        """Answer for *images* (N, 3, H, W) in 0..1."""
        with torch.autocast(images.device.type, enabled=False):
            features, branches = taps.forward(self.model, images.to(self._dtype, memory_format=self._layout))
        return Lesson(features, branches, confidence(features, branches.values()))


def fold(model: Any) -> Any:
    """Fold batch normalisation into its convolution, in place; both head branches stay, unlike in upstream's fuse."""
    for module in model.modules():
        if type(module) in {Conv, DWConv} and hasattr(module, "bn"):
            module.conv = fuse_conv_and_bn(module.conv, module.bn)
            del module.bn
            module.forward = module.forward_fuse
    return model


def confidence(features: dict[Level, Tensor], branches: Iterable[taps.Raw]) -> dict[Level, Tensor]:
    """Return the highest class probability at each position of each level; logits of two branches are averaged first.

    The backbone's last layer has P5's stride and takes P5's map.
    """
    scores = torch.stack([branch["scores"].float() for branch in branches]).mean(0)  # N K A
    highest = scores.amax(1, keepdim=True).sigmoid()  # N 1 A
    shapes = [features[level].shape[-2:] for level in HEAD_LEVELS]
    parts = highest.split_with_sizes([height * width for height, width in shapes], dim=-1)
    maps = {
        level: part.reshape(len(part), 1, *shape) for level, part, shape in zip(HEAD_LEVELS, parts, shapes, strict=True)
    }
    return {**maps, Level.BACKBONE: maps[Level.P5]}
