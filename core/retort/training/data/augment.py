"""Ultralytics' default augmentation, drawn in the same order with less work."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from retort.training.data.colours import lookup_table
from retort.training.data.taught_boxes import is_taught
from retort.training.ultralytics_api import ops

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

    @property
    def colours_can_wait(self) -> bool:
        """Whether colours change, and in no batch with images in BGR among others."""
        return any(self.hsv) and not self.bgr

    @staticmethod
    def suits(hyp: Any) -> bool:
        """Return True if the hyperparameters ask only for augmentations computed here."""
        others = ("degrees", "shear", "perspective", "mixup", "cutmix")
        custom = getattr(hyp, "augmentations", None)
        one_scale = not isinstance(hyp.scale, list | tuple) and 0 <= hyp.scale < 1
        return one_scale and not custom and not any(getattr(hyp, name) for name in others)

    @classmethod
    def of(cls, hyp: Any, imgsz: int) -> Augmentation:
        """Build the augmentation from upstream's hyperparameters."""
        return cls(
            imgsz=imgsz, mosaic=hyp.mosaic, translate=hyp.translate, scale=hyp.scale,
            hsv=(hyp.hsv_h, hyp.hsv_s, hyp.hsv_v), flipud=hyp.flipud, fliplr=hyp.fliplr, bgr=hyp.bgr,
        )  # fmt: skip

    def __call__(
        self, index: int, pool: Sequence[int], load: Callable[[int], Tile], *, draw: random.Random,
        draw_hsv: np.random.RandomState, out: Array, colours_later: bool = False,
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        """Augment image *index*, with a mosaic's others from *pool*, into *out*.

        Args:
            index: the image of this sample.
            pool: where a mosaic's other images are drawn from.
            load: returns the image of an index.
            draw: everything but colour is drawn from it, in upstream's order.
            draw_hsv: colour is drawn from it.
            out: uint8 (3, imgsz, imgsz), receives the image in RGB.
            colours_later: leave the image's colours as they are.

        Returns:
            Boxes, float32 (n, 4), xywh as parts of the image; classes, float32 (n, 1); and the table that the colours
            change by, uint8 (1, 256, 3), which is done already unless it is left for later.

        """
        size = self.imgsz
        scene = self._mosaic(index, pool, load, draw) if draw.uniform(0, 1) <= self.mosaic else _alone(load(index))
        matrix, scale = self._affine(scene.size, draw)
        boxes, classes = _move(scene, matrix, scale, size)
        for _ in ("mixup", "cutmix"):
            draw.uniform(0, 1)
        gains = draw_hsv.uniform(-1, 1, 3) * self.hsv if any(self.hsv) else np.zeros(3)
        table = lookup_table(gains)
        upside_down, mirrored = draw.random() < self.flipud, draw.random() < self.fliplr
        rgb = draw.uniform(0, 1) > self.bgr
        now = table if any(self.hsv) and not colours_later else None
        _render(scene, matrix, out, table=now, rgb=rgb, upside_down=upside_down, mirrored=mirrored)
        boxes = ops.xyxy2xywh(boxes)
        if upside_down:
            boxes[:, 1] = size - boxes[:, 1]
        if mirrored:
            boxes[:, 0] = size - boxes[:, 0]
        return boxes / np.float32(size), classes, table

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
    after, taught = np.empty((n, 4), np.float32), is_taught(scene.classes[:, 0])
    for part in (taught, ~taught):  # apart, so that no sum of a label's depends on how many taught boxes there are
        after[part] = _transformed(before[part], matrix)
    after = after.clip(0, size)
    w1, h1 = _sides(before * np.float32(scale))
    w2, h2 = _sides(after)
    tiny = np.float32(1e-16)
    ratio = np.maximum(w2 / (h2 + tiny), h2 / (w2 + tiny))
    kept = (w2 > 2) & (h2 > 2) & (w2 * h2 / (w1 * h1 + tiny) > 0.1) & (ratio < 100)
    return after[kept], scene.classes[kept]


def _transformed(boxes: Array, matrix: Array) -> Array:
    corners = np.ones((len(boxes) * 2, 3), np.float32)
    corners[:, :2] = boxes.reshape(-1, 2)
    found: Array = (corners @ matrix.T)[:, :2].reshape(-1, 4)
    return found


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
