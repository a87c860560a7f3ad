"""Heatmaps over sample images: where student and teacher differ, as JPEG data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from retort.names import HEAD_LEVELS

FILE = "health.npz"
"""Artifact that a distilled training leaves."""
_SIDE = 300
_STOPS = np.array([[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]], dtype=np.float32)
"""Dark to bright through purple and orange, evenly in lightness, so that colour-blind people read it too."""
_KL_TOP = 2.0
"""Nats from which a KL map is at its brightest."""


@dataclass(frozen=True, slots=True)
class Heatmap:
    """One map over one image."""

    title: str
    uri: str
    caption: str


Row = tuple[Heatmap, ...]


def load(workdir: Path) -> dict[str, Any]:
    """Read the arrays of a distilled training; nothing where it left none."""
    path = workdir / "artifacts" / FILE
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as kept:
        return {name: kept[name] for name in kept.files}


def rows(arrays: Mapping[str, Any]) -> tuple[Row, ...]:
    """Draw each image: the teacher's confidence, the KL of the classes, and the feature cosine of each level."""
    return tuple(_row(arrays, index) for index in range(len(arrays.get("images", ()))))


def _row(arrays: Mapping[str, Any], index: int) -> Row:
    image = arrays["images"][index]
    seen = _joined(arrays, "confidence", index)
    found = [
        Heatmap("image", _uri(Image.fromarray(image).resize((_SIDE, _SIDE))), "as the networks see it"),
        Heatmap("teacher", overlay(image, seen), f"confidence up to {seen.max():.2f}"),
    ]
    if all(f"kl_{level}" in arrays for level in HEAD_LEVELS):
        kl = _joined(arrays, "kl", index)
        found.append(Heatmap("KL of classes", overlay(image, kl / _KL_TOP), f"up to {kl.max():.2f} nats"))
    for level in ("backbone", *HEAD_LEVELS):
        if f"cosine_{level}" in arrays:
            cosine = arrays[f"cosine_{level}"][index].astype(np.float32)
            found.append(Heatmap(f"cosine {level}", overlay(image, cosine), f"{cosine.mean():.2f} on average"))
    return tuple(found)


def _joined(arrays: Mapping[str, Any], name: str, index: int) -> np.ndarray:
    """Return the highest value of all levels at each cell of the finest: (h, w)."""
    maps = [arrays[f"{name}_{level}"][index].astype(np.float32) for level in HEAD_LEVELS]
    height, width = maps[0].shape
    scaled = [np.kron(m, np.ones((height // m.shape[0], width // m.shape[1]), np.float32)) for m in maps]
    joined: np.ndarray = np.maximum.reduce(scaled)
    return joined


def overlay(image: np.ndarray, values: np.ndarray) -> str:
    """Lay *values* (h, w), 0 dark to 1 bright, over a grey *image* (S, S, 3), as a data URI."""
    clipped = np.clip(values, 0, 1)
    map_ = Image.fromarray((clipped * 255).astype(np.uint8)).resize((_SIDE, _SIDE), Image.Resampling.NEAREST)
    position = np.asarray(map_, np.float32) / 255 * (len(_STOPS) - 1)
    color = np.stack([np.interp(position, np.arange(len(_STOPS)), _STOPS[:, channel]) for channel in range(3)], -1)
    grey = np.asarray(Image.fromarray(image).convert("L").resize((_SIDE, _SIDE)), np.float32)[..., None]
    mixed = 0.65 * color + 0.35 * grey
    return _uri(Image.fromarray(mixed.astype(np.uint8)))


def _uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=82, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
