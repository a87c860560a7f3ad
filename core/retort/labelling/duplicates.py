"""Find copies of images, and by difference hash (Krawetz, 2013) similar ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retort import images as reader
from retort.data.copies import Alive, ImageViews, find_copies, find_duplicates
from retort.errors import DataError
from retort.files import sha256_of
from retort.spec import CopyKind

_SIDE = 16
"""The hash says for 16 x 16 places whether the image gets brighter to the right."""
SAME_BITS = 40
"""Of 256. Other images differ in 79 and more, also those of one microscope or one generator; copies that were
compressed, halved or brightened in 21 at most (measured on 364 images of blood cells and 200 scenes of digits)."""
SAME_LEVELS = 12.0
"""Mean difference of the 272 grey levels, of 255, each image's brightness taken out: even surfaces have no hash."""


@dataclass(frozen=True, slots=True)
class ImageHashes:
    """Perceptual hashes of images; unreadable ones are listed apart."""

    images: tuple[Path, ...]
    sizes: tuple[tuple[int, int], ...]
    """Width and height in pixels, turned as their cameras said."""
    thumbs: NDArray[np.float32]  # N H*(W+1)
    hashes: NDArray[np.uint64]  # N 4
    unreadable: tuple[Path, ...]


def hash_images(images: Sequence[Path], alive: Alive) -> ImageHashes:
    """Open *images* and return their perceptual hashes."""
    opened: list[tuple[Path, tuple[int, int], NDArray[np.float32]]] = []
    unreadable = []
    for image in images:
        alive()
        try:
            picture = reader.picture(image)
        except DataError:
            unreadable.append(image)
        else:
            grey = picture.convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.BOX)
            opened.append((image, picture.size, np.asarray(grey, dtype=np.float32)))
    thumbs = np.array([thumb for _, _, thumb in opened], dtype=np.float32).reshape(-1, _SIDE, _SIDE + 1)
    bits = np.packbits((thumbs[:, :, 1:] > thumbs[:, :, :-1]).reshape(len(thumbs), _SIDE * _SIDE), axis=1)
    flat = thumbs.reshape(len(thumbs), _SIDE * (_SIDE + 1))
    return ImageHashes(
        images=tuple(image for image, _, _ in opened),
        sizes=tuple(size for _, size, _ in opened),
        thumbs=flat - flat.mean(axis=1, keepdims=True),
        hashes=np.ascontiguousarray(bits).view(np.uint64),
        unreadable=tuple(unreadable),
    )


def nearest(looks: ImageHashes, others: ImageHashes, alive: Alive) -> dict[int, int]:
    """Pair each image of *looks* with a similar one of *others*.

    Images that look like none of them are left out; the numbers of both are returned.
    """
    return {row: found[0] for row in range(len(looks.images)) if (found := _same(looks, row, others, alive))}


def duplicates_of(looks: ImageHashes, among: Sequence[int], alive: Alive) -> dict[int, int]:
    """Pair images of *looks* with earlier ones that look like them.

    Only those *among* are compared; the numbers of both are returned.
    """
    copies: dict[int, int] = {}
    wanted = set(among)
    for row in among:
        earlier = [other for other in _same(looks, row, looks, alive, before=row) if other in wanted]
        first = next((other for other in earlier if other not in copies), None)
        if first is not None:
            copies[row] = first
    return copies


def like(views: ImageViews, others: ImageViews, kind: CopyKind, alive: Alive) -> dict[int, int]:
    """Pair images of *views* with those of *others* that they are copies of.

    What counts as a copy is the *kind*; the numbers of both are returned.
    """
    if kind == "off":
        return {}
    if kind == "identical":
        known = {sha256_of(image): number for number, image in reversed(list(enumerate(others.images)))}
        digests = enumerate(map(sha256_of, views.images))
        return {number: known[digest] for number, digest in digests if digest in known}
    found = find_copies(views, others, alive)
    if kind == "similar":
        found = nearest(hash_images(views.images, alive), hash_images(others.images, alive), alive) | found
    return found


def like_earlier(views: ImageViews, among: Sequence[int], kind: CopyKind, alive: Alive) -> dict[int, int]:
    """Pair images of *views* with earlier ones that they copy.

    Only those *among* are compared.
    """
    if kind == "off":
        return {}
    if kind == "identical":
        first: dict[str, int] = {}
        pairs = ((number, first.setdefault(sha256_of(views.images[number]), number)) for number in among)
        return {number: earlier for number, earlier in pairs if earlier != number}
    found = find_duplicates(views, among, alive)
    if kind == "similar":
        found |= duplicates_of(hash_images(views.images, alive), [one for one in among if one not in found], alive)
    return found


def _same(looks: ImageHashes, row: int, others: ImageHashes, alive: Alive, *, before: int | None = None) -> list[int]:
    """Return the numbers of those of *others*, up to *before*, that image *row* looks like."""
    alive()
    hashes, thumbs = others.hashes[:before], others.thumbs[:before]
    if not len(hashes):
        return []
    bits: Any = np.bitwise_count(hashes ^ looks.hashes[row]).sum(axis=1)
    near = np.flatnonzero(bits <= SAME_BITS)
    levels = np.abs(thumbs[near] - looks.thumbs[row]).mean(axis=1)
    return [int(number) for number in near[levels <= SAME_LEVELS]]
