"""Define what a detector must be that teaches by its boxes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import interpolate, pad

from retort.constants import HEAD_LEVELS, LEVEL_STRIDES
from retort.spec.adapter import TeacherAdapter

if TYPE_CHECKING:
    from torch import Tensor

_FEWEST = 8
"""Places of raw output at least: upstream takes a table of six columns for final boxes."""
_GREY = 114 / 255


class BoxNetwork(nn.Module):
    """A detector that gives boxes alone: neither features nor anchors that could be compared.

    It answers as YOLO's raw output is, so that whatever judges, shows or applies a network takes this one too.
    """

    def __init__(self, names: Mapping[int, str], kind: str = "boxes") -> None:
        super().__init__()
        self.names = dict(names)
        """Of its classes, by number from 0."""
        self.kind = kind
        """What it is, for people."""
        self.stride = torch.tensor([LEVEL_STRIDES[level] for level in HEAD_LEVELS])
        self.side: int | None = None
        """Longer side in pixels of the images that it takes; None where it takes any."""
        self.end2end = False  # upstream would look for a head of its own

    @property
    def num_parameters(self) -> int:
        """Numbers in its weights."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, images: Tensor) -> Tensor:
        """Return boxes and probabilities (N, 4 + K, A) for *images*.

        Images are (N, 3, H, W), RGB in 0..1. Boxes are centre and size in pixels of *images*; class probabilities are
        in 0..1, and 0 where no box is. Boxes may overlap: non-maximum suppression follows.
        """
        raise AssertionError(f"each kind of detector gives its boxes, asked for {len(images)} images")


def box_output(network: BoxNetwork) -> Callable[[Tensor], Tensor]:
    """Return the answer of *network* as a function, as ``inference.network_output`` does of a YOLO."""

    @torch.inference_mode()
    def run(images: Tensor) -> Tensor:
        found: Tensor = network(images)
        return found

    return run


def raw_output(corners: Tensor, probabilities: Tensor) -> Tensor:
    """Return boxes and probabilities as raw output (N, 4 + K, A).

    Boxes are x1, y1, x2, y2 (N, n, 4), probabilities (N, n, K).
    """
    centre, size = (corners[..., :2] + corners[..., 2:]) / 2, corners[..., 2:] - corners[..., :2]
    raw = torch.cat([centre, size, probabilities.clamp(0, 1)], -1).float().transpose(1, 2).nan_to_num()
    return pad(raw, (0, max(0, _FEWEST - raw.shape[-1])))


def one_hot(labels: Tensor, scores: Tensor, number: int) -> Tensor:
    """Return probabilities (..., n, K) of boxes of one class each.

    They are 0 where the label is none of *number* classes.
    """
    known = (labels >= 0) & (labels < number)
    found = scores.new_zeros(*scores.shape, number)
    return found.scatter(-1, labels.clamp(0, number - 1).long()[..., None], (scores * known)[..., None])


def fitted(
    images: Tensor, shape: tuple[int, int] | None, adapter: TeacherAdapter
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return *images* as a network takes them, and the way back for boxes.

    The way back moves corners (..., 4) to pixels of *images*. These are (N, 3, H, W), RGB in 0..1; the network takes
    (N, 3, *shape), or any size where that is None.
    """
    height, width = images.shape[-2:]
    x, (rows, columns), (top, left) = images, (1.0, 1.0), (0, 0)
    if shape is not None and shape != (height, width):
        rows, columns = shape[0] / height, shape[1] / width
        if adapter.resize == "letterbox":
            rows = columns = min(rows, columns)
        size = round(height * rows), round(width * columns)
        shrinks = min(rows, columns) < 1
        x = interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=shrinks)
        top, left = (shape[0] - size[0]) // 2, (shape[1] - size[1]) // 2
        x = pad(x, (left, shape[1] - size[1] - left, top, shape[0] - size[0] - top), value=_GREY)
    x = x.flip(1) if adapter.colours == "bgr" else x
    mean, std = (x.new_tensor(one)[:, None, None] for one in (adapter.mean, adapter.std))
    offset, scale = x.new_tensor([left, top, left, top]), x.new_tensor([columns, rows, columns, rows])
    return (x * adapter.largest - mean) / std, lambda corners: (corners - offset) / scale
