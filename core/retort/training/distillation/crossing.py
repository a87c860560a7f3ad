"""The student's intermediate head features, seen through the remaining layers of the teacher's head (CrossKD)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from retort.losses import CrossedLoss
from retort.losses.base import standardise, wide

if TYPE_CHECKING:
    from torch import Tensor

    from retort.training.distillation.taps import Raw

HEADS = {"boxes": "box_head", "scores": "cls_head"}
"""Outputs of a branch, and upstream's name of the layers that make each."""


def split(inputs: list[Tensor], layers: Mapping[str, Any]) -> Raw:
    """Run one branch as upstream's ``forward_head`` does, and return under *middles* what its layers are cut at.

    A branch has at each level two blocks and a 1x1 convolution; the cut is after the first block. middles: for boxes
    and for scores a list of (N, C, H, W), one for each level.
    """
    found: Raw = {"feats": inputs, "middles": {}}
    for output, name in HEADS.items():
        middles = [level[0](x) for level, x in zip(layers[name], inputs, strict=True)]
        found[output] = torch.cat(rest(layers[name], middles), -1)
        found["middles"][output] = middles
    return found


def rest(levels: Any, middles: list[Tensor]) -> list[Tensor]:
    """Run the layers behind the cut: a list of (N, C, H, W) to a list of (N, C', H W)."""
    return [level[1:](x).flatten(2) for level, x in zip(levels, middles, strict=True)]


def adapters(loss: CrossedLoss, student: Any, teacher: Any) -> nn.ModuleDict:
    """Build the trainable adapters of *loss* between two networks' heads: for each output, one at each level."""
    ours, theirs = (model.model[-1].one2many for model in (student, teacher))
    return nn.ModuleDict(
        {
            output: nn.ModuleList(
                loss.build(width(own[0]), width(other[0])) for own, other in zip(ours[name], theirs[name], strict=True)
            )
            for output, name in HEADS.items()
        }
    )


def width(block: nn.Module) -> int:
    """Number of channels that a block of a head gives: those of its last convolution."""
    return [module.out_channels for module in block.modules() if isinstance(module, nn.Conv2d)][-1]


def cross(adapted: Any, student: Raw, teacher: Raw, head: Any) -> Raw:
    """Return what the teacher's *head* makes of the student's middles; gradient flows to student and adapters.

    Each channel is given the mean and the deviation that the teacher's own features have, over batch and space. The
    head's layers run in their own precision and never in autocast's, so that both sides round alike.
    """
    found: Raw = {"feats": student["feats"]}
    for output, name in HEADS.items():
        levels = head.one2many[name]
        dtype = next(levels.parameters()).dtype
        pairs = zip(adapted[output], student["middles"][output], teacher["middles"][output], strict=True)
        aligned = [align(adapter(ours), theirs).to(dtype) for adapter, ours, theirs in pairs]
        with torch.autocast(aligned[0].device.type, enabled=False):
            found[output] = torch.cat(rest(levels, aligned), -1)
    return found


def align(student: Tensor, teacher: Tensor) -> Tensor:
    """Give each channel of *student* (N, C, H, W) the mean and deviation of *teacher*'s, in float32."""
    theirs = wide(teacher).detach()
    mean = theirs.mean((0, 2, 3), keepdim=True)
    variance = (theirs - mean).square().mean((0, 2, 3), keepdim=True)
    return standardise(student) * variance.sqrt() + mean
