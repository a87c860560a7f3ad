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


@dataclass(frozen=True, eq=False)
class Mixture:
    """How labelled and pseudo-labelled images share the batches.

    Each kind is gone through in an order of its own, pass after pass, as often as the epoch's places for it ask. All of
    it is a function of seed, epoch and place: there is no state, and student and control see the same.
    """

    labelled: Array
    """Numbers of the labelled images, int64 (n)."""
    pseudo: Array
    """Of the pseudo-labelled ones; there may be none."""
    share: float = 1.0
    """Of a batch that is labelled at least, once the ramp is over."""
    burn_in: int = 0
    """Epochs on labelled images alone, at the beginning."""
    ramp: int = 0
    """Epochs after that in which the share of pseudo-labelled images grows, in equal steps."""

    def num_labelled(self, epoch: int, batch: int) -> int:
        """Return the labelled images in a batch of *batch* in *epoch*, from 0."""
        if not len(self.pseudo) or epoch < self.burn_in:
            return batch
        grown = min(1.0, (epoch - self.burn_in + 1) / (self.ramp + 1))
        least = max(self.share, len(self.labelled) / (len(self.labelled) + len(self.pseudo)))
        return min(batch, max(1, round(batch * (1 - grown * (1 - least)))))


@lru_cache(maxsize=4)
def _mixed(order: SampleOrder, epoch: int, attempt: int) -> tuple[Array, Array]:
    """Return the image at each place of an epoch, and its earlier occurrences.

    Both are int64 (length).
    """
    mixture = order.mixture
    assert mixture is not None, "without a mixture each image has one place"
    chosen = np.arange(order.length) % order.batch < mixture.num_labelled(epoch, order.batch)
    images, passes = np.empty((2, order.length), np.int64)
    for kind, (numbers, places) in enumerate(((mixture.labelled, chosen), (mixture.pseudo, ~chosen))):
        wanted = np.arange(int(places.sum()))
        if not len(wanted):
            continue
        keys = [(order.seed, epoch, attempt, -1, kind, number) for number in range(wanted[-1] // len(numbers) + 1)]
        rounds = [np.random.RandomState(list(digest(*key))).permutation(numbers) for key in keys]
        images[places], passes[places] = np.concatenate(rounds)[: len(wanted)], wanted // len(numbers)
    return images, passes


@dataclass(frozen=True, eq=False)
class SampleOrder:
    """Order of the samples of all epochs."""

    seed: int
    length: int
    """Samples of an epoch: one of each image, unless there is a mixture."""
    batch: int
    """Samples of one step over all ranks."""
    mixture: Mixture | None = None
    """Where images have other shares in an epoch than one sample each."""

    @property
    def window(self) -> int:
        """Number of batches whose images a mosaic is made of.

        There are as many as upstream keeps in its buffer, at most 1000 images.
        """
        return max(1, min(8, 1000 // self.batch))

    def _images(self, sample: Sample) -> Array:
        """Return the images of the sample's epoch by their places, int64 (length)."""
        if self.mixture is None:
            return permutation(self.seed, sample.epoch, sample.attempt, self.length)
        return _mixed(self, sample.epoch, sample.attempt)[0]

    def index(self, sample: Sample) -> int:
        """Return the image of a sample."""
        return int(self._images(sample)[sample.place])

    def seeds(self, sample: Sample) -> tuple[int, int]:
        """Return the seeds of Python's and numpy's draws for a sample.

        They have 64 and 32 bits.
        """
        before = 0 if self.mixture is None else int(_mixed(self, sample.epoch, sample.attempt)[1][sample.place])
        again = (before,) if before else ()
        first, second, third = digest(self.seed, sample.epoch, sample.attempt, self.index(sample), *again)
        return first << 32 | second, third

    def pool(self, sample: Sample) -> Sequence[int]:
        """Return the images that a mosaic of *sample* may take.

        They are recent ones, as in upstream's buffer. They come from every eighth batch back, own batch included:
        loader processes take batches in turn, so with 1, 2, 4 or 8 of them each finds these images among those it has
        just decoded. Before the first batch come the last ones. A mixture's mosaics have its shares.
        """
        images = self._images(sample)
        if self.length <= 8 * self.batch:
            return range(self.length) if self.mixture is None else images.tolist()
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
