"""All that is drawn in an epoch - order, augmentation, dropout - as a function of seed and epoch alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from retort.training.upstream import init_seeds


def reseed(trainer: Any, seed: int, epoch: int, retry: int = 0) -> None:
    """Make *trainer* draw in *epoch* (from 0) what it draws there in every process; another *retry* draws otherwise.

    Upstream draws one stream from the start of the process on, so a resumed training repeats the order of its first
    epoch (its issues 15960 and 2235).
    """
    number = int(np.random.SeedSequence((seed, epoch, retry)).generate_state(1)[0])
    init_seeds(number, deterministic=True)
    trainer.train_loader.set_epoch(epoch, attempt=retry)
