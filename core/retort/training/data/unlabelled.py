"""Unlabelled images beside each labelled batch, augmented alike, without touching its random streams."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, Dataset

from retort.training import comm
from retort.training.data import taught_boxes
from retort.training.data.host_memory import VALIDATION_PREFETCH, hand_over
from retort.training.data.scan import check_kept, images_in
from retort.training.data.taught_boxes import TaughtImages
from retort.training.data.validation import work_alone
from retort.training.ultralytics_api import RANK

if TYPE_CHECKING:
    from torch import Tensor

    from retort.training.config import Trainer, UnlabelledConfig


def unlabelled_loader(trainer: Trainer, more: UnlabelledConfig | None) -> UnlabelledImages | None:
    """Return the loader of unlabelled images; None where there are none.

    *trainer* shows these images to its teachers and student. The loader is built like the labelled one's data set, with
    the same augmentations; mosaics mix unlabelled images only.
    """
    if more is None:
        return None
    world_size = max(trainer.world_size, 1)
    number = per_step(more, trainer.batch_size, world_size)
    with isolated(trainer.args.seed):
        dataset = trainer.build_dataset(str(more.folder), "train", number)
    if trainer.args.fraction == 1:
        check_kept(images_in(more.folder), dataset.im_files)
    cache = trainer.plan.teaching.cache
    taught = None if cache is None else TaughtImages(cache, dataset.im_files)
    if taught is not None:
        taught.replace_labels(dataset.labels)
    return UnlabelledImages(
        dataset,
        per_step=number,
        num_steps=len(trainer.train_loader),
        seed=trainer.args.seed,
        args=trainer.args,
        num_workers=trainer.train_loader.num_workers,
        pinned=trainer.loading.pinned,
        rank=max(RANK, 0),
        world_size=world_size,
        taught=taught,
    )


def per_step(more: UnlabelledConfig | None, batch: int, world_size: int) -> int:
    """Return the number of unlabelled images per rank and step.

    They are of *more*; a step has *batch* labelled images over all ranks.
    """
    return 0 if more is None else max(1, round(more.ratio * batch / world_size))


def beside(batch: dict[str, Any], images: UnlabelledImages | None, model: Any, epoch: int) -> dict[str, Any]:
    """Add the next unlabelled images to *batch*, while *model* distils.

    They are ``unlabelled`` (M, 3, H, W) in 0..1; what a cached teacher says of them follows what it says of the others.
    """
    objective = getattr(comm.unwrap(model), "objective", None)
    if images is None or objective is None or objective.weight == 0:
        return batch
    device = batch["img"].device
    found = {
        name: one.to(device, non_blocking=device.type == "cuda") if isinstance(one, torch.Tensor) else one
        for name, one in taught_boxes.count_taught(images.batch(epoch)).items()
    }
    more = found["img"].float() / 255
    side = batch["img"].shape[-2:]
    if more.shape[-2:] != side:  # multi_scale has drawn another one for this batch
        more = interpolate(more, size=side, mode="bilinear", align_corners=False)
    return {**batch, **taught_boxes.joined(batch, found), "unlabelled": more}


class UnlabelledImages:
    """Unlabelled images of each step, fixed by seed, epoch and step.

    These fix which images a step is given, and how they are augmented. The set is gone through in a new order each
    time; a rank takes its share of each step's images.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        per_step: int,
        num_steps: int,
        seed: int,
        args: Any,
        num_workers: int = 0,
        pinned: bool = False,
        rank: int = 0,
        world_size: int = 1,
        taught: TaughtImages | None = None,
    ) -> None:
        self._dataset, self._args, self._taught = dataset, args, taught
        self._seed, self._num_workers = seed, num_workers
        self._per_step, self._num_steps = per_step, num_steps
        self._rank, self._world_size = rank, world_size
        self._pinned = pinned and torch.cuda.is_available()
        self._epoch: int | None = None
        self._taken = 0
        """Steps of that epoch."""
        self._steps: Iterator[dict[str, Tensor]] = iter(())

    def next(self, epoch: int) -> Tensor:
        """Return the images of ``batch``, bytes (M, 3, H, W)."""
        return self.batch(epoch)["img"]

    def batch(self, epoch: int) -> dict[str, Tensor]:
        """Return the next unlabelled images of *epoch*, from 0, and their cached boxes.

        The images are ``img``, bytes (M, 3, H, W); beside them are ``taught_boxes.KEYS`` where the teacher is cached.
        """
        whole = self._taken == self._num_steps
        if whole and epoch - 1 == self._epoch and epoch != self._without_mosaic:
            self._epoch, self._taken = epoch, 0  # its first images are under way
        elif whole or epoch != self._epoch:  # another one, or one that is done again
            self.set_epoch(epoch)
        self._taken += 1
        return next(self._steps)

    def set_epoch(self, epoch: int) -> None:
        """Begin *epoch* with new processes; the last epochs have no mosaic, like labelled images."""
        if self._without_mosaic is not None and epoch >= self._without_mosaic:
            with isolated(self._seed):
                self._dataset.close_mosaic(hyp=copy(self._args))
        self._epoch, self._taken = epoch, 0
        workers = min(self._num_workers, self._num_steps)
        loader: DataLoader[dict[str, Tensor]] = DataLoader(
            _Positions(self._dataset, self._seed),
            batch_sampler=_Steps(self._positions, epoch * self._num_steps),
            num_workers=workers,
            prefetch_factor=VALIDATION_PREFETCH if workers else None,
            generator=torch.Generator().manual_seed(self._seed),  # without one it draws from the global stream
            collate_fn=partial(_collated, self._taught),
            pin_memory=self._pinned,
            worker_init_fn=work_alone if workers else None,
        )
        self._steps = iter(loader)

    @property
    def _without_mosaic(self) -> int | None:
        """The first epoch without."""
        closed: int = self._args.close_mosaic
        return self._args.epochs - closed if closed > 0 else None

    def _positions(self, step: int) -> list[int]:
        """Places of this rank's images of a *step*, over all epochs, in the endless row of passes through the set."""
        start = (step * self._world_size + self._rank) * self._per_step
        return list(range(start, start + self._per_step))


class _Steps:
    """Endless: epochs follow each other without new processes, which work ahead over their ends."""

    def __init__(self, positions: Callable[[int], list[int]], first: int) -> None:
        self._positions, self._first = positions, first

    def __iter__(self) -> Iterator[list[int]]:
        return map(self._positions, count(self._first))


def _collated(taught: TaughtImages | None, samples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    images = hand_over(torch.stack([one["img"] for one in samples]))
    if taught is None:
        return {"img": images}
    owners = [torch.full((len(one["cls"]),), float(place)) for place, one in enumerate(samples)]
    found = {name: torch.cat([one[name] for one in samples]) for name in ("cls", "bboxes")}
    split = taught.split({**found, "batch_idx": torch.cat(owners)})
    return {"img": images, **{name: split[name] for name in taught_boxes.KEYS}}


class _Positions(Dataset[dict[str, Any]]):
    """The endless row: pass after pass through the set, each in an order of its own."""

    def __init__(self, dataset: Any, seed: int) -> None:
        self._dataset, self._seed = dataset, seed
        self._pass, self._order = -1, np.empty(0, dtype=np.int64)

    def __getitem__(self, position: int) -> dict[str, Any]:
        number, place = divmod(position, len(self._dataset))
        if number != self._pass:
            self._pass = number
            self._order = np.random.default_rng([self._seed, number]).permutation(len(self._dataset))
        with isolated(self._seed, position):
            found: dict[str, Any] = self._dataset[int(self._order[place])]
        return found


@contextmanager
def isolated(*seed: int) -> Iterator[None]:
    """Seed the random streams of augmentations, and restore them afterwards."""
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 - upstream draws from it
    one, two, three = np.random.SeedSequence(seed).generate_state(3)
    random.seed(int(one))
    np.random.seed(int(two))  # noqa: NPY002
    torch.default_generator.manual_seed(int(three))
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002
        torch.set_rng_state(kept[2])
