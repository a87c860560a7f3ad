"""Recompute running statistics of batch normalisation for the current weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from retort.training.inference import prepare

MOST_IMAGES = 512
_BATCH = 16


def renew_statistics(network: nn.Module, images: Sequence[Path], imgsz: int) -> None:
    """Replace the running means and variances of *network* by those of *images*.

    At most ``MOST_IMAGES`` are seen, evenly spread, letterboxed to the side *imgsz*. While the learning rate is high,
    running statistics belong to weights of some thirty steps before. The field calls this precise batch normalisation:
    Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm", section 3.
    """
    seen = images[:: math.ceil(len(images) / MOST_IMAGES)]
    where = next(network.parameters())
    with torch.no_grad():
        update_bn(_batches(seen, imgsz, where), network)


def _batches(images: Sequence[Path], imgsz: int, where: Tensor) -> Iterator[Tensor]:
    for first in range(0, len(images), _BATCH):
        yield torch.cat([prepare(image, imgsz)[0] for image in images[first : first + _BATCH]]).to(where)
