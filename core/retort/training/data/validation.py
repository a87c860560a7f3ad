"""Load upstream's validation batches without processes that outlive a pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from retort.training.data.host_memory import VALIDATION_PREFETCH, hand_over
from retort.training.data.image_cache import ImageCache, resized
from retort.training.environment import num_cores
from retort.training.ultralytics_api import ContiguousDistributedSampler, YOLODataset

Batch = dict[str, Any]
_WORTH = 4
"""Batches that make it worth while to start a process for a pass."""


class ValidationSet(YOLODataset):  # type: ignore[misc]
    """Upstream's validation set with decoded images in memory, as far as they fit."""

    def __init__(self, *args: Any, max_cache_bytes: int, **kwargs: Any) -> None:
        super().__init__(*args, cache=None, **kwargs)
        shapes = [resized(*self._shapes[file], imgsz=self.imgsz) for file in self.im_files]
        self._originals = np.zeros((self.ni, 2), np.int64)
        self.pictures = ImageCache(self._read, shapes, max_bytes=max_cache_bytes, recent=0)

    def set_rectangle(self) -> None:
        """Order the images by their rectangles, and remember their shapes, which upstream forgets here."""
        self._shapes = {label["im_file"]: label["shape"] for label in self.labels}
        super().set_rectangle()

    def load_image(self, i: int, rect_mode: bool = True, resize_short: bool = False) -> Any:
        """Return an image with its original and its resized shape, as upstream's does."""
        assert rect_mode, "detection keeps the aspect ratio"
        assert not resize_short, "detection fits the long side"
        image = self.pictures[i].copy()
        height, width = self._originals[i].tolist()
        return image, (height, width), image.shape[:2]

    def _read(self, index: int) -> Any:
        image, self._originals[index], _ = super().load_image(index)
        return image


class ValidationLoader(DataLoader[Batch]):
    """Loader whose processes live for one pass, and whose batches are not page-locked.

    Upstream keeps its processes, twice as many as for training, and what they have ready for the next pass; what was
    page-locked once stays so. A copy from ordinary memory takes a fraction of what judging an image takes.
    """

    def __init__(self, dataset: Any, batch: int, *, workers: int, rank: int = -1) -> None:
        batch = min(batch, len(dataset))
        sampler = None if rank == -1 else ContiguousDistributedSampler(dataset)
        batches = -(-(len(dataset) if sampler is None else len(sampler)) // batch)
        workers = min(workers, num_cores(), batches // _WORTH)
        self._pass: Any = None
        super().__init__(
            dataset, batch_size=batch, sampler=sampler, num_workers=workers,
            prefetch_factor=VALIDATION_PREFETCH if workers else None, collate_fn=_Collated(dataset.collate_fn),
            worker_init_fn=work_alone if workers else None,
            multiprocessing_context="fork" if workers else None,  # kept images are shared, not copied
            generator=torch.Generator().manual_seed(0),  # without one each pass draws from the global stream
        )  # fmt: skip

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        self.close()
        self._pass = super().__iter__()
        return self._pass  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the processes of a pass that was left."""
        if hasattr(self._pass, "_shutdown_workers"):
            self._pass._shutdown_workers()  # noqa: SLF001 - torch has no other word for it
        self._pass = None


class _Collated:
    """Upstream's collation, which hands images over as training's batches are."""

    def __init__(self, collate: Callable[[Sequence[Batch]], Batch]) -> None:
        self._collate = collate

    def __call__(self, samples: Sequence[Batch]) -> Batch:
        made = self._collate(samples)
        return {**made, "img": hand_over(made["img"])}


def work_alone(_: int) -> None:
    """Leave the other cores to the other loader processes."""
    cv2.setNumThreads(0)
