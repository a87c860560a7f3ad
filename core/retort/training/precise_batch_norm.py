"""Recompute running statistics of batch normalisation for the current weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from retort.training.inference import prepare

MOST_IMAGES = 512
_BATCH = 16


def renew_statistics(
    network: nn.Module, images: Sequence[Path], imgsz: int, *, on_batch: Callable[[], None] | None = None
) -> None:
    """Replace the running means and variances of *network* by those of *images*.

    At most ``MOST_IMAGES`` are seen, evenly spread, letterboxed to the side *imgsz*. While the learning rate is high,
    running statistics belong to weights of some thirty steps before. The field calls this precise batch normalisation:
    Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm", section 3. *on_batch* is called before each batch.
    """
    seen = images[:: math.ceil(len(images) / MOST_IMAGES)]
    where = next(network.parameters())

    def batches() -> Iterator[Tensor]:
        for first in range(0, len(seen), _BATCH):
            if on_batch is not None:
                on_batch()
            yield torch.cat([prepare(image, imgsz)[0] for image in seen[first : first + _BATCH]]).to(where)

    with torch.no_grad():
        update_bn(batches(), network)
