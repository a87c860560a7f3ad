"""Ultralytics' task loss, without what makes the host wait for a GPU."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch

from retort.training import ultralytics_api
from retort.training.sync_free import Assigner, BoxLoss, RememberedConstants, most_candidates
from retort.training.ultralytics_api import E2ELoss, ops, v8DetectionLoss

if TYPE_CHECKING:
    from torch import Tensor

    from retort.training.config import Cycle

MOST_BOXES = "most_boxes"
"""In a batch: the number of boxes of the image that has most, counted while they were in the host's memory."""
BOX_SIZES = "box_sizes"
"""In a batch: width and height of each labeled box, (L, 2), in parts of the image; an array in the host's memory."""
_MOST_GRIDS = 64
"""Of sizes of input, devices and precisions at a time."""


class Anchors:
    """Upstream's ``make_anchors`` with a memory.

    A grid takes nine waits for a GPU, and is the same in every step. What it returns must not be changed in place, and
    nobody does.
    """

    def __init__(self, make: Any = ultralytics_api.make_anchors) -> None:
        self._make = make
        self._known: OrderedDict[Any, tuple[Any, tuple[Tensor, Tensor]]] = OrderedDict()

    def __call__(self, feats: Any, strides: Any, grid_cell_offset: float = 0.5) -> tuple[Tensor, Tensor]:
        """Return anchor points (A, 2) in cells, and the stride of each (A, 1)."""
        if not isinstance(feats, list):
            made: tuple[Tensor, Tensor] = self._make(feats, strides, grid_cell_offset)
            return made
        by = (id(strides), strides._version) if isinstance(strides, torch.Tensor) else tuple(strides)  # noqa: SLF001
        key = (by, grid_cell_offset, feats[0].dtype, feats[0].device, *(feat.shape[2:] for feat in feats))
        if key not in self._known:
            # Strides are kept with the grid, so that no other tensor gets their id.
            self._known[key] = strides, self._make(feats, strides, grid_cell_offset)
            if len(self._known) > _MOST_GRIDS:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key][1]


make_anchors = Anchors()
ultralytics_api.loss.make_anchors = make_anchors


def count_boxes(batch: dict[str, Any]) -> dict[str, Any]:
    """Return *batch* with what the host can say of its boxes.

    That is the largest number of an image, and their sizes. Its labels are in the host's memory still.
    """
    images = batch["batch_idx"].long()
    most = int(images.bincount().max()) if len(images) else 0
    return {**batch, MOST_BOXES: most, BOX_SIZES: batch["bboxes"][:, 2:].double().numpy()}


class DetectionLoss(v8DetectionLoss):  # type: ignore[misc]
    """Upstream's criterion, which does not wait for a GPU.

    Numbers of boxes, of candidate anchors and of positive ones are bounded by what the host knows of the labels. On a
    CPU, where nobody waits, and without these numbers, it computes what upstream's does to the bit.
    """

    _most: int | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        plain: Any = self.assigner
        self.assigner: Any = Assigner.like(plain)
        self._assigner = self.assigner
        self.bbox_loss = BoxLoss(self.reg_max).to(self.device)
        self._constants = RememberedConstants()

    def get_assigned_targets_and_loss(self, preds: Any, batch: dict[str, Any], **more: Any) -> Any:
        """Return what upstream's does."""
        self._most = batch.get(MOST_BOXES)
        self._bound(batch)
        with self._constants if _waits(preds["boxes"].device) else nullcontext():
            return super().get_assigned_targets_and_loss(preds, batch, **more)

    def _bound(self, batch: dict[str, Any]) -> None:
        """Bound the numbers of candidates and positive anchors by the labels of *batch*."""
        self._assigner.most = self.bbox_loss.most = None
        if BOX_SIZES in batch and _waits(batch["img"].device):
            sizes, strides = batch[BOX_SIZES], self._assigner.stride
            self._assigner.most = most_candidates(sizes, batch["img"].shape[2:], strides, self._assigner.stride_val)
            self.bbox_loss.most = len(sizes) * self._assigner.topk

    def preprocess(self, targets: Tensor, batch_size: int, scale_tensor: Tensor) -> Tensor:
        """Pad the targets of a batch to as many for each image.

        (L, 6: image, class, box in parts), those of one image one after the other, become (N, most, 5: class, corners
        in pixels).
        """
        if self._most is None:
            padded: Tensor = super().preprocess(targets, batch_size, scale_tensor)
            return padded
        images = targets[:, 0].long()
        starts = images.new_zeros(batch_size + 1).index_add_(0, images + 1, torch.ones_like(images)).cumsum(0)
        place = torch.arange(len(images), device=targets.device) - starts[images]
        padded = targets.new_zeros(batch_size, self._most, 5)
        padded[images, place] = targets[:, 1:]
        padded[..., 1:] = ops.xywh2xyxy(padded[..., 1:] * scale_tensor)
        return padded


def _waits(device: torch.device) -> bool:
    """Return True if the host works ahead of *device*."""
    return device.type != "cpu"


class TwoBranchLoss(E2ELoss):  # type: ignore[misc]
    """Upstream's criterion of two branches, whose shares an extended training moves again."""

    cycle: Cycle | None = None

    def decay(self, x: float) -> float:
        """Return the share of the one-to-many branch after *x* epochs."""
        if self.cycle is None:
            share: float = super().decay(x)
            return share
        way = min(max(self.cycle.place(x) / max(self.cycle.length - 1, 1), 0.0), 1.0)
        return float((1 - way) * (self.o2m_copy - self.final_o2m) + self.final_o2m)


def criterion_of(network: Any) -> Any:
    """Build the criterion of a detection *network*, for one branch or two."""
    if getattr(network.model[-1], "one2one_cv2", None) is not None:
        return TwoBranchLoss(network, DetectionLoss)
    return DetectionLoss(network)


SHOWN_EVERY_S = 1.0
"""The progress bar's numbers are fetched from a GPU so often."""


class LossMeans(dict[str, "Tensor"]):
    """Means of an epoch's losses, as tensors, with numbers for the progress bar.

    Upstream's bar alone asks for ``values``. Formatting a tensor waits for the GPU, once for each loss in each step:
    the numbers are *shown* as they were up to a second ago. Ours asks for the ``tensors``.
    """

    def __init__(self, means: Mapping[str, Tensor], before: LossMeans | None = None) -> None:
        super().__init__(means)
        self._at: float = time.monotonic()
        self._shown: list[float]
        if before is not None and len(before) == len(means) and self._at - before._at < SHOWN_EVERY_S:  # noqa: SLF001
            self._at, self._shown = before._at, before._shown  # noqa: SLF001
        else:
            self._shown = torch.stack([means[name].detach().float() for name in means]).tolist()

    def tensors(self) -> dict[str, Tensor]:
        """Return the means alone."""
        return dict(self.items())

    def values(self) -> Any:
        """Return the numbers that are shown."""
        return self._shown
