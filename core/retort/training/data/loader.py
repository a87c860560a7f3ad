"""Training batches: upstream's data set and statistics, our order, seeds and speed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from retort import images as reader
from retort.training import comm
from retort.training.config import Loading, MixtureConfig, Trainer
from retort.training.data import colours, ignore_regions
from retort.training.data.ahead import Ahead
from retort.training.data.augment import Augmentation, Tile
from retort.training.data.colours import ColourPlace, SharedSwitch
from retort.training.data.host_memory import (
    BatchMemory,
    available_bytes,
    choose,
    empty_batch,
    free_shared_bytes,
    tell,
)
from retort.training.data.image_cache import ImageCache, budget, resized
from retort.training.data.pseudo import mixture_of
from retort.training.data.sampler import EpochSampler, Sample, SampleOrder
from retort.training.data.scan import check_kept
from retort.training.data.taught_boxes import TaughtImages
from retort.training.data.unlabelled import per_step
from retort.training.data.validation import ValidationLoader, ValidationSet, work_alone
from retort.training.environment import num_cores
from retort.training.ultralytics_api import (
    Albumentations,
    InfiniteDataLoader,
    YOLODataset,
    get_split_fraction,
    ops,
    torch_utils,
)

Array = np.ndarray[Any, Any]
Batch = dict[str, Any]


class TrainingSet(YOLODataset):  # type: ignore[misc]
    """Upstream's training set with reproducible samples.

    Each sample is a function of its `Sample` and the order's seed. Hyperparameters or labels that the fast augmentation
    does not know (rotation, mixup, polygons and the like) go through upstream's own transforms, under the same seeds.
    """

    def __init__(
        self,
        *args: Any,
        seed: int,
        max_cache_bytes: int,
        world_size: int = 1,
        colours_later: bool = False,
        samples: int | None = None,
        mixture: MixtureConfig | None = None,
        taught: Path | None = None,
        **kwargs: Any,
    ) -> None:
        self.colours_later = SharedSwitch(on=colours_later)
        super().__init__(*args, cache=None, **kwargs)
        check_kept(self._given, self.im_files)
        length = samples or self.ni
        mixed = mixture_of(self.im_files, mixture) if samples or mixture else None
        self.order = SampleOrder(seed, length, min(self.batch_size * world_size, length), mixed)
        self._draw, self._draw_hsv = random.Random(), np.random.RandomState()  # noqa: S311
        self._ignored = ignore_regions.read(self.im_files)
        self._objects = [
            ignore_regions.append_ignored(label["bboxes"], label["cls"], more)
            for label, more in zip(self.labels, self._ignored, strict=True)
        ]
        self.taught = None if taught is None else TaughtImages(taught, self.im_files)
        if self.taught is not None:
            self._objects = [self.taught.append(at, *given) for at, given in enumerate(self._objects)]
        self._has_polygons = any(len(label["segments"]) for label in self.labels)
        self._corners = [ops.xywh2xyxy(boxes) for boxes, _ in self._objects]
        shapes = [resized(*label["shape"], imgsz=self.imgsz) for label in self.labels]
        recent = self.order.window * self.order.batch
        self.pictures = ImageCache(self._read, shapes, max_bytes=max_cache_bytes, recent=recent)
        self.room_left = max_cache_bytes - self.pictures.num_bytes

    def get_img_files(self, img_path: Any) -> list[str]:
        """List the images, and remember them: the scan that follows may drop some."""
        given: list[str] = super().get_img_files(img_path)
        self._given = given
        return given

    def build_transforms(self, hyp: Any) -> Any:
        """Build upstream's transforms, and our fast augmentation where it is equivalent."""
        built = super().build_transforms(hyp)
        plain = self.augment and self.channels == 3
        blurs = any(getattr(t, "transform", None) for t in built.transforms if isinstance(t, Albumentations))
        polygons = any(len(label["segments"]) for label in self.labels)
        fast = plain and not blurs and not polygons and Augmentation.suits(hyp)
        self.fast = Augmentation.of(hyp, self.imgsz) if fast else None
        return built

    def load_image(self, i: int, rect_mode: bool = True, resize_short: bool = False) -> Any:
        """Return an image with its original and its resized shape.

        Upstream's transforms ask for it in this way.
        """
        assert rect_mode, "detection keeps the aspect ratio"
        assert not resize_short, "detection fits the long side"
        image = self.pictures[i].copy()  # upstream's colours are changed in place
        shape = self.labels[i].get("shape", image.shape[:2])
        return image, tuple(shape), image.shape[:2]

    def get_image_and_label(self, index: int) -> Any:
        """Return the image and labels that upstream's transforms begin with.

        The ignored and the taught boxes go through the transforms as well.
        """
        label, (boxes, classes) = self.labels[index], self._objects[index]
        if len(classes) == len(label["cls"]):
            return super().get_image_and_label(index)
        outlines = _outlines(label["segments"], boxes) if self._has_polygons else []
        self.labels[index] = {**label, "bboxes": boxes, "cls": classes, "segments": outlines}
        try:
            return super().get_image_and_label(index)
        finally:
            self.labels[index] = label

    def __getitems__(self, samples: Sequence[Sample]) -> Batch:
        """Return a whole batch: images go to their place in it without being copied twice."""
        made = self._batch(samples)
        return made if self.taught is None else self.taught.split(made)

    def _batch(self, samples: Sequence[Sample]) -> Batch:
        if self.fast is None:
            made: Batch = YOLODataset.collate_fn([self._by_upstream(sample) for sample in samples])
            return made
        images = empty_batch(len(samples), 3, self.imgsz, self.imgsz)
        pixels = images.numpy()
        later = self.fast.colours_can_wait and self.colours_later.is_on
        found = [self._fast(sample, pixels[at], colours_later=later) for at, sample in enumerate(samples)]
        indices = [self.order.index(sample) for sample in samples]
        counts = torch.tensor([len(boxes) for boxes, *_ in found])
        return {
            **({colours.KEY: torch.from_numpy(np.concatenate([table for *_, table in found]))} if later else {}),
            "batch_idx": torch.repeat_interleave(torch.arange(len(samples), dtype=torch.float32), counts),
            "bboxes": torch.from_numpy(np.concatenate([boxes for boxes, *_ in found])),
            "cls": torch.from_numpy(np.concatenate([classes for _, classes, _ in found])),
            "im_file": tuple(self.im_files[index] for index in indices),
            "img": images,
            "ori_shape": tuple(tuple(self.labels[index]["shape"]) for index in indices),
            "resized_shape": ((self.imgsz, self.imgsz),) * len(samples),
        }

    @staticmethod
    def collate_fn(batch: Batch) -> Batch:
        """Return the batch, which is whole already."""
        return batch

    def _fast(self, sample: Sample, out: Array, *, colours_later: bool) -> tuple[Array, Array, Array]:
        assert self.fast is not None
        seed, seed_hsv = self.order.seeds(sample)
        self._draw.seed(seed)
        self._draw_hsv.seed(seed_hsv)
        index, pool = self.order.index(sample), self.order.pool(sample)
        return self.fast(
            index, pool, self._tile, draw=self._draw, draw_hsv=self._draw_hsv, out=out, colours_later=colours_later
        )

    def _by_upstream(self, sample: Sample) -> dict[str, Any]:
        """Let upstream augment, which draws from the process's own generators; these are put back afterwards."""
        kept = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
        seed, seed_hsv = self.order.seeds(sample)
        random.seed(seed)
        np.random.seed(seed_hsv)  # noqa: NPY002
        torch.manual_seed(seed_hsv)
        self.buffer = list(self.order.pool(sample))
        made: dict[str, Any] = super().__getitem__(self.order.index(sample))
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002
        torch.set_rng_state(kept[2])
        return made

    def _tile(self, index: int) -> Tile:
        return Tile(self.pictures[index], self._corners[index], self._objects[index][1])

    def _read(self, index: int) -> Array:
        image = reader.read(Path(self.im_files[index]))
        h, w = resized(*image.shape[:2], imgsz=self.imgsz)
        if (h, w) != image.shape[:2]:
            image = cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)
        return image


def _outlines(polygons: Sequence[Array], boxes: Array) -> list[Array]:
    """Return a polygon for each of *boxes*, of which the first have one: upstream makes boxes of polygons again."""
    corners = ops.xywh2xyxy(boxes[len(polygons) :])
    return [*polygons, *corners[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)]


class TrainingLoader(InfiniteDataLoader):  # type: ignore[misc]
    """Upstream's endless loader, which knows the next epoch.

    One pass is one epoch. Passes follow each other from epoch 0, or from where `set_epoch` says; loader processes
    work ahead over the boundary, and what they made for another epoch is thrown away.
    """

    iterator: Any
    place: ColourPlace | None = None
    """Decides who changes the colours, where there is a choice."""
    ahead: Ahead | None = None
    """Prepares batches for a GPU."""
    _next: tuple[int, int] = (0, 0)
    _whole = True

    def set_epoch(self, epoch: int, attempt: int = 0) -> None:
        """Set the next epoch, from 0, and its *attempt*."""
        if (epoch, attempt) != self._next or not self._whole:
            self.reset()
            self._next, self._whole = (epoch, attempt), True

    def __iter__(self) -> Iterator[Batch]:
        batches = self._epoch()
        if self.place is not None:
            batches = self.place.watch(batches)
        return batches if self.ahead is None else self.ahead.over(batches)

    def _epoch(self) -> Iterator[Batch]:
        if not self._whole:
            self.set_epoch(self._next[0] + 1)
        if self.iterator is None:
            self.sampler.epoch, self.sampler.attempt = self._next
            self.iterator = self._get_iterator()
        self._whole = False
        for _ in range(len(self)):
            yield next(self.iterator)
        self._next, self._whole = (self._next[0] + 1, 0), True


def loading_for(trainer: Trainer, *, host: int | None = None, shared: int | None = None) -> Loading:
    """Return how *trainer* loads its batches.

    They have to fit into the memory that is free: *host* of all, *shared* of what is bounded apart from it. None is
    not known.
    """
    ranks, batch, cuda = max(1, comm.size()), trainer.batch_size, trainer.device.type == "cuda"
    memory = BatchMemory(
        -(-batch // ranks),
        trainer.args.imgsz,
        trainer.plan.val_batch,
        per_step(trainer.plan.teaching.unlabelled, batch, ranks),
    )
    wanted = min(int(trainer.args.workers), num_cores())
    chosen = choose(wanted, memory, cuda=cuda, host=host, shared=shared, ranks=ranks)
    tell(wanted, chosen, memory, trainer.callback.log, cuda=cuda, host=host, shared=shared, ranks=ranks)
    return chosen


def measured_loading(trainer: Trainer) -> Loading:
    """Return how *trainer* loads its batches, by what is free now."""
    return loading_for(trainer, host=available_bytes(), shared=free_shared_bytes())


def loader_for(trainer: Trainer, img_path: str, batch: int, local_rank: int) -> TrainingLoader:
    """Build the training loader of upstream's *trainer*.

    *local_rank* is -1 in a lone process.
    """
    world_size = max(trainer.world_size, 1) if local_rank >= 0 else 1
    rank = torch.distributed.get_rank() if world_size > 1 else 0
    with torch_utils.torch_distributed_zero_first(local_rank):  # one rank writes the labels' cache
        stride = max(int(comm.unwrap(trainer.model).stride.max()), 32)
        dataset = training_set(
            trainer.args, img_path, batch, trainer.data, stride=stride, seed=trainer.args.seed, rank=rank,
            world_size=world_size, samples=trainer.plan.samples, mixture=trainer.plan.mixture,
            taught=None if trainer.distillation is None else trainer.plan.teaching.cache,
        )  # fmt: skip
    loader = training_loader(
        dataset, batch, workers=trainer.args.workers, loading=trainer.loading, rank=rank, world_size=world_size,
        drop_last=bool(trainer.args.compile),
    )  # fmt: skip
    if trainer.device.type == "cuda":
        loader.ahead = Ahead.on(trainer.device, trainer.callback.log)
        begins = loader.num_workers * trainer.loading.prefetch
        loader.place = ColourPlace(dataset.colours_later, trainer.callback.log, skipped=begins)
    return loader


def validation_loader_for(trainer: Trainer, img_path: str, batch: int, local_rank: int) -> ValidationLoader:
    """Build the validation loader of upstream's *trainer*.

    Its decoded images are kept in what the training images have left of the room for decoded ones.
    """
    args = trainer.args
    with torch_utils.torch_distributed_zero_first(local_rank):
        dataset = ValidationSet(
            img_path=img_path, imgsz=args.imgsz, batch_size=batch, augment=False, hyp=args, rect=True,
            single_cls=args.single_cls or False, stride=max(int(comm.unwrap(trainer.model).stride.max()), 32), pad=0.5,
            prefix="val: ", task=args.task, classes=args.classes, data=trainer.data,
            fraction=1.0 if trainer.data.get("complete") else get_split_fraction(args.fraction, args.split),
            max_cache_bytes=trainer.train_loader.dataset.room_left,
        )  # fmt: skip
    return ValidationLoader(dataset, batch, workers=args.workers, rank=local_rank)


def training_set(
    args: Any, img_path: str, batch: int, data: dict[str, Any], *, stride: int, seed: int, rank: int = 0,
    world_size: int = 1, max_cache_bytes: int | None = None, colours_later: bool = False, samples: int | None = None,
    mixture: MixtureConfig | None = None, taught: Path | None = None,
) -> TrainingSet:  # fmt: skip
    """Build the training set of upstream's arguments; *batch* is one rank's.

    With *colours_later* its batches go through `colours.coloured` on the device that trains. *taught* is the file of
    what a teacher says of the images.
    """
    return TrainingSet(
        img_path=img_path, imgsz=args.imgsz, batch_size=batch, augment=True, hyp=args, rect=False,
        single_cls=args.single_cls or False, stride=stride, pad=0.0, prefix="train: " if rank == 0 else "",
        task=args.task, classes=args.classes, data=data, fraction=args.fraction, seed=seed, world_size=world_size,
        colours_later=colours_later, samples=samples, mixture=mixture, taught=taught,
        max_cache_bytes=budget(world_size) if max_cache_bytes is None else max_cache_bytes,
    )  # fmt: skip


def training_loader(
    dataset: TrainingSet, batch: int, *, workers: int, loading: Loading | None = None, rank: int = 0,
    world_size: int = 1, drop_last: bool = False,
) -> TrainingLoader:  # fmt: skip
    """Build the loader of one rank; *batch* is that rank's, *workers* the most processes.

    On a CPU, and for a single batch, there are no loader processes.
    """
    sampler = EpochSampler(dataset.order, rank=rank, world_size=world_size)
    batch = min(batch, len(sampler))
    batches = -(-len(sampler) // batch)
    workers = 0 if batches <= 1 else min(workers, num_cores(), batches)
    loading = loading or Loading(workers)
    return TrainingLoader(
        dataset=dataset, batch_size=batch, sampler=sampler, num_workers=workers,
        pin_memory=loading.pinned and torch.cuda.is_available(),
        prefetch_factor=loading.prefetch if workers else None, collate_fn=dataset.collate_fn,
        worker_init_fn=work_alone if workers else None,
        multiprocessing_context="fork" if workers else None,  # kept images are shared, not copied
        drop_last=drop_last and len(sampler) > batch,
    )  # fmt: skip
