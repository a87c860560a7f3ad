"""All that is drawn in an epoch - order, augmentation, dropout - as a function of seed and epoch alone."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from retort.training.upstream import init_seeds


def reseed(trainer: Any, seed: int, epoch: int, retry: int = 0) -> None:
    """Make *trainer* draw in *epoch* (from 0) what it draws there in every process; another *retry* draws otherwise.

    Upstream draws one stream from the start of the process on, so a resumed training repeats the order of its first
    epoch (its issues 15960 and 2235). Its loader keeps one iterator for all epochs, which has fetched ahead, and its
    data set keeps the images it saw last for the next mosaics: both belong to the epoch before, and start anew.
    """
    number = int(np.random.SeedSequence((seed, epoch, retry)).generate_state(1, np.uint64)[0])
    init_seeds(number % 2**32, deterministic=True)
    loader = trainer.train_loader
    loader.generator.manual_seed(number)
    loader.reset()
    _refill(loader.dataset, random.Random(number))  # noqa: S311 - for pictures, not for secrets


def _refill(dataset: Any, stream: random.Random) -> None:
    """Let the first mosaics of an epoch choose from as many images as the later ones do; loaded when chosen."""
    if not getattr(dataset, "max_buffer_length", 0) or dataset.cache == "ram":
        return
    for index in set(dataset.buffer):
        dataset.ims[index], dataset.im_hw0[index], dataset.im_hw[index] = None, None, None
    dataset.buffer = stream.sample(range(dataset.ni), dataset.max_buffer_length - 1)
