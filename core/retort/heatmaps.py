"""Draw where student and teacher differ, as heatmaps over the images of the probe."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from retort.constants import Level

if TYPE_CHECKING:
    from PIL.Image import Image

KL_TOP = 2.0
"""Nats from which a KL map is at its brightest."""
_STOPS = np.array([[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]], dtype=np.float32)
"""Dark to bright through purple and orange, evenly in lightness, so that colour-blind people read it too."""
_TILE = 160
_HEADING = 18
"""Pixels above each column of a sheet, for its title."""
_INK = (40, 40, 40)


@dataclass(frozen=True, slots=True)
class MapTile:
    """One map over one image."""

    title: str
    picture: Image
    caption: str


def tiles(arrays: Mapping[str, Any], index: int, side: int) -> tuple[MapTile, ...]:
    """Draw image *index* and its maps, each *side* pixels wide.

    They show the teacher's confidence, the KL divergence of the classes, and the feature cosine of each level.
    *arrays* are those of ``health.npz``.
    """
    from PIL import Image

    image = arrays["images"][index]
    seen = _joined(arrays, "confidence", index)
    found = [
        MapTile("image", Image.fromarray(image).resize((side, side)), "as the networks see it"),
        MapTile("teacher", overlay(image, seen, side), f"confidence up to {seen.max():.2f}"),
    ]
    if _levels(arrays, "kl"):
        kl = _joined(arrays, "kl", index)
        found.append(MapTile("KL of classes", overlay(image, kl / KL_TOP, side), f"up to {kl.max():.2f} nats"))
    for level in _levels(arrays, "cosine"):
        cosine = arrays[f"cosine_{level}"][index].astype(np.float32)
        found.append(MapTile(f"cosine {level}", overlay(image, cosine, side), f"{cosine.mean():.2f} on average"))
    return tuple(found)


def overlay(image: np.ndarray, values: np.ndarray, side: int) -> Image:
    """Draw *values* over a grey *image*, *side* pixels wide.

    *values* is (h, w), from 0 dark to 1 bright, as is what is no number; *image* is (S, S, 3).
    """
    from PIL import Image

    clipped = np.clip(np.nan_to_num(values, nan=0.0), 0, 1)
    map_ = Image.fromarray((clipped * 255).astype(np.uint8)).resize((side, side), Image.Resampling.NEAREST)
    position = np.asarray(map_, np.float32) / 255 * (len(_STOPS) - 1)
    color = np.stack([np.interp(position, np.arange(len(_STOPS)), _STOPS[:, channel]) for channel in range(3)], -1)
    grey = np.asarray(Image.fromarray(image).convert("L").resize((side, side)), np.float32)[..., None]
    return Image.fromarray((0.65 * color + 0.35 * grey).astype(np.uint8))


def jpeg(picture: Image) -> bytes:
    """Return the bytes of a JPEG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=82, optimize=True)
    return buffer.getvalue()


def sheet(arrays: Mapping[str, Any]) -> Image:
    """Draw all images and their maps on one sheet, a row each."""
    from PIL import Image, ImageDraw

    rows = [tiles(arrays, index, _TILE) for index in range(len(arrays["images"]))]
    drawn = Image.new("RGB", (_TILE * len(rows[0]), _HEADING + _TILE * len(rows)), "white")
    pen = ImageDraw.Draw(drawn)
    for column, tile in enumerate(rows[0]):
        pen.text((column * _TILE + 4, 3), tile.title, fill=_INK)
    for number, row in enumerate(rows):
        for column, tile in enumerate(row):
            drawn.paste(tile.picture, (column * _TILE, _HEADING + number * _TILE))
    return drawn


def _levels(arrays: Mapping[str, Any], name: str) -> list[Level]:
    """List the levels of which *arrays* hold maps, from fine to coarse behind the backbone."""
    return [level for level in Level if f"{name}_{level}" in arrays]


def _joined(arrays: Mapping[str, Any], name: str, index: int) -> np.ndarray:
    """Return the highest value of all levels at each cell of the finest: (h, w)."""
    maps = [arrays[f"{name}_{level}"][index].astype(np.float32) for level in _levels(arrays, name)]
    height, width = maps[0].shape
    scaled = [np.kron(m, np.ones((height // m.shape[0], width // m.shape[1]), np.float32)) for m in maps]
    joined: np.ndarray = np.maximum.reduce(scaled)
    return joined
