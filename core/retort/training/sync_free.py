"""Ultralytics' assigner and box loss, computed without host synchronization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from retort.training.ultralytics_api import BboxLoss, TaskAlignedAssigner

if TYPE_CHECKING:
    from torch import Tensor

_SLACK = 0.01
"""Of an anchor's cell: what rounding may add to a box's side."""


def most_candidates(sizes: np.ndarray[Any, Any], shape: tuple[int, int], strides: Sequence[float], least: float) -> int:
    """Return how many anchors lie within labeled boxes at most.

    One that lies in several boxes counts in each. *sizes* (L, 2) are widths and heights in parts of an image of
    *shape*, height and width in pixels. Sides below *least* pixels are taken for that.
    """
    height, width = shape
    sides = np.maximum(sizes * np.array([width, height]), least)
    grids = [(np.floor(sides / stride + _SLACK) + 1, [width // stride, height // stride]) for stride in strides]
    return int(sum(np.minimum(cells, most).prod(1).sum() for cells, most in grids))


class KnownPlaces:
    """Places where a mask is true, *most* of them at most.

    Nobody waits for their number. The first place stands in for those that are missing; without any it is the mask's
    first element. It answers what upstream's assigner asks of a mask.
    """

    def __init__(self, mask: Tensor, most: int) -> None:
        self._mask, self._most = mask, most

    def bool(self) -> KnownPlaces:
        """Return itself: places are no numbers."""
        return self

    def nonzero(self, **_: Any) -> tuple[Tensor, ...]:
        """Return the places by dimension, *most* of each."""
        return self.by_dimension()[0]

    def by_dimension(self) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return the places by dimension, and which of them (most,) are no stand-ins."""
        found = torch.nonzero_static(self._mask, size=self._most, fill_value=-1)
        real = found[:, 0] >= 0
        return torch.where(real[:, None], found, found[:1].clamp(min=0)).unbind(1), real


class Assigner(TaskAlignedAssigner):  # type: ignore[misc]
    """Upstream's assigner with a bounded number of candidates.

    *most* are the pairs of a box and an anchor that it looks at; None asks the GPU.
    """

    most: int | None = None

    @classmethod
    def like(cls, plain: Any) -> Assigner:
        """Return one with the settings of *plain*."""
        return cls(
            topk=plain.topk, num_classes=plain.num_classes, alpha=plain.alpha, beta=plain.beta, stride=plain.stride,
            eps=plain.eps, topk2=plain.topk2,
        )  # fmt: skip

    def get_box_metrics(
        self, scores: Tensor, boxes: Tensor, gt_labels: Tensor, gt_bboxes: Tensor, mask_gt: Tensor, **more: Any
    ) -> tuple[Tensor, Tensor]:
        """Return alignment and overlap of each labeled box and anchor, (N, boxes, A) both."""
        # What stands in is written where it is already or, without any candidate, where no anchor will be positive.
        places: Any = mask_gt if self.most is None else KnownPlaces(mask_gt, min(self.most, mask_gt.numel()))
        found: tuple[Tensor, Tensor] = super().get_box_metrics(scores, boxes, gt_labels, gt_bboxes, places, **more)
        return found


class BoxLoss(BboxLoss):  # type: ignore[misc]
    """Upstream's loss of boxes over a bounded number of anchors.

    *most* are positive; None asks the GPU.
    """

    most: int | None = None

    def forward(self, *given: Tensor) -> tuple[Tensor, Tensor]:
        """Return the two losses of upstream's.

        What stands in for a positive anchor has no weight.
        """
        found: tuple[Tensor, Tensor]
        if self.most is None:
            found = super().forward(*given)
            return found
        distances, boxes, points, target_boxes, target_scores, total, positive, size, strides = given
        places, real = KnownPlaces(positive, min(self.most, positive.numel())).by_dimension()
        _, anchors = places
        found = super().forward(
            distances[places], boxes[places], points[anchors], target_boxes[places],
            target_scores[places] * real[:, None], total, _All(), size, strides[anchors],
        )  # fmt: skip
        return found


class _All:
    """Mask that takes all there is."""

    def nonzero(self, **_: Any) -> tuple[slice, ...]:
        return (slice(None),)


class RememberedConstants(TorchFunctionMode):
    """Keeps small tensors that code makes from the host's numbers.

    Each such copy waits for a GPU. Within it ``torch.tensor`` of plain numbers on a GPU, and an index by a list of
    numbers, are made once.
    """

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[Any, Tensor] = {}

    def __reduce__(self) -> tuple[type[RememberedConstants], tuple[()]]:
        """Be copied and pickled without what is remembered."""
        return RememberedConstants, ()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.tensor and len(args) == 1 and kwargs.keys() <= {"dtype", "device"}:
            numbers, device = _numbers(args[0]), torch.device(kwargs.get("device") or "cpu")
            if numbers is not None and device.type != "cpu":
                return self._constant(numbers, args[0], kwargs.get("dtype"), device).clone()
        if func is torch.Tensor.__getitem__ and isinstance(args[1], list) and args[0].device.type != "cpu":
            numbers = _numbers(args[1])
            if numbers is not None:
                return args[0][self._constant(numbers, args[1], torch.long, args[0].device)]
        return func(*args, **kwargs)

    def _constant(
        self, numbers: tuple[float, ...], given: Any, dtype: torch.dtype | None, device: torch.device
    ) -> Tensor:
        key = numbers, type(given) in {int, float}, dtype, device
        if key not in self._known:
            plain = given if type(given) in {int, float} else list(given)
            self._known[key] = torch.tensor(plain, dtype=dtype, device=device)
        return self._known[key]


def _numbers(given: Any) -> tuple[float, ...] | None:
    """Return plain numbers as a tuple; None for anything else."""
    if type(given) in {int, float}:
        return (given,)
    if isinstance(given, list | tuple) and all(type(one) in {int, float} for one in given):
        return tuple(given)
    return None
