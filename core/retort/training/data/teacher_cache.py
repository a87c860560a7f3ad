"""File format of cached teacher boxes, image by image."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np

from retort.errors import DataError
from retort.files import atomic_write

Array = np.ndarray[Any, Any]

FORMAT = "retort-teacher-cache-1"
"""Of the file; another layout, or another way to merge, gets another number."""
MOST_BOXES = 300
"""Boxes of an image, at most: the most certain ones."""
MOST_ROWS = 2**24 - 2
"""Boxes of a file, at most: whole numbers up to here have a float32 of their own, by which a box is known."""
_ARRAYS = ("images", "starts", "corners", "probabilities")


class BadCache(Exception):
    """Damaged cache file, or another cache than the wanted one."""


@dataclass(frozen=True, slots=True)
class CacheOrigin:
    """Origin of a cache, but for the images."""

    teacher: str
    """SHA-256 of its weights, in hex."""
    names: tuple[str, ...]
    """Its classes."""
    imgsz: int
    """Side of its square input in pixels."""
    views: tuple[str, ...]
    """How an image is looked at beside once as it is."""
    score_from: float
    """Boxes below it are left out."""
    software: str
    """Versions that shape the boxes."""

    def digest(self, images: Iterable[str]) -> str:
        """Return the cache digest for *images*, given by SHA-256 in any order."""
        about = {"format": FORMAT, **asdict(self), "images": sorted(set(images))}
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class CachedBoxes:
    """Cached boxes of a teacher on one image."""

    corners: Array
    """float32 (n, 4), x1 y1 x2 y2 as parts of the image's sides."""
    probabilities: Array
    """float16 (n, K), of the teacher's classes; the most certain box first."""

    @classmethod
    def empty(cls, num_classes: int) -> Self:
        """Return the boxes of an image in which nothing was seen."""
        return cls(np.zeros((0, 4), np.float32), np.zeros((0, num_classes), np.float16))

    def first(self, number: int) -> CachedBoxes:
        """Return the *number* most certain boxes."""
        return CachedBoxes(self.corners[:number], self.probabilities[:number])


@dataclass(frozen=True, eq=False)
class TeacherCache:
    """A teacher's boxes on a set of images."""

    origin: CacheOrigin
    images: Array
    """uint8 (N, 32), the SHA-256 of each image, in ascending order."""
    starts: Array
    """int64 (N + 1): the boxes of image i are the rows from ``starts[i]`` up to ``starts[i + 1]``."""
    corners: Array
    """float32 (M, 4), as in ``CachedBoxes``."""
    probabilities: Array
    """float16 (M, K)."""

    @classmethod
    def of(cls, origin: CacheOrigin, found: Mapping[str, CachedBoxes]) -> TeacherCache:
        """Join what was *found* on each image, by its SHA-256."""
        most = min(MOST_BOXES, MOST_ROWS // max(len(found), 1))
        ordered = [found[image].first(most) for image in sorted(found)]
        ordered_or_none = ordered or [CachedBoxes.empty(len(origin.names))]
        return cls(
            origin,
            np.array([list(bytes.fromhex(image)) for image in sorted(found)], np.uint8).reshape(-1, 32),
            np.cumsum([0, *(len(one.corners) for one in ordered)], dtype=np.int64),
            np.concatenate([one.corners for one in ordered_or_none]).astype(np.float32),
            np.concatenate([one.probabilities for one in ordered_or_none]).astype(np.float16),
        )

    @property
    def digest(self) -> str:
        """SHA-256 of what it comes from: teacher, input, views and images."""
        return self.origin.digest(bytes(image).hex() for image in self.images)

    def by_image(self) -> dict[str, CachedBoxes]:
        """Return the boxes of each image, by its SHA-256."""
        parts = [slice(int(begin), int(end)) for begin, end in pairwise(self.starts)]
        return {
            bytes(image).hex(): CachedBoxes(self.corners[part], self.probabilities[part])
            for image, part in zip(self.images, parts, strict=True)
        }

    def rows(self, images: Sequence[str]) -> list[range]:
        """Return the rows of each image, which is named by its SHA-256.

        Raises:
            DataError: the teacher has not seen one of them.

        """
        places = {bytes(image).hex(): place for place, image in enumerate(self.images)}
        if missing := sum(image not in places for image in images):
            raise DataError(
                f"the teacher was not asked ahead of time about {missing} of the {len(images)} images",
                hint="make its cache for the images that are trained on; docs/teacher-cache.md",
            )
        chosen = (places[image] for image in images)
        return [range(int(self.starts[place]), int(self.starts[place + 1])) for place in chosen]

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        held = {name: getattr(self, name) for name in _ARRAYS}
        header = {"format": FORMAT, "digest": self.digest, "content": _content(held), **asdict(self.origin)}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, header=np.array(json.dumps(header)), **held)
        atomic_write(path, buffer.getbuffer())

    @classmethod
    def load(cls, path: Path, digest: str | None = None) -> TeacherCache:
        """Read the file, which must have this *digest*; None takes any.

        Raises:
            BadCache: it is damaged, or another one.

        """
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                header, held = json.loads(str(file["header"])), {name: file[name] for name in _ARRAYS}
            if header["format"] != FORMAT:
                raise BadCache(f"it is of another format, {header['format']!r:.40}")
            origin = CacheOrigin(
                teacher=header["teacher"], names=tuple(header["names"]), imgsz=header["imgsz"],
                views=tuple(header["views"]), score_from=header["score_from"], software=header["software"],
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise BadCache(f"it cannot be read: {type(error).__name__}") from error
        found = cls(origin, **held)
        if header.get("content") != _content(held) or not found._is_sound():
            raise BadCache("its content is not what was written")
        if found.digest != header.get("digest") or digest not in {None, found.digest}:
            raise BadCache("it is of another teacher, other views or other images")
        return found

    def _is_sound(self) -> bool:
        """Whether the arrays fit each other."""
        shapes = (
            self.images.shape == (len(self.images), 32),
            self.starts.shape == (len(self.images) + 1,),
            self.corners.shape == (len(self.corners), 4),
            self.probabilities.shape == (len(self.corners), len(self.origin.names)),
        )
        return all(shapes) and bool((np.diff(self.starts, prepend=0, append=len(self.corners)) >= 0).all())


def _content(held: Mapping[str, Array]) -> str:
    """Digest the arrays with their types and shapes."""
    digest = hashlib.sha256()
    for name in _ARRAYS:
        digest.update(f"{name} {held[name].dtype} {held[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(held[name]).data)
    return digest.hexdigest()
