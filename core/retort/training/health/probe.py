"""The same few validation images in every epoch, so that curves of health compare across epochs and runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from retort.training.boxes import prepare

if TYPE_CHECKING:
    from torch import Tensor

MOST = 8
"""Images in the probe: enough for some hundred objects, and a few per cent of the time of a small epoch."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Letterboxed images without augmentation, with their labels."""

    images: Tensor
    """In 0..1, (N, 3, S, S)."""
    batch: dict[str, Any]
    """The images and their labels, as the task loss takes them."""

    @classmethod
    def of(cls, dataset: Any, *, imgsz: int, device: torch.device, most: int = MOST) -> Probe:
        """Take the first images of upstream's validation *dataset*, by name."""
        chosen = sorted(dataset.labels, key=lambda label: str(label["im_file"]))[:most]
        images, classes, boxes, owners = [], [], [], []
        for index, label in enumerate(chosen):
            pixels, shape = prepare(Path(label["im_file"]), imgsz)
            images.append(pixels)
            classes.append(torch.as_tensor(label["cls"], dtype=torch.float32).reshape(-1, 1))
            boxes.append(_fitted(label, shape, imgsz))
            owners.append(torch.full((len(boxes[-1]),), float(index)))
        pixels = torch.cat(images).to(device)
        batch = {"img": pixels, "cls": torch.cat(classes), "bboxes": torch.cat(boxes), "batch_idx": torch.cat(owners)}
        return cls(pixels, {name: value.to(device) for name, value in batch.items()})

    def corners(self) -> Tensor:
        """Return the labels' boxes as x1, y1, x2, y2 in pixels, (B, 4)."""
        centre, size = (self.batch["bboxes"] * self.images.shape[-1]).split(2, dim=-1)
        return torch.cat([centre - size / 2, centre + size / 2], -1)


def _fitted(label: Mapping[str, Any], shape: tuple[int, int], imgsz: int) -> Tensor:
    """Move normalised boxes (centre, size) with their image into the letterbox: (B, 4) to the same."""
    boxes = torch.as_tensor(label["bboxes"], dtype=torch.float32).reshape(-1, 4)
    height, width = shape
    scale = min(imgsz / height, imgsz / width)
    sides = torch.tensor([width, height, width, height]) * scale
    margins = torch.tensor([imgsz - width * scale, imgsz - height * scale, 0, 0]) / 2
    return (boxes * sides + margins) / imgsz
