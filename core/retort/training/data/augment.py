"""Ultralytics' default augmentation, drawn in the same order with less work."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from retort.training.ultralytics_api import ops

if TYPE_CHECKING:
    from torch import Tensor

KEY = "hsv"
"""Of a batch's gains, where its colours are still to be changed."""
_AT_ONCE = 16
"""Images: a change of colours takes a dozen times the memory of what it changes."""


def lookup_table(gains: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the HSV lookup table of *gains* (3,): uint8 (1, 256, 3).

    It says what becomes of each hue, saturation and value.
    """
    x = np.arange(256, dtype=np.float64)
    table = np.empty((1, 256, 3), np.uint8)
    table[0, :, 0] = (x + gains[0] * 180) % 180
    table[0, :, 1] = np.clip(x * (gains[1] + 1), 0, 255)
    table[0, :, 2] = np.clip(x * (gains[2] + 1), 0, 255)
    table[0, 0, 1] = 0  # white stays white
    return table


def coloured(batch: dict[str, Any]) -> dict[str, Any]:
    """Change the colours of ``img`` by the gains ``hsv``, if any.

    ``img`` (N, 3, H, W) is RGB in 0..1; ``hsv`` is (N, 3).
    """
    gains = batch.pop(KEY, None)
    if gains is not None:
        images = batch["img"]
        pairs = zip(images.split(_AT_ONCE), gains.split(_AT_ONCE), strict=True)
        batch["img"] = torch.cat([recoloured(some, teacher) for some, teacher in pairs])
    return batch


def recoloured(images: Tensor, gains: Tensor) -> Tensor:
    """Return *images* with hue, saturation and value changed by *gains*.

    *images* (N, 3, H, W) are RGB in 0..1; *gains* (N, 3) are in -1..1. Hue is turned by its gain times a whole turn;
    saturation and value are multiplied by 1 + gain. In steps of bytes, as OpenCV does it: 180 hues, 256 saturations and
    values, rounded here and cut off there.
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

    sector = (hue[:, None] + _sectors(hue.device)) % 6  # N 3 H W
    share = torch.minimum(sector, 4 - sector).clamp(0, 1)
    return (value[:, None] * (1 - saturation[:, None] * share)).floor() / 255


@cache
def _sectors(device: torch.device) -> Tensor:
    """Return where red, green and blue begin on the circle of hues: (1, 3, 1, 1).

    It is kept, because a copy to a GPU waits for it.
    """
    return torch.tensor([5.0, 3.0, 1.0], device=device)[None, :, None, None]


Image = np.ndarray[Any, Any]
Array = np.ndarray[Any, Any]
GREY = 114
STRIP = 32
"""Rows that are worked on at once."""
SUBPIXELS = 32
"""Steps that OpenCV divides a pixel into when it interpolates."""


@dataclass(frozen=True)
class Tile:
    """An image with its objects, before augmentation."""

    image: Image
    """uint8 (h, w, 3), BGR, the long side at the input size."""
    boxes: Array
    """float32 (n, 4), xyxy as parts of the image's width and height."""
    classes: Array
    """float32 (n, 1)"""


@dataclass(frozen=True)
class Scene:
    """Tiles laid out on a canvas; only the visible part is painted."""

    size: tuple[int, int]
    """Height and width of the canvas in pixels."""
    places: tuple[tuple[Image, int, int], ...]
    """Image parts with their left and top on the canvas."""
    boxes: Array
    """float32 (n, 4), xyxy in pixels of the canvas."""
    classes: Array


@dataclass(frozen=True)
class Augmentation:
    """Mosaic of four, scale and translation, HSV, flips, as upstream's hyperparameters say.

    Given the same random numbers, labels equal upstream's to the bit; pixels differ by one grey level where
    interpolation rounds the other way. `suits` says which hyperparameters it knows.
    """

    imgsz: int
    mosaic: float
    translate: float
    scale: float
    hsv: tuple[float, float, float]
    flipud: float
    fliplr: float
    bgr: float
    colours_later: bool = False
    """Whether the colours are left to who trains on the image; see `colours`."""

    @staticmethod
    def suits(hyp: Any) -> bool:
        """Return True if the hyperparameters ask only for augmentations computed here."""
        others = ("degrees", "shear", "perspective", "mixup", "cutmix")
        custom = getattr(hyp, "augmentations", None)
        one_scale = not isinstance(hyp.scale, list | tuple) and 0 <= hyp.scale < 1
        return one_scale and not custom and not any(getattr(hyp, name) for name in others)

    @classmethod
    def of(cls, hyp: Any, imgsz: int, *, colours_later: bool = False) -> Augmentation:
        """Build the augmentation from upstream's hyperparameters.

        A batch with images in BGR among others cannot be coloured later.
        """
        return cls(
            imgsz=imgsz, mosaic=hyp.mosaic, translate=hyp.translate, scale=hyp.scale,
            hsv=(hyp.hsv_h, hyp.hsv_s, hyp.hsv_v), flipud=hyp.flipud, fliplr=hyp.fliplr, bgr=hyp.bgr,
            colours_later=colours_later and not hyp.bgr,
        )  # fmt: skip

    def __call__(
        self, index: int, pool: Sequence[int], load: Callable[[int], Tile], *, draw: random.Random,
        draw_hsv: np.random.RandomState, out: Array,
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        """Augment image *index*, with a mosaic's others from *pool*, into *out*.

        Args:
            index: the image of this sample.
            pool: where a mosaic's other images are drawn from.
            load: returns the image of an index.
            draw: everything but colour is drawn from it, in upstream's order.
            draw_hsv: colour is drawn from it.
            out: uint8 (3, imgsz, imgsz), receives the image in RGB.

        Returns:
            Boxes, float32 (n, 4), xywh as parts of the image; classes, float32 (n, 1); and by how much hue, saturation
            and value change, float32 (3,) in -1..1, which is done already unless the colours are left for later.

        """
        size = self.imgsz
        scene = self._mosaic(index, pool, load, draw) if draw.uniform(0, 1) <= self.mosaic else _alone(load(index))
        matrix, scale = self._affine(scene.size, draw)
        boxes, classes = _move(scene, matrix, scale, size)
        for _ in ("mixup", "cutmix"):
            draw.uniform(0, 1)
        gains = draw_hsv.uniform(-1, 1, 3) * self.hsv if any(self.hsv) else np.zeros(3)
        table = lookup_table(gains) if any(self.hsv) and not self.colours_later else None
        upside_down, mirrored = draw.random() < self.flipud, draw.random() < self.fliplr
        rgb = draw.uniform(0, 1) > self.bgr
        _render(scene, matrix, out, table=table, rgb=rgb, upside_down=upside_down, mirrored=mirrored)
        boxes = ops.xyxy2xywh(boxes)
        if upside_down:
            boxes[:, 1] = size - boxes[:, 1]
        if mirrored:
            boxes[:, 0] = size - boxes[:, 0]
        return boxes / np.float32(size), classes, gains.astype(np.float32)

    def _mosaic(self, index: int, pool: Sequence[int], load: Callable[[int], Tile], draw: random.Random) -> Scene:
        size, border = self.imgsz, -self.imgsz // 2
        tiles = [load(i) for i in (index, *draw.choices(pool, k=3))]
        yc, xc = (int(draw.uniform(-border, 2 * size + border)) for _ in "yx")
        places, boxes = [], []
        for at, tile in enumerate(tiles):
            h, w = tile.image.shape[:2]
            left, top = xc - (0 if at % 2 else w), yc - (0 if at >= 2 else h)
            x, y = max(left, 0), max(top, 0)
            places.append((tile.image[y - top : 2 * size - top, x - left : 2 * size - left], x, y))
            boxes.append(_in_pixels(tile.boxes, w, h) + np.array([left, top, left, top], np.float32))
        corners = np.concatenate(boxes).clip(0, 2 * size)
        kept = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1]) > 0
        classes = np.concatenate([tile.classes for tile in tiles])
        return Scene((2 * size, 2 * size), tuple(places), corners[kept], classes[kept])

    def _affine(self, canvas: tuple[int, int], draw: random.Random) -> tuple[Array, float]:
        """Return the 3x3 matrix from canvas to output, float32, and its scale."""
        for _ in ("perspective", "perspective", "degrees"):  # all zero here, but drawn by upstream
            draw.uniform(0, 0)
        scale = draw.uniform(1 - self.scale, 1 + self.scale)
        for _ in ("shear", "shear"):
            draw.uniform(0, 0)
        move = [draw.uniform(0.5 - self.translate, 0.5 + self.translate) * self.imgsz for _ in "xy"]
        centre, stretch, shift = (np.eye(3, dtype=np.float32) for _ in range(3))
        centre[:2, 2] = -canvas[1] / 2, -canvas[0] / 2
        stretch[0, 0] = stretch[1, 1] = scale
        shift[:2, 2] = move
        return shift @ stretch @ centre, scale


def _in_pixels(boxes: Array, w: int, h: int) -> Array:
    return boxes * np.array([w, h, w, h], np.float32)


def _alone(tile: Tile) -> Scene:
    h, w = tile.image.shape[:2]
    return Scene((h, w), ((tile.image, 0, 0),), _in_pixels(tile.boxes, w, h), tile.classes)


def _move(scene: Scene, matrix: Array, scale: float, size: int) -> tuple[Array, Array]:
    """Move boxes with the image, clip them, and drop those of which too little is left."""
    before, n = scene.boxes, len(scene.boxes)
    if n == 0:
        return before, scene.classes
    corners = np.ones((n * 2, 3), np.float32)
    corners[:, :2] = before.reshape(n * 2, 2)
    after = (corners @ matrix.T)[:, :2].reshape(n, 4).clip(0, size)
    w1, h1 = _sides(before * np.float32(scale))
    w2, h2 = _sides(after)
    tiny = np.float32(1e-16)
    ratio = np.maximum(w2 / (h2 + tiny), h2 / (w2 + tiny))
    kept = (w2 > 2) & (h2 > 2) & (w2 * h2 / (w1 * h1 + tiny) > 0.1) & (ratio < 100)
    return after[kept], scene.classes[kept]


def _sides(boxes: Array) -> tuple[Array, Array]:
    return boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]


def _render(
    scene: Scene, matrix: Array, out: Array, *, table: Array | None, rgb: bool, upside_down: bool, mirrored: bool
) -> None:
    """Paint what the output shows of the scene into *out*, uint8 (3, size, size).

    Scale and translation alone keep rows and columns apart: two vectors of coordinates tell all, flips included. A
    strip of rows goes through all steps before the next one is begun, so that it stays in the processor's cache.
    """
    size = out.shape[1]
    x, first_x, width = _coordinates(matrix[0], size, scene.size[1], backwards=mirrored)
    y, first_y, height = _coordinates(matrix[1], size, scene.size[0], backwards=upside_down)
    canvas = np.full((height, width, 3), GREY, np.uint8)
    for image, left, top in scene.places:
        _paste(canvas, image, left - first_x, top - first_y)
    rows = min(STRIP, size)
    whole, part = np.empty((rows, size, 2), np.int16), np.empty((rows, size), np.uint16)
    bgr, hsv = (np.empty((rows, size, 3), np.uint8) for _ in range(2))
    whole[..., 0] = x // SUBPIXELS
    x_part, y_part = (x % SUBPIXELS).astype(np.uint16), (y % SUBPIXELS * SUBPIXELS).astype(np.uint16)
    y_whole = y // SUBPIXELS
    back = cv2.COLOR_HSV2RGB if rgb else cv2.COLOR_HSV2BGR
    planes = (2, 1, 0) if rgb and table is None else (0, 1, 2)
    for top in range(0, size, rows):
        n = min(rows, size - top)
        whole[:n, :, 1] = y_whole[top : top + n, None]
        np.add(x_part, y_part[top : top + n, None], out=part[:n])
        cv2.remap(canvas, whole[:n], part[:n], cv2.INTER_LINEAR, bgr[:n], cv2.BORDER_CONSTANT, (GREY,) * 4)
        if table is not None:
            cv2.cvtColor(bgr[:n], cv2.COLOR_BGR2HSV, hsv[:n])
            cv2.LUT(hsv[:n], table, hsv[:n])
            cv2.cvtColor(hsv[:n], back, bgr[:n])
        cv2.split(bgr[:n], [out[plane, top : top + n] for plane in planes])


def _coordinates(row: Array, size: int, length: int, *, backwards: bool) -> tuple[Array, int, int]:
    """Return each output pixel's place in the visible part of the canvas in subpixels, that part's start and length."""
    scale, shift = float(row[0] or row[1]), float(row[2])
    places = np.rint((np.arange(size) - shift) / scale * SUBPIXELS).astype(np.int32)
    first = max(int(places[0]) // SUBPIXELS, 0)
    last = min(int(places[-1]) // SUBPIXELS + 2, length)
    places = places - first * SUBPIXELS
    return (places[::-1] if backwards else places), first, max(last - first, 1)


def _paste(canvas: Image, image: Image, left: int, top: int) -> None:
    """Copy the part of *image* that lies on the canvas."""
    x, y = max(left, 0), max(top, 0)
    part = image[y - top : max(canvas.shape[0] - top, 0), x - left : max(canvas.shape[1] - left, 0)]
    if part.size:
        canvas[y : y + part.shape[0], x : x + part.shape[1]] = part
