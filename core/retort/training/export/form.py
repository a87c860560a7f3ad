"""Define the input of an export, and how it gives boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn
from torchvision.ops import nms as suppress

from retort.exports.base import CONF, IOU, MAX_DET, Export

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int, int]
"""Height and width of the images that a form sees."""
_APART = 4.0
"""Boxes of two classes are moved so far apart for NMS, in units of the largest coordinate."""


@dataclass(frozen=True)
class Form:
    """Input and output of an export, whatever the format."""

    shape: Shape
    batch: int = 1
    """Images at once; of a dynamic form with NMS the most."""
    dynamic: bool = False
    nms: bool | None = None
    """Upstream's word: true has NMS inside, false takes the NMS-free head, null gives raw output."""
    conf: float = CONF
    iou: float = IOU
    max_det: int = MAX_DET

    @classmethod
    def of(cls, export: Export, imgsz: int) -> Self:
        """Return what *export* asks for of a network trained at *imgsz*."""
        given = {name: getattr(export, name, None) for name in ("batch", "dynamic", "nms", "conf", "iou", "max_det")}
        return cls(export.imgsz or (imgsz, imgsz), **{name: one for name, one in given.items() if one is not None})

    @property
    def nms_free(self) -> bool:
        """Whether it takes the head that needs no NMS."""
        return self.nms is False

    @property
    def final(self) -> bool:
        """Whether it gives final boxes in place of raw output.

        They are rows of two corners, score and class.
        """
        return self.nms is not None

    @property
    def square(self) -> bool:
        """Whether it sees squares."""
        return self.shape[0] == self.shape[1]

    @property
    def images_at_once(self) -> int:
        """Number of images of a timed run; one where it is open."""
        return 1 if self.dynamic else self.batch

    def images(self) -> Tensor:
        """Return black images of its shape, to trace a network with."""
        return torch.zeros(self.batch, 3, *self.shape)

    def ending(self) -> nn.Module | None:
        """Return what turns raw output into final boxes, or None."""
        if self.nms is None:
            return None
        if self.nms_free:
            return TopBoxes(self.max_det, pads=self.dynamic)
        return SuppressedBoxes(self.batch, self.conf, self.iou, self.max_det, pads=self.dynamic)


class SuppressedBoxes(nn.Module):
    """NMS by class at fixed thresholds, for up to a fixed number of images.

    Raw output (N, 4 + K, A) becomes (N, max_det, 6): rows of two corners, score and class by falling score, then zeros.
    An anchor is a box of its likeliest class alone.
    """

    def __init__(self, batch: int, conf: float, iou: float, max_det: int, *, pads: bool) -> None:
        super().__init__()
        self._batch, self._conf, self._iou, self._max_det, self._pads = batch, conf, iou, max_det, pads

    def forward(self, raw: Tensor) -> Tensor:
        """Return the boxes that are left of each image."""
        number = raw.shape[0]
        if self._pads and self._batch > 1:  # the loop over images is unrolled in a trace
            raw = torch.cat([raw, raw.new_zeros(self._batch, raw.shape[1], raw.shape[2])])[: self._batch]
        corners = _corners(raw[:, :4].transpose(1, 2))  # N A 4
        scores, classes = raw[:, 4:].max(1)  # N A
        found = torch.stack([self._of_one(*one) for one in zip(corners, scores, classes.to(raw.dtype), strict=True)])
        return found[:number]

    def _of_one(self, boxes: Tensor, scores: Tensor, classes: Tensor) -> Tensor:
        seen = scores > self._conf
        rows = torch.cat([boxes, scores[:, None], classes[:, None]], 1)[seen]  # n 6
        apart = boxes / boxes.abs().amax().clamp(min=1.0) + classes[:, None] * _APART
        kept = suppress(apart[seen], scores[seen], self._iou)[: self._max_det]
        return torch.cat([rows[kept], rows.new_zeros(self._max_det, 6)])[: self._max_det]


class TopBoxes(nn.Module):
    """The best of an NMS-free head, which gives each object once.

    Raw output (N, 4 + K, A) becomes (N, max_det, 6), with fewer rows where there are fewer anchors, or as many of which
    the last are zeros.
    """

    def __init__(self, max_det: int, *, pads: bool) -> None:
        super().__init__()
        self._max_det, self._pads = max_det, pads

    def forward(self, raw: Tensor) -> Tensor:
        """Return the boxes of the highest scores."""
        if self._pads:  # the number of rows is constant in a trace
            raw = torch.cat([raw, raw.new_zeros(1, 1, 1).expand(raw.shape[0], raw.shape[1], self._max_det)], 2)
        corners, scores = _corners(raw[:, :4].transpose(1, 2)), raw[:, 4:].transpose(1, 2)  # N A 4, N A K
        num_classes = scores.shape[2]
        best, places = scores.flatten(1).topk(min(self._max_det, int(scores.shape[1])), dim=1)
        anchors = torch.div(places, num_classes, rounding_mode="floor")
        boxes = corners.gather(1, anchors[..., None].expand(-1, -1, 4))
        return torch.cat([boxes, best[..., None], (places % num_classes)[..., None].to(raw.dtype)], 2)


def _corners(boxes: Tensor) -> Tensor:
    """Turn centre and size into two corners; the last dimension holds the four."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], -1)


def metadata(network: Any, form: Form, *, final: bool = True) -> dict[str, Any]:
    """Return a network's metadata for Ultralytics' loaders.

    It is not *final* before its raw output becomes boxes.
    """
    return {
        "description": "Detector distilled by Retort",
        "license": "AGPL-3.0",
        "stride": int(max(network.stride)),
        "task": "detect",
        "batch": form.batch,
        "imgsz": list(form.shape),
        "names": dict(network.names),
        "args": {"batch": form.batch, "dynamic": form.dynamic, "nms": final and form.nms is True},
        "channels": 3,
        "end2end": final and form.nms_free,
    }
