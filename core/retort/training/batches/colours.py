"""Hue, saturation and value: as a table for OpenCV, or of a whole batch on the device that trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

KEY = "hsv"
"""Of a batch's gains, where its colours are still to be changed."""
_AT_ONCE = 16
"""Images: a change of colours takes a dozen times the memory of what it changes."""


def lookup_table(gains: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return what becomes of each hue, saturation and value under *gains* (3,), uint8 (1, 256, 3)."""
    x = np.arange(256, dtype=np.float64)
    table = np.empty((1, 256, 3), np.uint8)
    table[0, :, 0] = (x + gains[0] * 180) % 180
    table[0, :, 1] = np.clip(x * (gains[1] + 1), 0, 255)
    table[0, :, 2] = np.clip(x * (gains[2] + 1), 0, 255)
    table[0, 0, 1] = 0  # white stays white
    return table


def coloured(batch: dict[str, Any]) -> dict[str, Any]:
    """Change the colours of ``img`` (N, 3, H, W), RGB in 0..1, by the gains ``hsv`` (N, 3), if there are any."""
    gains = batch.pop(KEY, None)
    if gains is not None:
        images = batch["img"]
        pairs = zip(images.split(_AT_ONCE), gains.split(_AT_ONCE), strict=True)
        batch["img"] = torch.cat([recoloured(some, theirs) for some, theirs in pairs])
    return batch


def recoloured(images: Tensor, gains: Tensor) -> Tensor:
    """Return *images* (N, 3, H, W), RGB in 0..1, with hue, saturation and value changed by *gains* (N, 3) in -1..1.

    Hue is turned by its gain times a whole turn; saturation and value are multiplied by 1 + gain. In steps of bytes, as
    OpenCV does it: 180 hues, 256 saturations and values, rounded here and cut off there.
    """
    rgb = (images * 255).round()
    red, green, blue = rgb.unbind(1)  # N H W each
    value = rgb.amax(1)
    spread = value - rgb.amin(1)
    hue = torch.where(value == green, blue - red, red - green)
    hue = torch.where(value == red, green - blue, hue) / spread.clamp(min=1)
    hue += torch.where(value == red, 0, torch.where(value == green, 2, 4))
    hue = (hue * 30 + 0.5).floor()
    saturation = (255 * spread / value.clamp(min=1)).round()

    turn, more, brighter = gains[:, :, None, None].unbind(1)  # N 1 1 each
    hue = ((hue + turn * 180) % 180).floor() / 30  # 0..6
    saturation = (saturation * (1 + more)).clamp(0, 255).floor() / 255
    value = (value * (1 + brighter)).clamp(0, 255).floor()

    sector = (hue[:, None] + torch.tensor([5.0, 3.0, 1.0], device=hue.device)[None, :, None, None]) % 6  # N 3 H W
    share = torch.minimum(sector, 4 - sector).clamp(0, 1)
    return (value[:, None] * (1 - saturation[:, None] * share)).floor() / 255
