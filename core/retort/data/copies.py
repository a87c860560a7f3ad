"""Find copies of images: re-encoded, mirrored, turned, cropped, padded or brightened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retort import images
from retort.errors import DataError

Floats = NDArray[np.float32]
Alive = Callable[[], None]
"""Is called again and again: says that work gets on, and stops it where that is wished."""

SIDE = 96
"""Images are compared as squares of so many pixels, whatever their shape: what moves is seen at this size."""
FINE = 2 * SIDE
"""Side of the squares that are kept, so that parts of them can be compared too."""
_ALIGNED = SIDE // 2
"""Side of the squares by which a crop is laid over what it may be cut from."""
_DETAIL = 288
_SKETCH = 24
"""Side of the sketches by which whole images are looked up, and below of those of their parts."""
_PART = 12
_ALIKE = 0.8
"""Correlation of two sketches from which on a pair is looked at closely."""
_ALIKE_PART = 0.45
"""The same for parts, which lie a little aside of what was cut out."""
_CROPS = 4
"""Candidates from which an image may be cut out."""
_CLOSEST = 12
"""Candidates that are looked at for each image: a fixed camera makes all of its images candidates."""
_BLOCK = 8
_LEVELS = 6.0
"""Grey levels (of 255) by which a block may differ without a word: what JPEG and resizing leave."""
_UNLIKE = 0.6
"""Share of a block's contrast from which on a difference is another content."""
_FEW = 0.002
"""Share of the blocks that may be different in a copy: less than the smallest object that moves."""
_TEXTURED = 0.25
"""Share of the blocks of a crop that must show something: on plain ground, one object may be taken for another."""
_PADDING_LEVELS = 10
_LEAST_PADDING, _MOST_PADDING = 0.08, 0.75
"""Share of a side that padding takes."""
_NEARLY_WHOLE = 0.97
"""Share of the sides of an image from which on colours are compared: those of parts are kept too coarsely."""
_WHITE, _BLACK = 253, 4


class Look(NamedTuple):
    """Small square pictures of one image."""

    grey: NDArray[np.uint8]  # FINE FINE
    tint: NDArray[np.uint8]  # 2 SIDE SIDE: red less blue, green less both; 0 where unknown


@dataclass(frozen=True, slots=True)
class ImageViews:
    """Small pictures of images; unreadable ones are listed apart."""

    images: tuple[Path, ...]
    sizes: tuple[tuple[int, int], ...]
    """Width and height in pixels, turned as their cameras said."""
    looks: tuple[Look, ...]
    bare: dict[int, Look]
    """The same without even borders, of those images that have them."""
    unreadable: tuple[Path, ...]


def view_images(paths: Sequence[Path], alive: Alive) -> ImageViews:
    """Open the images at *paths* and return small pictures of them."""
    opened: list[tuple[Path, tuple[int, int], Look]] = []
    bare: dict[int, Look] = {}
    unreadable = []
    for image in paths:
        alive()
        try:
            size, colour = _opened(image)
        except DataError:
            unreadable.append(image)
            continue
        if (box := _content(np.asarray(colour))) is not None:
            bare[len(opened)] = _look(colour.crop(box))
        opened.append((image, size, _look(colour)))
    return ImageViews(
        images=tuple(image for image, *_ in opened),
        sizes=tuple(size for _, size, _ in opened),
        looks=tuple(look for *_, look in opened),
        bare=bare,
        unreadable=tuple(unreadable),
    )


def _opened(path: Path) -> tuple[tuple[int, int], Image.Image]:
    """Return the size of an image, and a picture of it that is at most a few hundred pixels long."""
    size, colour = images.preview(path, _DETAIL)
    return size, _smaller(colour)


def _smaller(colour: Image.Image) -> Image.Image:
    if max(colour.size) > _DETAIL:
        scale = _DETAIL / max(colour.size)
        width, height = (max(1, round(side * scale)) for side in colour.size)
        return colour.resize((width, height), Image.Resampling.BOX)
    return colour


def _look(colour: Image.Image) -> Look:
    planes = np.asarray(colour.resize((SIDE, SIDE), Image.Resampling.HAMMING), dtype=np.int16)
    red, green, blue = planes.transpose(2, 0, 1)
    tint = np.stack([(red - blue) // 2, (2 * green - red - blue) // 4]).clip(-127, 127) + 128
    tint[:, (planes.max(axis=-1) > _WHITE) | (planes.max(axis=-1) < _BLACK)] = 0
    return Look(_square(colour.convert("L")), tint.astype(np.uint8))


def _square(grey: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(
        grey.resize((FINE, FINE), Image.Resampling.BOX if min(grey.size) >= FINE else Image.Resampling.BILINEAR)
    )


def _coarse(pictures: NDArray[np.uint8], side: int = SIDE) -> Floats:
    """Return kept squares in a smaller size: half of it, or half of that, and so on."""
    small: Floats = pictures.reshape(-1, FINE, FINE).astype(np.float32)
    while small.shape[-1] > side:
        rows = small[:, ::2] + small[:, 1::2]
        small = (rows[..., ::2] + rows[..., 1::2]) * np.float32(0.25)
    return small


def _content(colours: NDArray[np.uint8]) -> tuple[int, int, int, int] | None:
    """Return the box inside of even borders, which letterboxes have; None where there are none, or nothing is left."""
    levels = colours.astype(np.int16)
    across = levels.transpose(1, 0, 2)
    edges = (_even(across), _even(levels), _even(across[::-1]), _even(levels[::-1]))
    left, top, right, bottom = (edge + 2 if edge else 0 for edge in edges)  # an edge is half padding
    height, width, _ = levels.shape
    share = max((left + right) / width, (top + bottom) / height)
    if not _LEAST_PADDING < share < _MOST_PADDING:
        return None
    return left, top, width - right, height - bottom


def _even(levels: NDArray[np.int16]) -> int:
    """Return how many rows from the first on have one colour."""
    apart = np.abs(levels - np.median(levels[0], axis=0)).max(axis=(1, 2)) > _PADDING_LEVELS
    means = levels.mean(axis=1)
    apart |= np.abs(means - means[0]).max(axis=1) > 1.5  # what gets brighter slowly is no padding
    return int(apart.argmax()) if apart.any() else 0


def find_copies(views: ImageViews, originals: ImageViews, alive: Alive, *, parts: bool = True) -> dict[int, int]:
    """Pair each image of *views* that is a copy with one of *originals*.

    The numbers of both are returned. With *parts*, crops of one from the other are found too.
    """
    if not len(views.images) or not len(originals.images):
        return {}
    found = dict(_plain_pairs(views, originals))
    for number, candidates in _lookup(_sketches(views.looks), _sketches(originals.looks), alive):
        if number not in found:
            alike = (c for c, turn in candidates if _is_same(views.looks[number], originals.looks[c], turn))
            if (match := next(alike, None)) is not None:
                found[number] = match
    found = dict(_unpadded(views, originals, alive)) | found
    found = {match: number for number, match in _unpadded(originals, views, alive)} | found
    if parts:
        rest = [number for number in range(len(views.images)) if number not in found]
        found.update(_crops(views, originals, rest, range(len(originals.images)), alive))
        rest = [number for number in rest if number not in found]
        for original, number in _crops(originals, views, range(len(originals.images)), rest, alive):
            found.setdefault(number, original)
    return found


def find_duplicates(views: ImageViews, among: Sequence[int], alive: Alive) -> dict[int, int]:
    """Pair images of *views* with earlier ones that they are copies of.

    Only those *among* are compared; crops count as images of their own.
    """
    looks = [views.looks[number] for number in among]
    plain = [number for number in among if _is_plain(views.looks[number])]
    copies = dict.fromkeys(plain[1:], plain[0]) if plain else {}
    sketches = _sketches(looks)
    for row, candidates in _lookup(sketches, sketches, alive, before=True):
        alive()
        for other, turn in candidates:
            if among[other] not in copies and _is_same(looks[row], looks[other], turn):
                copies[among[row]] = among[other]
                break
    return copies


def _unpadded(views: ImageViews, originals: ImageViews, alive: Alive) -> Iterator[tuple[int, int]]:
    """Pair padded views with the originals that lie inside their padding."""
    numbers = list(views.bare)
    bare = [views.bare[number] for number in numbers]
    for row, candidates in _lookup(_sketches(bare), _sketches(originals.looks), alive):
        alive()
        for candidate, turn in candidates[:3]:
            if _is_crop(bare[row], turn, originals.looks[candidate], _WHOLE, smallest=0.95, least=0):
                yield numbers[row], candidate
                break


def _is_same(one: Look, other: Look, turn: int) -> bool:
    """Return True where *one*, turned, shows what *other* shows."""
    grey, tint = _turned(_coarse(one.grey)[0], turn), _turned(one.tint, turn)
    return _alike(grey, tint, _coarse(other.grey)[0], other.tint, least=0)


def _alike(grey: Floats, tint: NDArray[Any], other_grey: Floats, other_tint: NDArray[Any], *, least: float) -> bool:
    """Compare brightness and colours of two aligned pictures; what is all white or black has lost its colours."""
    coloured = (np.stack([_blocks(tint[0]), _blocks(other_tint[0])]) > 0).all(axis=(0, -1))
    return _same(grey, other_grey, least=least) and all(
        _same(one, other, least=-1, where=coloured) for one, other in zip(tint, other_tint, strict=True)
    )


def _is_plain(look: Look) -> bool:
    return max(int(np.ptp(_coarse(look.grey))), int(np.ptp(look.tint))) < _PADDING_LEVELS


def _plain_pairs(views: ImageViews, originals: ImageViews) -> Iterator[tuple[int, int]]:
    """Pair images on which there is nothing."""
    other = next((number for number, look in enumerate(originals.looks) if _is_plain(look)), None)
    if other is not None:
        yield from ((number, other) for number, look in enumerate(views.looks) if _is_plain(look))


def _sketches(looks: Sequence[Look]) -> Floats:
    """Return brightness and colours of pictures as unit vectors, without their levels."""
    if not looks:
        return np.zeros((0, 3 * _SKETCH**2), np.float32)
    step = SIDE // _SKETCH
    grey = np.stack([_coarse(look.grey, _SKETCH).ravel() for look in looks])
    tint = np.stack([look.tint.reshape(2, _SKETCH, step, _SKETCH, step).mean(axis=(2, 4)).ravel() for look in looks])
    planes = [plane - plane.mean(axis=1, keepdims=True) for plane in (grey, tint)]
    return _units(np.concatenate(planes, axis=1))


def _units(vectors: Floats) -> Floats:
    level = vectors - vectors.mean(axis=-1, keepdims=True)
    length = np.linalg.norm(level, axis=-1, keepdims=True)
    return np.where(length > 1e-3 * level.shape[-1] ** 0.5, level / np.maximum(length, 1e-6), 0).astype(np.float32)


def _turned(picture: Any, turn: int) -> Any:
    """Return a square mirrored (from the fifth *turn* on) and turned by quarters."""
    return np.rot90(picture[..., ::-1] if turn >= 4 else picture, turn % 4, axes=(-2, -1))


def _lookup(
    sketches: Floats, others: Floats, alive: Alive, *, before: bool = False
) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Yield for each sketch the most alike of *others*, with the turn that makes them so.

    With *before*, only earlier ones count.
    """
    for start in range(0, len(sketches), 64):
        alive()
        part = sketches[start : start + 64].reshape(-1, 3, _SKETCH, _SKETCH)
        turned = np.stack([_turned(part, turn).reshape(len(part), -1) for turn in range(8)], axis=1)
        scores = (turned.reshape(-1, others.shape[1]) @ others.T).reshape(len(part), -1)  # row: turn, other
        for row, line in enumerate(scores):
            if before:
                line.reshape(8, -1)[:, start + row :] = -1
            near = np.flatnonzero(line >= _ALIKE)
            if len(near):
                best = near[np.argsort(-line[near], kind="stable")][:_CLOSEST]
                yield start + row, [(int(place % len(others)), int(place // len(others))) for place in best]


def _same(
    one: NDArray[Any], other: NDArray[Any], *, least: float, where: NDArray[np.bool_] | np.bool_ = np.True_
) -> bool:
    """Return True where no part of two aligned pictures shows another thing.

    At *least* that share of them must show something. Only the blocks *where* they can be compared count.

    Frames of a fixed camera have most of their blocks in common; in a copy all are. Blocks are compared after their
    brightness and contrast are fitted to each other, so that light and compression do not count.
    """
    first, second = _blocks(one.astype(np.float32)), _blocks(other.astype(np.float32))
    a, b = (blocks - blocks.mean(axis=-1, keepdims=True) for blocks in (first, second))
    power_a, power_b = (a * a).mean(axis=-1), (b * b).mean(axis=-1)
    gain = np.clip((a * b).mean(axis=-1) / np.maximum(power_b, 1e-3), 0.45, 2.2)
    apart = np.sqrt(((a - gain[..., None] * b) ** 2).mean(axis=-1))
    contrast = np.sqrt(np.maximum(power_a, power_b))
    usual = max(_LEVELS, 3 * float(np.median(apart)))
    other_content = (apart > usual) & (apart > _UNLIKE * contrast) & where
    return bool(other_content.mean() <= _FEW and (contrast > _LEVELS / 2).mean() > least)


def _blocks(picture: Floats) -> Floats:
    """Return overlapping blocks of a picture, each as a row."""
    windows = np.lib.stride_tricks.sliding_window_view(picture, (_BLOCK, _BLOCK))[:: _BLOCK // 2, :: _BLOCK // 2]
    return windows.reshape(*windows.shape[:2], -1).astype(np.float32)


_PARTS = tuple(
    (round(left / 10, 1), round(top / 10, 1), size / 10)
    for size in (9, 8, 7, 6, 5)
    for left in range(11 - size)
    for top in range(11 - size)
)
"""Left, top and side of the parts of an image by which crops are looked up, as shares."""

_WHOLE = (0.0, 0.0, 1.0)
_SCORES = 1 << 22
"""Scores that are computed together: one product of matrices is several times as fast as one for each image."""


@cache
def _averaging(start: float, size: float) -> Floats:
    """Return the matrix that averages a stretch of pixels into the columns of a sketch."""
    edges = np.linspace(start * SIDE, (start + size) * SIDE, _PART + 1)
    pixels = np.arange(SIDE)
    cover = np.minimum(pixels + 1, edges[1:, None]) - np.maximum(pixels, edges[:-1, None])
    cover = np.maximum(cover, 0)
    weights: Floats = (cover / cover.sum(axis=1, keepdims=True)).astype(np.float32)
    return weights


def _part_sketches(levels: Floats, parts: Sequence[tuple[float, float, float]]) -> Floats:
    """Return the sketch of each of the *parts* of each picture."""
    rows = {key: levels @ _averaging(*key).T for key in {(left, size) for left, _, size in parts}}
    found = [_averaging(top, size) @ rows[left, size] for left, top, size in parts]
    return _units(np.stack(found, axis=1).reshape(len(levels), len(parts), -1))


def _crops(
    views: ImageViews, wholes: ImageViews, wanted: Sequence[int], among: Sequence[int], alive: Alive
) -> Iterator[tuple[int, int]]:
    """Yield the *wanted* views that are crops, each with the one *among* the wholes that it was cut from."""
    if not len(among) or not len(wanted):
        return
    parts = np.concatenate([_part_sketches(_coarse(wholes.looks[number].grey), _PARTS) for number in among])
    table = parts.reshape(-1, _PART * _PART)
    for number, scores in _part_scores(views.looks, wanted, table, alive):
        look = views.looks[number]
        best = scores.max(axis=2)
        for place in np.argsort(-best, axis=None)[:_CROPS]:
            turn, row = divmod(int(place), len(among))
            part = _PARTS[int(scores[turn, row].argmax())]
            if best[turn, row] >= _ALIKE_PART and _is_crop(look, turn, wholes.looks[among[row]], part):
                yield number, among[row]
                break


def _part_scores(
    looks: Sequence[Look], wanted: Sequence[int], table: Floats, alive: Alive
) -> Iterator[tuple[int, Floats]]:
    """Yield how alike each turn of each *wanted* look is to each part."""
    together = max(1, _SCORES // (8 * len(table)))
    for start in range(0, len(wanted), together):
        alive()
        numbers = wanted[start : start + together]
        sketches = _part_sketches(np.concatenate([_coarse(looks[number].grey) for number in numbers]), (_WHOLE,))
        sketches = sketches.reshape(-1, _PART, _PART)
        turned = np.stack([_turned(sketches, turn).reshape(len(numbers), -1) for turn in range(8)], axis=1)
        scores = turned.reshape(-1, table.shape[1]) @ table.T
        yield from zip(numbers, scores.reshape(len(numbers), 8, -1, len(_PARTS)), strict=True)


def _is_crop(
    look: Look,
    turn: int,
    whole: Look,
    part: tuple[float, float, float],
    *,
    smallest: float = 0.4,
    least: float = _TEXTURED,
) -> bool:
    """Align a look, turned, with a part of *whole*, no smaller than *smallest*, and compare the two."""
    left, top, size = part
    box = np.array([left, top, left + size, top + size])
    aligned = _units(_turned(_coarse(look.grey, _ALIGNED)[0], turn).ravel())
    picture = Image.fromarray(whole.grey)
    best = _likeness(aligned, picture, box)
    step = 0.05
    while step > 0.003:
        improved = False
        for move in _MOVES:
            moved = np.clip(box + step * move, 0, 1)
            if min(moved[2] - moved[0], moved[3] - moved[1]) < smallest:
                continue
            score = _likeness(aligned, picture, moved)
            if score > best + 1e-5:
                box, best, improved = moved, score, True
        if not improved:
            if best < _ALIKE:  # copies are far above it once they lie about right
                return False
            step /= 2
    if best <= 0.9:
        return False
    target, cut = _turned(_coarse(look.grey)[0], turn), _cut(picture, box)
    if min(box[2] - box[0], box[3] - box[1]) < _NEARLY_WHOLE:
        return _same(target, cut, least=least)
    tint = np.stack([_cut(Image.fromarray(plane), box) for plane in whole.tint])
    return _alike(target, _turned(look.tint, turn), cut, tint, least=least)


_MOVES = np.array(
    [[1, 0, 1, 0], [-1, 0, -1, 0], [0, 1, 0, 1], [0, -1, 0, -1], [-1, -1, 1, 1], [1, 1, -1, -1],
     [1, 0, 0, 0], [-1, 0, 0, 0], [0, 1, 0, 0], [0, -1, 0, 0], [0, 0, 1, 0], [0, 0, -1, 0],
     [0, 0, 0, 1], [0, 0, 0, -1]],
    dtype=np.float32,
)  # fmt: skip
"""Of a box: to the sides, larger and smaller, and each edge alone."""


def _likeness(aligned: Floats, whole: Image.Image, box: NDArray[Any]) -> float:
    """Return the correlation of a unit vector of pixels with the part *box* of a picture."""
    return float(aligned @ _units(_cut(whole, box, _ALIGNED).ravel()))


def _cut(whole: Image.Image, box: NDArray[Any], side: int = SIDE) -> Floats:
    """Return the part *box* of a square picture, as large as the whole."""
    left, top, right, bottom = (float(edge) * whole.width for edge in box)
    cut = whole.resize((side, side), Image.Resampling.HAMMING, (left, top, right, bottom))
    return np.asarray(cut, dtype=np.float32)
