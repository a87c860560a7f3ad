"""Bring networks with random weights to life, so that they can stand in for trained teachers."""

from __future__ import annotations

from typing import Any

import torch
from retort.training.distillation import feature_taps


def make_opinionated(network: Any) -> None:
    """Let a network with random weights find something somewhere, as a trained one does.

    As it is built, its statistics say that every convolution answers with variance 1, while random weights leave a
    third: in eval mode each layer shrinks what the one before it left. P5 of YOLO11m is 4e-10 then, which is zero in
    float16, and on a GPU the liveness contract refused to train with such a teacher (docs/log/gpu.md). With the
    statistics of a batch the features of all levels lie near 0.2.
    """
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    images = torch.rand(4, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    head = network.model[-1]
    found = {"one2many": head.cv3, "one2one": getattr(head, "one2one_cv3", None) or []}
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 0.9  # most of this batch's statistics; all of them would make the network chaotic
        network(images)
        for norm in norms:
            norm.momentum = 0.03
        for level in (level for levels in found.values() for level in levels):
            level[-1].bias.zero_()
        _, branches = feature_taps.forward(network.eval(), images)
        for name, levels in found.items():
            for level in levels:
                level[-1].weight.mul_(2 / branches[name]["scores"].std())
                level[-1].bias.fill_(-2.0)
