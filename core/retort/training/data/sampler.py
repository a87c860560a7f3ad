"""The order of images in an epoch, and each sample's own seed."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Sampler

from retort.training.config import Trainer
from retort.training.ultralytics_api import init_seeds

Array = np.ndarray[Any, Any]


class Sample(NamedTuple):
    """Key of one training sample, sent to a loader's worker."""

    epoch: int
    attempt: int
    """How often this epoch was begun anew because its weights left the finite numbers."""
    place: int
    """Place in the epoch's order over all ranks."""


@lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, attempt: int, length: int) -> Array:
    """Return the permutation of *length* images in one epoch, int64 (length)."""
    draw = np.random.RandomState(list(digest(seed, epoch, attempt, -1)))  # its stream is frozen; a Generator's is not
    return draw.permutation(length)


def digest(*parts: int) -> tuple[int, int, int]:
    """Return a digest of *parts* as three 32-bit numbers.

    No other *parts* share them, for all that matters.
    """
    found = hashlib.blake2b(struct.pack(f"<{len(parts)}q", *parts), digest_size=12).digest()
    first, second, third = struct.unpack("<3I", found)
    return first, second, third


@dataclass(frozen=True)
class SampleOrder:
    """Order of the samples of all epochs."""

    seed: int
    length: int
    batch: int
    """Samples of one step over all ranks."""

    @property
    def window(self) -> int:
        """Number of batches whose images a mosaic is made of.

        There are as many as upstream keeps in its buffer, at most 1000 images.
        """
        return max(1, min(8, 1000 // self.batch))

    def index(self, sample: Sample) -> int:
        """Return the image of a sample."""
        return int(permutation(self.seed, sample.epoch, sample.attempt, self.length)[sample.place])

    def seeds(self, sample: Sample) -> tuple[int, int]:
        """Return the seeds of Python's and numpy's draws for a sample.

        They have 64 and 32 bits.
        """
        first, second, third = digest(self.seed, sample.epoch, sample.attempt, self.index(sample))
        return first << 32 | second, third

    def pool(self, sample: Sample) -> Sequence[int]:
        """Return the images that a mosaic of *sample* may take.

        They are recent ones, as in upstream's buffer. They come from every eighth batch back, own batch included:
        loader processes take batches in turn, so with 1, 2, 4 or 8 of them each finds these images among those it has
        just decoded. Before the first batch come the last ones.
        """
        if self.length <= 8 * self.batch:
            return range(self.length)
        images = permutation(self.seed, sample.epoch, sample.attempt, self.length)
        batches = -(-self.length // self.batch)
        own = sample.place // self.batch
        pool: list[int] = []
        for back in range(self.window):
            start = (own - 8 * back) % batches * self.batch
            pool.extend(images[start : start + self.batch].tolist())
        return pool


class EpochSampler(Sampler[Sample]):
    """Sampler of this rank's samples, one epoch per pass.

    After a pass, it advances to the next epoch. A loader that works ahead asks for the next epoch before the present
    one is trained, so the epoch is counted here and travels with each sample. The ranks' shares are disjoint and
    equally long: up to ``world_size - 1`` images, other ones in each epoch, are left out.
    """

    def __init__(self, order: SampleOrder, *, rank: int = 0, world_size: int = 1) -> None:
        assert 0 <= rank < world_size, "a rank is below the world's size"
        self.order = order
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.attempt = 0

    def __len__(self) -> int:
        return max(self.order.length // self.world_size, 1)

    def __iter__(self) -> Iterator[Sample]:
        epoch, attempt = self.epoch, self.attempt
        self.epoch, self.attempt = epoch + 1, 0
        for step in range(len(self)):
            yield Sample(epoch, attempt, (step * self.world_size + self.rank) % self.order.length)

    def set_epoch(self, epoch: int) -> None:
        """Do nothing; the loader's ``set_epoch`` counts.

        Upstream calls this late, under several ranks.
        """


def reseed(trainer: Trainer, seed: int, epoch: int, retry: int = 0) -> None:
    """Make the draws of *trainer* depend on *seed*, *epoch* and *retry*.

    They are the same in every process for one *epoch* (from 0); another *retry* draws otherwise. Upstream draws one
    stream from the start of the process on, so a resumed training repeats the order of its first epoch (its issues
    15960 and 2235).
    """
    number = int(np.random.SeedSequence((seed, epoch, retry)).generate_state(1)[0])
    init_seeds(number, deterministic=trainer.plan.training.deterministic)
    trainer.train_loader.set_epoch(epoch, attempt=retry)
